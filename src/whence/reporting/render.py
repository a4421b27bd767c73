"""From the content of a report, of one run or two, to one HTML page that needs nothing else and lets nothing else in.

The page holds user text in two ways only: through Jinja2's autoescape, and in a JSON data block whose
characters cannot end it. Its Content-Security-Policy allows one script and one style, named by their hashes,
and pictures as data URIs; no text can become markup or script, in whatever way a browser is asked to make it so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from whence.reporting import figures
from whence.reporting.charts import exposure_chart
from whence.reporting.cleansings import Cleansings
from whence.reporting.findings import Finding, findings
from whence.reporting.gather import Content
from whence.reporting.group_table import interval_rows
from whence.reporting.intervals import interval_chart

__all__ = ["both", "island", "page", "render"]

_WIDE, _NARROW = 720, 360  # pixels of the two drawings of a chart
_MULTIPLE = 320  # of one that stands beside others like it, in a window, and alone on a phone
_REPORT = (
    "instances.js",
    "cards.js",
    "tables.js",
    "instance_table.js",
    "moves.js",
    "lists.js",
    "csv.js",
    "links.js",
    "keys.js",
    "page.js",
    "navigation.js",
)
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def render(content: Content) -> str:
    """The page as text that UTF-8 can hold."""
    return page(
        "report.html.j2",
        _REPORT,
        content,
        content.name,
        findings=_findings(content),
        wide=exposure_chart(content.history, content.loss_unit, _WIDE),
        narrow=exposure_chart(content.history, content.loss_unit, _NARROW),
        group_charts=both(lambda width: group_chart(content, width)),
        cleansing_charts=cleansing_charts(content.cleansings),
    )


def _findings(content: Content) -> list[Finding]:
    left_out = content.cleansings.left_out
    return findings(content.trust, content.caveat) + ([] if left_out is None else [left_out])


def page(template: str, scripts: Sequence[str], content: Any, title: str, **context: Any) -> str:
    """A page of a template, with its data, the style and the scripts in it."""
    style, script = _template("report.css"), _script(scripts)
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(
        percent=figures.percent,
        points=figures.points,
        significant=figures.significant,
        signed=figures.signed,
        count=figures.count,
        title_text=figures.plain_title,
        percent_encoded=lambda text: quote(text, safe=""),
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return environment.get_template(template).render(
        c=content,
        title=title,
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        island=Markup(island(content.data)),
        **context,
    )


def both(chart: Callable[[int], Markup | None]) -> list[Markup | None]:
    """The two drawings of a chart, for a window and for a phone."""
    return [chart(width) for width in (_WIDE, _NARROW)]


def group_chart(content: Content, width: int) -> Markup | None:
    """The effects of groups with their intervals; None where they were not judged."""
    rows = interval_rows(content.groups, content.group_factor)
    return interval_chart(rows, f"effect on dev ({content.group_unit})", width, ("harms", "helps"))


def cleansing_charts(cleansings: Cleansings) -> list[list[Markup | None]]:
    """Of each cleansing, the differences of each measure with their intervals."""
    return [
        [interval_chart(chart.estimates, chart.axis, _MULTIPLE, chart.sides, chart.confidence) for chart in one.charts]
        for one in cleansings.experiments
    ]


def island(data: Any) -> str:
    """JSON in ASCII that cannot end the script element it stands in; lone surrogates stay, escaped."""
    written = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _ESCAPES[found[0]], written)


def _script(names: Sequence[str]) -> str:
    """The parts as one script with a scope of its own."""
    return '"use strict";\n(() => {\n' + "\n".join(map(_template, names)) + "})();\n"


def _template(name: str) -> str:
    text = (resources.files("whence.reporting") / "templates" / name).read_text(encoding="utf-8")
    # Browsers hash a script after they have turned CRLF, which a checkout may have, into LF.
    return text.replace("\r\n", "\n")


def _hash(inline: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode("utf-8")).digest()).decode("ascii")


def _finalize(value: Any) -> Any:
    return figures.clean(value) if type(value) is str else value
