"""From the content of a report to one HTML page that needs nothing else and lets nothing else in.

The page holds user text in two ways only: through Jinja2's autoescape, and in a JSON data block whose
characters cannot end it. Its Content-Security-Policy allows one script and one style, named by their hashes,
and pictures as data URIs; no text can become markup or script, in whatever way a browser is asked to make it so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from whence.reporting import figures
from whence.reporting.charts import exposure_chart
from whence.reporting.findings import findings
from whence.reporting.gather import Content

__all__ = ["island", "render"]

_WIDE, _NARROW = 720, 360  # pixels of the two drawings of a chart
_SCRIPTS = ("instances.js", "cards.js", "page.js")
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def render(content: Content) -> str:
    """The page as text that UTF-8 can hold."""
    style, script = _template("report.css"), _script()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    environment.filters.update(
        percent=figures.percent,
        significant=figures.significant,
        signed=figures.signed,
        count=figures.count,
        title_text=figures.plain_title,
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return environment.from_string(_template("report.html.j2")).render(
        c=content,
        findings=findings(content.trust, content.caveat),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        island=Markup(island(content.data)),
        wide=exposure_chart(content.history, content.loss_unit, _WIDE),
        narrow=exposure_chart(content.history, content.loss_unit, _NARROW),
    )


def island(data: Any) -> str:
    """JSON in ASCII that cannot end the script element it stands in; lone surrogates stay, escaped."""
    written = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _ESCAPES[found[0]], written)


def _script() -> str:
    """The parts as one script with a scope of its own."""
    return '"use strict";\n(() => {\n' + "\n".join(_template(name) for name in _SCRIPTS) + "})();\n"


def _template(name: str) -> str:
    text = (resources.files("whence.reporting") / "templates" / name).read_text(encoding="utf-8")
    # Browsers hash a script after they have turned CRLF, which a checkout may have, into LF.
    return text.replace("\r\n", "\n")


def _hash(inline: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(inline.encode("utf-8")).digest()).decode("ascii")


def _finalize(value: Any) -> Any:
    return figures.clean(value) if type(value) is str else value
