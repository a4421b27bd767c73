"""The page of two runs."""

from __future__ import annotations

from whence.comparison import Comparison
from whence.reporting.compared import gather_comparison
from whence.reporting.histogram import histogram
from whence.reporting.intervals import interval_chart
from whence.reporting.render import both, page

__all__ = ["render_comparison"]

_SCRIPTS = (
    "instances.js",
    "cards.js",
    "tables.js",
    "lists.js",
    "csv.js",
    "links.js",
    "keys.js",
    "comparison.js",
    "navigation.js",
)


def render_comparison(comparison: Comparison) -> str:
    """The page as text that UTF-8 can hold."""
    content = gather_comparison(comparison)
    sides = f"{content.names[1]} better", f"{content.names[0]} better"
    correlations = comparison.rankings.per_target
    return page(
        "comparison.html.j2",
        _SCRIPTS,
        content,
        f"{content.names[0]} against {content.names[1]}",
        findings=content.findings,
        class_charts=both(
            lambda width: interval_chart(content.class_estimates, "difference in recall (points)", width, sides)
        ),
        score_charts=both(
            lambda width: histogram(correlations, "Spearman correlation of the scores", "instances explained", width)
        ),
    )
