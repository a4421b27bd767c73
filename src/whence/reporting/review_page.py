"""A review for people: a table to fill in, and a page that does it for them. No suggestion is shown, which would lead who looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import WhenceError
from whence.fingerprints import digest
from whence.reporting.cards import Gallery
from whence.reporting.headings import run_name
from whence.reporting.pictures import Album
from whence.reporting.render import page
from whence.review_files import FORM, put_review, read_review
from whence.reviewing import FEWEST, NO_CLASS, OPEN, Review, classes_of, of_labels
from whence.run import Run
from whence.whole_files import write_aside

__all__ = ["PAGE", "begin_review"]

PAGE = "review.html"

_SCRIPTS = ("instances.js", "csv.js", "review.js")
_SIDE = 224  # of a picture at most, pixels


@dataclass(frozen=True)
class Form:
    """What the page says.

    Attributes:
        name: of the run; count: of labels to look at; form: the file that is saved.
        data: the page's data: instances, features, sheets, review (record, answer or ""), classes, none (the answer where no class
            is right), key (under which a browser keeps answers, begun from those of the table).
    """

    name: str
    count: int
    form: str
    data: dict[str, Any]


def begin_review(run: Run, review: Review) -> Path:
    """Write what people look at into the run's directory: review.csv, and review.html, which is returned.

    Raises:
        WhenceError: a run in memory.
    """
    if run.directory is None:
        raise WhenceError("a run in memory", where="a review", expected="a run with a directory",
                          mend="Use Review.table() and Review.answered().")  # fmt: skip
    with run.in_use():
        now = read_review(run.directory, run.train)
        if now is not None and np.array_equal(now.order, review.order):  # answers that were given since it was read
            review, answers = review.extended(max(len(now), FEWEST)), now.extended(max(len(review), FEWEST)).answers
            review = replace(review, answers=np.where(answers == OPEN, review.answers, answers))
        put_review(run.directory, review)
        path = run.directory.place(PAGE)
        with write_aside(path, parents=False) as aside:
            aside.write_text(_page(run, review), encoding="utf-8")
    return path


def _page(run: Run, review: Review) -> str:
    """The page as text that UTF-8 can hold."""
    gallery = Gallery(run, album=Album(largest_side=_SIDE))
    written = {number: label for label, number in review.known().items()}
    asked = [
        {"i": gallery.train(int(row)), "answer": "" if answer == OPEN else written[answer]}
        for row, answer in zip(review.rows, review.answers.tolist(), strict=True)
    ]
    data = {
        "instances": gallery.records,
        "features": gallery.feature_names(),
        "sheets": gallery.album.sheets(),
        "review": asked,
        "classes": list(classes_of(review.train)),
        "none": NO_CLASS,
        "key": digest(of_labels(review.train), review.rows.tolist(), review.answers.tolist()),
    }
    name = run_name(run)
    return page("review.html.j2", _SCRIPTS, Form(name, len(review), FORM, data), f"review of {name}")
