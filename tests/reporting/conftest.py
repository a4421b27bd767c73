"""Small runs whose reports are looked at: pictures, hostile texts, numbers, groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from whence.cleansing import cleanse
from whence.data import Classification, Dataset, Regression
from whence.data.inputs import ArrayInputs, TextInputs
from whence.models import prepare
from whence.run import Run
from whence.training import fit

BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
HOSTILE = [
    "</script><script>window.hacked=1</script> dull",
    '<img src=x onerror="window.hacked=1"> fine',
    "<!--<script> dull ]]> --> {{ 7*7 }} {% raw %}",
    "\u202e reversed \u2067 dull \u200f fine",
    "broken \ud800 surrogate \udfff dull",
    "line\u2028separator\u2029 fine & dull \x00 \x1b",
    '=HYPERLINK("x") dull',
]
HOSTILE_ID = "=cmd()|'<b>&\"</script>"
HOSTILE_CLASS = "<script>window.hacked=1</script>"


def splits_of(count: int) -> np.ndarray:
    """Two thirds train, a sixth dev, a sixth test, by turns."""
    return np.array(["train", "train", "dev", "train", "train", "test"] * count, dtype=object)[:count]


def pictures(count: int = 180, *, errors: int = 12, groups: int = 0) -> Dataset:
    """Three classes of 8 by 8 pictures; the first training instances carry a wrong label."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) // 2 % 3
    patterns = generator.integers(0, 200, (3, 8, 8))
    images = np.clip(patterns[labels] + generator.normal(0, 40, (count, 8, 8)), 0, 255).astype(np.uint8)
    splits = splits_of(count)
    wrong = np.flatnonzero(splits == "train")[:errors]
    labels[wrong] = (labels[wrong] + 1) % 3
    members = np.arange(count) // 6 % groups if groups else None
    return Dataset(
        np.arange(count),
        ArrayInputs(images),
        labels.astype(np.int64),
        Classification(("a", "b", "c")),
        splits=splits,
        images=images,
        groups=members,
        group_names=None if members is None else np.array([f"source {g}" for g in members], dtype=object),
    )


def texts(count: int = 240) -> Dataset:
    """Two classes of texts, with hostile texts, ids and a hostile class name among them."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, count)
    words = np.array([["dull", "slow", "stale", "flat"], ["fine", "warm", "fresh", "bright"]])
    written = np.array([" ".join(generator.choice(words[label], 6)) for label in labels], dtype=object)
    splits = splits_of(count)
    train = np.flatnonzero(splits == "train")[: len(HOSTILE)]
    for number, (row, hostile) in enumerate(zip(train, HOSTILE, strict=True)):
        labels[row] = (number + 1) % 2  # of the other class's words: among the suspected labels, so that they are shown
        written[row] = f"{hostile} {' '.join(generator.choice(words[1 - labels[row]], 8))}"
    names = np.array([f"t{row}" for row in range(count)], dtype=object)
    names[train[1]] = HOSTILE_ID
    task = Classification((HOSTILE_CLASS, "good"))
    return Dataset(
        np.arange(count),
        TextInputs(written),
        labels.astype(np.int64),
        task,
        splits=splits,
        texts=written,
        names=names,
    )


def numbers(count: int = 150) -> Dataset:
    """A regression on ten features; 50 is added to the value of some training instances."""
    generator = np.random.default_rng(2)
    features = generator.normal(size=(count, 10)).astype(np.float32)
    values = 100 + 10 * features[:, 3] + 5 * features[:, 7] + generator.normal(size=count)
    splits = splits_of(count)
    train = splits == "train"
    values[np.flatnonzero(train)[:4]] += 50
    mean, scale = values[train].mean(), values[train].std()
    return Dataset(
        np.arange(count),
        ArrayInputs(features),
        ((values - mean) / scale).astype(np.float32),
        Regression(float(mean), float(scale)),
        splits=splits,
        feature_names=tuple(f"column {c}" for c in range(10)),
    )


def trained(
    data: Dataset,
    out: Path | None = None,
    epochs: int = 6,
    learning_rate: float = 5e-3,
    model: str = "mlp:48",
    seed: int = 0,
) -> Run:
    module, prepared = prepare(data, "ngrams:32" if data.texts is not None else model, seed=seed)
    return fit(module, prepared, out=out, epochs=epochs, batch_size=16, learning_rate=learning_rate, seed=seed)


@pytest.fixture(scope="session")
def picture_run() -> Run:
    return trained(pictures())


@pytest.fixture(scope="session")
def text_run() -> Run:
    return trained(texts(), epochs=10, learning_rate=2e-3)


@pytest.fixture(scope="session")
def number_run() -> Run:
    return trained(numbers())


@pytest.fixture(scope="session")
def group_run() -> Run:
    return trained(pictures(groups=6))


@pytest.fixture(scope="session")
def corrupted_run() -> Run:
    return trained(corrupted(), epochs=10, model="mlp:512")


def corrupted() -> Dataset:
    """Ten groups, in two of which all training labels are wrong; the groups have hostile names."""
    data = pictures(360, errors=0, groups=10)
    assert data.groups is not None
    names = [*HOSTILE, HOSTILE_ID, HOSTILE_CLASS, "calm"]
    wrong = np.isin(data.groups, (0, 1)) & (data.splits == "train")
    targets = np.where(wrong, (data.targets + 1) % 3, data.targets)
    return replace(data, targets=targets, group_names=np.array([names[g] for g in data.groups], dtype=object))


@pytest.fixture(scope="session")
def cleansed_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Hostile names of groups, of an instance and of a class; two groups were dropped, and labels changed, in trial."""
    data = corrupted()
    assert data.groups is not None and data.group_names is not None
    names = np.array([f"p{row}" for row in range(len(data))], dtype=object)
    names[np.flatnonzero((data.splits == "train") & (data.groups == 0))[0]] = HOSTILE_ID
    sources = np.array([name.encode("utf-8", "replace").decode() for name in data.group_names], dtype=object)
    data = replace(data, names=names, group_names=sources, task=Classification((HOSTILE_CLASS, "b", "c")))
    run = trained(data, tmp_path_factory.mktemp("cleansed") / "run", epochs=4, model="mlp:64")
    cleanse(run, groups=2, seeds=2)
    cleanse(run, relabel="2%,10%", seeds=2, name="\u0645\u0631\u062d\u0628\u0627 &amp; b")
    return run


@pytest.fixture(scope="session")
def train_only_run() -> Run:
    data = pictures()
    return trained(replace(data.split("train"), splits=None))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    for file in (BROWSER, DRIVER):
        if not file.exists():
            pytest.skip(f"{file} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    driver.set_script_timeout(120)  # axe-core takes its time on a busy machine
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """A window of ordinary size, light, that has seen nothing yet."""
    chromium.get("about:blank")
    look(chromium, 1200)
    chromium.get_log("browser")
    return chromium


def look(browser: Any, width: int, *, dark: bool = False) -> None:
    """A window so wide (a phone's below 600), light or dark."""
    window = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def exported(browser: Any, section: str = "instances") -> str:
    """What the button of a section's list gives as CSV."""
    browser.execute_script(
        """
        window.blobs = [];
        URL.createObjectURL = (blob) => { blob.text().then((text) => window.blobs.push(text)); return "#"; };
        document.querySelector(`#${arguments[0]} [data-csv]`).click();
        """,
        section,
    )
    text: str = browser.execute_async_script("""
        const done = arguments[0];
        const wait = () => (window.blobs.length ? done(window.blobs[0]) : setTimeout(wait, 20));
        wait();
    """)
    return text
