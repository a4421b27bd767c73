"""How quickly a report with thousands of training rows opens in a browser.

    python -m benchmarks.report_load [--rows 10000] [--repeats 5] [--kinds pictures,texts]

Trains for one epoch on random pictures (28×28 gray, or 32×32 in color with --color) or on random texts of 40 words, a third of the
labels wrong so that thousands are suspected, writes the report, and opens it in headless Chromium (chromium, chromedriver and
selenium are needed).

Printed for each, medians over --repeats in milliseconds since navigation: DOMContentLoaded, when the page's script has run; first
paint with content; the load event. Then how long the list of all rows takes from a press of its button, and from a letter in its
search, until the page is painted again. And the size of the file, the elements at load, and the rows the page holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import whence
from whence.data import Classification, Dataset
from whence.data.inputs import ArrayInputs, TextInputs

_PAINTED = """
const done = arguments[arguments.length - 1], start = performance.now();
{act}
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""
_PRESS = "document.querySelector('[data-kind=all]').click();"
_TYPE = """
const box = document.querySelector('[data-list=audited] [data-search]');
box.value = '7';
box.dispatchEvent(new Event('input'));
"""
_TIMES = """
const navigation = performance.getEntriesByType("navigation")[0];
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return {
  "DOMContentLoaded": navigation.domContentLoadedEventEnd, "first paint": paint ? paint.startTime : null,
  load: navigation.loadEventEnd,
  elements: document.querySelectorAll("*").length,
};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="training instances")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", default="pictures,texts")
    parser.add_argument("--color", action="store_true", help="32×32 pictures in color")
    given = parser.parse_args()
    driver = browser()
    with TemporaryDirectory() as directory:
        for kind in given.kinds.split(","):
            data = pictures(given.rows, given.color) if kind == "pictures" else texts(given.rows)
            module, prepared = whence.prepare(data, "mlp:64" if kind == "pictures" else "ngrams:32")
            run = whence.fit(module, prepared, epochs=1, device="cpu")
            path = whence.report(run, Path(directory) / f"{kind}.html", method="kernel")
            print(json.dumps({"kind": kind, **measured(driver, path, given.repeats)}))
    driver.quit()


def splits(rows: int) -> np.ndarray:
    """So many train, 200 dev and 200 test."""
    return np.array(["train"] * rows + ["dev"] * 200 + ["test"] * 200, object)


def labels_of(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The classes of the inputs, and the given labels, of which a third of the training instances have another."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, classes, rows + 400)
    given = true.copy()
    given[: rows // 3] = (given[: rows // 3] + 1) % classes
    return true, given


def pictures(rows: int, color: bool) -> Dataset:
    generator = np.random.default_rng(1)
    true, given = labels_of(rows, 10)
    shape = (32, 32, 3) if color else (28, 28)
    patterns = generator.integers(0, 200, (10, *shape))
    images = np.clip(patterns[true] + generator.normal(0, 30, (len(true), *shape)), 0, 255).astype(np.uint8)
    task = Classification(tuple("abcdefghij"))
    return Dataset(np.arange(len(true)), ArrayInputs(images), given, task, splits=splits(rows), images=images)


def texts(rows: int) -> Dataset:
    generator = np.random.default_rng(2)
    true, given = labels_of(rows, 2)
    words = np.array([[f"{letter}{number}" for number in range(500)] for letter in "pq"])
    written = np.array([" ".join(words[label][generator.integers(0, 500, 40)]) for label in true], object)
    task = Classification(("negative", "positive"))
    return Dataset(np.arange(len(true)), TextInputs(written), given, task, splits=splits(rows), texts=written)


def browser() -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


def measured(driver: Any, path: Path, repeats: int) -> dict[str, Any]:
    """Medians over so many openings, after one that is not counted."""
    found: list[dict[str, float]] = []
    for _ in range(repeats + 1):
        driver.get("about:blank")
        driver.get(path.as_uri())
        times = driver.execute_script(_TIMES)
        times["all rows listed"] = driver.execute_async_script(_PAINTED.replace("{act}", _PRESS))
        times["search"] = driver.execute_async_script(_PAINTED.replace("{act}", _TYPE))
        found.append(times)
    medians = {name: round(statistics.median(one[name] for one in found[1:])) for name in found[0]}
    held = driver.execute_script("return JSON.parse(document.getElementById('data').textContent).audited.length")
    return {**medians, "rows": held, "megabytes": round(path.stat().st_size / 1e6, 1)}


if __name__ == "__main__":
    main()
