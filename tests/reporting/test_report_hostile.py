"""Hostile names, labels and texts in a browser: nothing runs, nothing is sent, and the exported table is safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reporting.conftest import exported, numbers, texts, trained
from whence.data import Classification
from whence.data.inputs import TextInputs
from whence.reporting import report

pytestmark = pytest.mark.browser

NAMES = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "=cmd|' /C calc'!A0", "-7", "+49 171 1", "-1e5", '"=1"',
         "<img src=x onerror=window.hacked=1>", "</script><script>window.hacked=1</script>", "a\u2028b\u2029c", "\ud800x", "\udfff",
         "\u202egnp.exe", "nul\x00l", "'=1", "javascript:window.hacked=1", "--><!--", "{{7*7}}", "${window.hacked=1}", "a,b;c", "\x1b[2J"]  # fmt: skip
CLASSES = ('=HYPERLINK("http://127.0.0.1")', "</script><svg onload=window.hacked=1>")
DANGEROUS = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def exported_of(browser: Any, kind: str) -> list[list[str]]:
    """The rows that the button gives for instances of a kind, as a spreadsheet reads them."""
    browser.execute_script(
        """
        const kind = document.querySelector('[data-list=audited] [data-kind="' + arguments[0] + '"]');
        if (kind) kind.click();
        document.querySelector("[data-none]").click();
        """,
        kind,
    )
    text = exported(browser).replace("\0", "\ufffd")  # which Python reads since 3.11 only
    return list(csv.reader(io.StringIO(text, newline="")))


def assert_safe(rows: list[list[str]], wordy: set[str]) -> None:
    """No cell is a formula, and columns of numbers are numbers."""
    header, *body = rows
    assert body and all(len(row) == len(header) for row in body)
    for row in body:
        for name, value in zip(header, row, strict=True):
            if name in wordy:
                assert not DANGEROUS.match(value) or NUMBER.fullmatch(value), (name, value)
            else:
                assert value == "" or np.isfinite(float(value)), (name, value)


def plain(name: str) -> str:
    """A name as ``exported_of`` has it: lone surrogates are not to be had in UTF-8."""
    return name.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def test_hostile_names_and_labels(browser: Any, tmp_path: Path) -> None:
    """Every name is of an instance whose label is wrong, so that it is shown and exported."""
    data = texts()
    assert data.texts is not None and data.names is not None
    train = np.flatnonzero(data.splits == "train")[10 : 10 + len(NAMES)]
    names, written, labels = data.names.copy(), data.texts.copy(), data.targets.copy()
    names[train], labels[train] = NAMES, 1 - labels[train]
    written[train] = [f"{name} {text}" for name, text in zip(NAMES, written[train], strict=True)]
    groups = np.arange(len(data)) % 3
    run = trained(replace(data, names=names, texts=written, inputs=TextInputs(written), targets=labels, task=Classification(CLASSES), groups=groups,
                          group_names=np.array(NAMES[:3], dtype=object)[groups]), epochs=10, learning_rate=2e-3)  # fmt: skip
    browser.get(report(run, tmp_path / "r.html").as_uri())
    assert browser.get_log("browser") == []
    rows = exported_of(browser, "label_issue")
    assert_safe(rows, {"id", "given_label", "suggested_label", "kind"})
    ids = [row[0] for row in rows[1:]]
    known = {plain(name) for name in NAMES}
    found = {value for value in ids if value in known or (value[:1] == "'" and value[1:] in known)}
    assert len(found) > len(NAMES) // 2, ids
    for value in found & known:  # not marked: text that is no formula, or a number
        assert not DANGEROUS.match(value) or NUMBER.fullmatch(value)
    assert {row[1] for row in rows[1:]} <= {"'" + CLASSES[0], CLASSES[1]}
    assert browser.execute_script("return window.hacked") is None
    assert (
        browser.execute_script("return document.querySelectorAll('img, svg[onload], script:not([type])').length") == 1
    )  # the page's own


def test_values_that_are_negative_stay_numbers(browser: Any, tmp_path: Path) -> None:
    data = numbers()
    names = np.array([str(-row) for row in range(len(data))], dtype=object)
    task = replace(data.task, mean=-100.0)
    run = trained(replace(data, names=names, task=task), epochs=60)
    browser.get(report(run, tmp_path / "r.html").as_uri())
    rows = exported_of(browser, "label_issue")
    assert_safe(rows, {"kind"})
    assert all(float(row[1]) < 0 for row in rows[1:])


def test_the_policy_holds(browser: Any, tmp_path: Path) -> None:
    """Whatever got in, it could not run, become markup, or send anything."""
    browser.get(report(trained(numbers()), tmp_path / "r.html").as_uri())
    refused = browser.execute_script(
        """
        const tried = (call) => { try { call(); return "done"; } catch (error) { return error.name; } };
        const script = document.createElement("script");
        return [
          tried(() => { document.body.innerHTML = "<b>x</b>"; }),
          tried(() => { script.textContent = "window.hacked = 1"; document.body.append(script); }),
          tried(() => setTimeout("window.hacked = 1", 0)),
          tried(() => document.write("<b>x</b>")),
          tried(() => new DOMParser().parseFromString("<b>x</b>", "text/html")),
        ];
        """
    )
    assert "done" not in refused, refused
    broken = browser.execute_async_script(
        """
        const done = arguments[0], broken = new Set();
        document.addEventListener("securitypolicyviolation", (event) => broken.add(event.effectiveDirective));
        fetch("http://127.0.0.1:9/").catch(() => {});
        const picture = new Image(); picture.src = "http://127.0.0.1:9/x.png"; document.body.append(picture);
        const frame = document.createElement("iframe"); frame.src = "http://127.0.0.1:9/"; document.body.append(frame);
        const link = document.createElement("link"); link.rel = "stylesheet"; link.href = "http://127.0.0.1:9/x.css"; document.head.append(link);
        const style = document.createElement("style"); style.textContent = "body { color: red }"; document.head.append(style);
        const base = document.createElement("base"); base.href = "http://127.0.0.1:9/"; document.head.append(base);
        setTimeout(() => done([...broken].sort()), 400);
        """
    )
    assert {"base-uri", "connect-src", "frame-src", "img-src", "style-src-elem"} <= set(broken)
    assert browser.execute_script("return window.hacked") is None
