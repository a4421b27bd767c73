"""Every number of the comparison with other libraries is one that a benchmark has measured."""

from __future__ import annotations

import json
import re
from statistics import mean, stdev

from tests.docs.execution import DOCS, ROOT

PEERS = json.loads((ROOT / "benchmarks" / "results" / "peers.json").read_text(encoding="utf-8"))
PAGE = (DOCS / "comparison.md").read_text(encoding="utf-8")
ROWS = {  # how the page calls a method: its name in the results for each setting
    "**`kronecker`, one run**": ("whence kronecker",) * 2,
    "**`kronecker`, five runs**": ("whence kronecker ×5",) * 2,
    "`kernel`": ("whence kernel",) * 2,
    "`first_order`": ("whence first_order",) * 2,
    "`turnover`, published": ("whence turnover",) * 2,
    "EK-FAC (kronfluence), default damping": ("EK-FAC (kronfluence), 1e-08 (default)",) * 2,
    "EK-FAC (kronfluence), tuned": ("EK-FAC (kronfluence), 1e-04, best on truth",) * 2,
    "TRAK (traker), no ridge": ("TRAK (traker, 1,024 dimensions), 0.0 (default)",) * 2,
    "TRAK (traker), tuned": ("TRAK (traker, 1,024 dimensions), 1.0, best on truth",) * 2,
    "TRAK (traker), 10 models, tuned": ("TRAK (traker, 1,024 dimensions, ridge 1) ×10", None),
    "TRAK's formula without projection, tuned": ("TRAK unprojected, 3.0, best on truth", "TRAK unprojected, 1.0, best on truth"),
    "TRAK's formula, 10 models, tuned": ("TRAK unprojected ×10, 3.0, best on truth", "TRAK unprojected ×10, 1.0, best on truth"),
    "influence by conjugate gradients (dattri), no damping": ("IF-CG (dattri), 30 targets, 0.0 (default)", None),
    "influence by conjugate gradients (dattri), tuned": ("IF-CG (dattri), 30 targets, 0.1, best on truth", None),
    "TracInCP (captum)": ("TracInCP (captum)", None),
    "TracInCPFast (captum)": ("TracInCPFast (captum)",) * 2,
    "gradient product": ("grad-dot",) * 2,
    "input similarity, no model": ("input similarity",) * 2,
}  # fmt: skip


def cells(setting: str, name: str | None) -> list[str]:
    """LDS, seconds and MiB as the page writes them."""
    if name is None:
        return ["", "", ""]
    row = PEERS["instances"][setting][name]
    value = short(mean(row["lds"]))
    value += f" ± {short(stdev(row['lds']))}" if len(row["lds"]) > 1 else ""
    value += "" if len(row["lds"]) == 5 else f" ({len(row['lds'])})"
    seconds = mean(row["seconds"])
    return [value, f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}", f"{row['peak_mib']:,.0f}"]


def short(value: float) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}").replace("-", "−")


def table() -> str:
    lines = []
    for shown, names in ROWS.items():
        found = [cell for setting, name in zip("AC", names, strict=True) for cell in cells(setting, name)]
        lines.append(f"| {shown} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def test_the_table_is_what_was_measured():
    assert table() in PAGE


def test_the_other_tables_are_those_of_the_pages_they_name():
    """Rows that are repeated from other pages are the same there."""
    others = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("label_errors.md", "estimators.md"))
    wanted = re.findall(r"^\| (?:Fashion|CIFAR|MNIST|SST|AG |product|IMDB)[^\n]*$", PAGE, re.M)
    assert len(wanted) >= 10
    for row in wanted:
        name, *values = [cell.strip() for cell in row.strip("|").split("|")]
        candidates = [line for line in others.splitlines() if line.startswith(f"| {name} |")]
        assert any(all(value.strip("*") in line for value in values) for line in candidates), row
