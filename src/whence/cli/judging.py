"""What to believe of data and model, and of a run's files: ``whence audit``, ``whence report`` and ``whence verify``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from whence.arguments import whole
from whence.cli.answers import answer, counted, full_path, on_terminal
from whence.cli.failures import interruptible
from whence.cli.options import METHODS, RUN, as_json, run_argument
from whence.errors import WhenceError

if TYPE_CHECKING:
    from whence.auditing import Audit
    from whence.reviewing import Review

__all__ = ["audit", "report", "verify"]


@click.command(epilog=RUN, short_help="Rank labels that should not be trusted, and say which groups help or harm.")
@run_argument
@click.option("--method", default="auto", show_default=True, help=f"Estimator of the influence on dev: {METHODS}.")
@click.option(
    "--show", default=10, show_default=True, help="How many suspected labels, and groups, to list; --json lists all."
)
@click.option(
    "--review",
    type=int,
    metavar="COUNT",
    help="Draw so many labels for people to look at, and write them to RUN/review.csv. From ten answers on each audit "
    "takes them into account: p(wrong) is calibrated, and the number of wrong labels has limits.",
)
@as_json
def audit(run: str, method: str, show: int, review: int | None, as_json: bool) -> None:
    """Rank labels that should not be trusted, suggest others, find memorized instances; of a run with groups (fit --group),
    say which groups help and which harm on dev. Everything is kept in RUN/audit.parquet and RUN/groups.parquet."""
    from whence.auditing import audit as judge
    from whence.groups import printable
    from whence.reporting.review_page import PAGE, begin_review
    from whence.review_files import FORM
    from whence.reviewing import FEWEST, classes_of
    from whence.run import open_run

    if show < 0:
        raise WhenceError("an option out of range", where="--show", got=show, expected="at least 0")
    opened = open_run(run)
    if review is not None:  # before the work
        whole(review, "--review", low=FEWEST)
        classes_of(opened.train)
    with interruptible(lambda: "finished blocks of scores are kept"):
        found = judge(opened, method=method, progress=on_terminal())
    if review is not None:
        drawn = found.to_review(review)
        begin_review(opened, drawn)
        found = replace(found, review=drawn)
    table = Path(run) / "audit.parquet"
    names = {"id": "name", "given": "given_label", "suggested": "suggested_label", "p_wrong": "p_wrong"}
    suspected = [
        {key: entry[name] for key, name in names.items()} for entry in found.table.take(found.issues).to_pylist()
    ]
    record: dict[str, Any] = {"audit": full_path(table), "counts": found.counts(), "method": found.method, "caveat": found.caveat,
              "expected_errors": found.expected_errors, "error_limits": None, "review": None, "suspected": suspected,
              "sources": None, "groups": None}  # fmt: skip
    counts = found.counts()
    kinds = f", {counts['memorized']:,} memorized, {counts['ambiguous']:,} ambiguous"
    lines = [f"{len(opened.train):,} training instances: {counted(counts['label_issue'], 'suspected label error')}"
             + (kinds if opened.task.kind == "classification" else ""),
             f"labels that are wrong, {_evidence(found)}"]  # fmt: skip
    lines += [f"caution: {found.caveat}"] if found.caveat else []
    if suspected[:show]:
        lines.append(f"{'id':<20} {'given':<16} {'suggested':<16} p(wrong)")
    for entry in suspected[:show]:
        name, given, suggested = (printable(entry[key]) for key in ("id", "given", "suggested"))
        lines.append(f"{name[:20]:<20} {given[:16]:<16} {suggested[:16]:<16} {entry['p_wrong']:.3f}")
    if 0 < show < len(suspected):
        lines.append(f"… and {len(suspected) - show:,} more in the table")
    if found.review is not None:
        form, page = Path(run) / FORM, Path(run) / PAGE
        record["review"] = {"table": full_path(form), "page": full_path(page), "drawn": len(found.review),
                            "looked_at": int(found.review.looked_at.sum())}  # fmt: skip
        lines += _review(found.review, form, page)
    if found.reviewed is not None:
        record["error_limits"] = [found.reviewed.low, found.reviewed.high]
    lines.append(f"audit: {table}")
    if found.sources is not None:
        groups, of_groups = Path(run) / "groups.parquet", found.group_table()
        assert of_groups is not None
        judged = {} if found.groups is None else found.groups.to_json() | {"groups": of_groups.to_pylist()}
        sources = found.sources.to_pylist()
        record |= {"sources": sources, "groups": judged or None, "groups_table": full_path(groups)}
        lines += _sources(sources, show)
        lines += ["groups: not judged, which takes a dev split"] if found.groups is None else found.groups.lines(show)
        lines.append(f"groups: {groups}")
    answer(as_json, record, lines)


def _evidence(found: Audit) -> str:
    """How many labels are wrong, and who says so."""
    told, errors = found.reviewed, f"{found.expected_errors:,.0f}"
    if told is None:
        return f"as far as this run can tell: {errors}"
    return f"told by {told.looked_at:,} that somebody looked at: {errors} ({told.low:,.0f} to {told.high:,.0f}, 95 %)"


def _review(review: Review, form: Path, page: Path) -> list[str]:
    """How far a review has come, and what to do about it."""
    from whence.reviewing import FEWEST

    looked_at, reach = int(review.looked_at.sum()), review.reach
    said = f"review: {looked_at:,} of {len(review):,} labels looked at"
    if reach > looked_at:
        said += f", {reach - looked_at:,} above the last left out: the limits hold if that has nothing to do with the labels"
    if looked_at == len(review):
        return [f"{said} ({form})"]
    if not (page.exists() and form.exists()):
        return [f"{said}: to go on, give --review {len(review)} again, which writes {page} and {form}"]
    few = f", {FEWEST} are needed" if looked_at < min(FEWEST, len(review)) else ""
    return [
        f"{said}{few}: open {page}, or fill in right_label in {form}; from the top, as many as you like; then audit again"
    ]


def _sources(sources: list[dict[str, Any]], show: int) -> list[str]:
    """Of groups, how many labels are wrong, as far as an audit can tell."""
    from whence.groups import printable

    lines = [f"{'group':<20} {'members':>9} {'suspected':>9}  wrong, expected"] if sources[:show] else []
    for entry in sources[:show]:
        wrong, members = entry["expected_errors"], entry["members"]
        lines.append(f"{printable(entry['name'])[:20]:<20} {members:>9,} {entry['suspected']:>9,}  "
                     f"{wrong:,.0f} ({wrong / members:.1%})")  # fmt: skip
    if 0 < show < len(sources):
        lines.append(f"… and {len(sources) - show:,} more groups in the table")
    return lines


@click.command(epilog=RUN, short_help="Write one HTML file with all that a run knows about its data.")
@run_argument
@click.option("--out", help="The HTML file; by default RUN/report.html.")
@click.option(
    "--targets",
    default="errors",
    show_default=True,
    help="Whose predictions to explain: a split, or errors: wrong predictions, or the largest errors of a regression.",
)
@click.option("--method", default="auto", show_default=True, help=f"Estimator of the explanations: {METHODS}.")
@click.option("--top", default=8, show_default=True, help="Helpful and harmful instances per prediction.")
@click.option(
    "--against",
    metavar="OTHER",
    help="Another run, of another seed, model or data: compare the two, in place of a report of one. Written to "
    "RUN/against-OTHER.html; scores and audits are kept in both.",
)
@as_json
def report(run: str, out: str | None, targets: str, method: str, top: int, against: str | None, as_json: bool) -> None:
    """Write one HTML file that opens offline: how far scores can be trusted, suspected labels, memorized instances, which groups
    help and harm on dev (of a run with groups), and predictions with the training instances behind them. With --against, what
    separates two runs: which predicts better, what changed, and whether both say the same."""
    from whence.reporting import report as write
    from whence.run import open_run

    opened = open_run(run)
    other = None if against is None else open_run(against)
    with interruptible(lambda: "finished blocks of scores are kept"):
        path = write(opened, out, targets=targets, method=method, top=top, against=other, progress=on_terminal())
    answer(as_json, {"report": full_path(path)}, [f"report: {path}"])


@click.command(epilog=RUN, short_help="Check masks, weights, data, and a sample of all scores of a run.")
@run_argument
@click.option("--rows", default=16, show_default=True, help="Rows of each set of scores that are scored anew.")
@as_json
def verify(run: str, rows: int, as_json: bool) -> None:
    """Check that masks are the same here as everywhere, that weights and data are those of the run, and that scores are whole,
    are this run's, and come out the same when a sample of their rows is scored anew. Nothing is written; the exit code is 1
    if something differs."""
    from whence.verifying import verify as look

    checks = look(run, rows=rows)
    differ = [check.what for check in checks if check.state == "differs"]
    last = f"{len(checks)} checks: " + (f"{', '.join(differ)} not as they should be" if differ else "nothing differs")
    skipped = sum(check.state == "skipped" for check in checks)
    last += f", {skipped} could not be told" if skipped else ""
    record = {"run": full_path(run), "differs": differ, "checks": [vars(check) for check in checks]}
    answer(as_json, record, [*(check.line() for check in checks), last])
    if differ:
        sys.exit(1)
