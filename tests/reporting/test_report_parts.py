"""Numbers, charts and sheets of pictures by themselves."""

from __future__ import annotations

import base64
import io
import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.reporting.conftest import numbers, pictures
from whence.reporting.cards import telling_features
from whence.reporting.charts import epoch_ticks, exposure_chart, spread, ticks
from whence.reporting.figures import clean, percent, plain_title, scaled_unit, signed, significant
from whence.reporting.histogram import histogram
from whence.reporting.intervals import Estimate, interval_chart
from whence.reporting.pictures import Album


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (0.012345, "0.0123"),
        (1234.5, "1,230"),
        (-0.5, "\u22120.500"),
        (9.999, "10.0"),
        (1.5e-6, "1.50\u00a0\u00d7\u00a010\u207b\u2076"),
        (2e7, "2.00\u00a0\u00d7\u00a010\u2077"),
        (math.nan, "\u2013"),
        (None, "\u2013"),
    ],
)
def test_significant(value: float | None, written: str) -> None:
    assert significant(value) == written


def test_percent_does_not_round_to_certainty() -> None:
    assert [percent(x) for x in (0.9604, 1.0, 0.99999, 0.0, 1e-6, None)] == [
        "96.0\u00a0%",
        "100.0\u00a0%",
        ">\u00a099.9\u00a0%",
        "0.0\u00a0%",
        "<\u00a00.1\u00a0%",
        "\u2013",
    ]


def test_signs_and_units() -> None:
    assert [signed(x) for x in (2.0, -2.0, 0.0)] == ["+2.00", "\u22122.00", "0"]
    assert scaled_unit([3e-5, -2e-6], "nats") == (pytest.approx(1e6), "10⁻⁶ nats")
    assert scaled_unit([0.4], "nats") == (1.0, "nats")
    assert scaled_unit([math.nan], "nats") == (1.0, "nats")
    assert scaled_unit([], "nats") == (1.0, "nats")


def test_broken_text_becomes_writable() -> None:
    assert clean("a\ud800\x00b").encode() == "a\ufffd\ufffdb".encode()
    assert plain_title("a\u202e\n b") == "a b"


def rows(*losses: float) -> list[dict[str, float]]:
    return [
        {"epoch": k + 1, "own_loss": loss, "flipped_loss": 2 * loss, "dev_loss": 1.0} for k, loss in enumerate(losses)
    ]


@pytest.mark.parametrize("losses", [(0.5,), (0.9, 0.4, 0.1), tuple(np.linspace(3, 0, 300)), (0.0, 0.0)])
@pytest.mark.parametrize("width", [360, 720])
def test_chart_is_sound_and_names_its_lines(losses: tuple[float, ...], width: int) -> None:
    drawn = exposure_chart(rows(*losses), "nats", width)
    assert drawn is not None
    svg = ET.fromstring(str(drawn))
    words = [text.text for text in svg.iter("text")]
    assert {"own mask", "flipped mask", "dev (unseen)", "mean loss (nats)", "epoch"} <= set(words)
    assert len(list(svg.iter("polyline"))) == (0 if len(losses) == 1 else 3)
    for circle in svg.iter("circle"):
        assert 0 <= float(circle.get("cx", "-1")) <= width
        assert 0 <= float(circle.get("cy", "-1")) <= 300


@pytest.mark.parametrize("width", [360, 720])
def test_names_of_lines_have_room(width: int) -> None:
    history = [{**row, "full_loss": 0.3} for row in rows(1.0, 0.5)]
    svg = ET.fromstring(str(exposure_chart(history, "nats", width)))
    names = [text for text in svg.iter("text") if str(text.get("class")).startswith("name")]
    assert len(names) == 4
    assert all(float(text.get("x", "inf")) + 8.5 * len(text.text or "") <= width for text in names)


def test_chart_height_is_the_loss() -> None:
    drawn = exposure_chart(rows(1.0, 0.5, 0.0), "nats", 720)
    own = [float(c.get("cy", "0")) for c in ET.fromstring(str(drawn)).iter("circle") if c.get("class") == "dot own"]
    assert own[1] == pytest.approx((own[0] + own[2]) / 2, abs=0.1)
    assert own[2] == 260.0  # the axis


def test_no_history_has_no_chart() -> None:
    assert exposure_chart([], "nats", 720) is None
    assert exposure_chart([{"epoch": 1.0}], "nats", 720) is None


@given(st.floats(1e-6, 1e9), st.integers(1, 10_000))
def test_ticks_are_few_and_cover(high: float, epochs: int) -> None:
    marks = ticks(0.0, high)
    assert marks[0] == 0
    assert marks[-1] >= high * (1 - 1e-6)
    assert 2 <= len(marks) <= 7
    written = epoch_ticks(1, epochs, 6)
    assert written[0] == 1
    assert written[-1] == epochs
    assert len(written) <= 8


@given(st.lists(st.floats(20, 250), min_size=1, max_size=5))
def test_labels_keep_their_distance(places: list[float]) -> None:
    moved = np.sort(spread(places, 16, 20, 250))
    assert np.all(np.diff(moved) >= 16 - 1e-6)
    assert moved[-1] <= 250 + 1e-6


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))


def test_small_pictures_are_kept_exactly() -> None:
    generator = np.random.default_rng(0)
    album = Album()
    images = generator.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    assert [album.add(image) for image in images] == list(range(300))
    sheets = album.sheets()
    assert sheets is not None
    assert len(sheets["sources"]) == 2
    for number in (0, 17, 255, 256, 299):
        sheet = decoded(sheets["sources"][number // sheets["tiles"]])
        place = number % sheets["tiles"]
        top, left = place // sheets["columns"] * 8, place % sheets["columns"] * 8
        np.testing.assert_array_equal(sheet[top : top + 8, left : left + 8], images[number])


@pytest.mark.parametrize("shape", [(200, 100), (200, 100, 1), (200, 100, 2), (200, 100, 3), (200, 100, 4), (1, 500)])
def test_large_pictures_of_any_shape_shrink(shape: tuple[int, ...]) -> None:
    album = Album([np.full(shape, 200, np.uint8), np.full((40, 60), 200, np.uint8)])
    sheets = album.sheets()
    assert sheets is not None
    assert max(sheets["width"], sheets["height"]) == 96
    assert abs(int(decoded(sheets["sources"][0])[0, 0, 0]) - 200) <= 3


def test_dim_pictures_are_brightened() -> None:
    sheets = Album([np.full((8, 8), 16, np.uint8)]).sheets()
    assert sheets is not None
    assert decoded(sheets["sources"][0]).max() == 255
    assert Album().sheets() is None


def test_telling_features() -> None:
    assert {3, 7} <= set(telling_features(numbers()).tolist())
    assert len(telling_features(pictures())) == 0


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.floats(0, 1e3)), min_size=1, max_size=12),
    st.sampled_from([360, 720]),
)
def test_intervals_are_drawn_to_scale_about_zero(drawn: list[tuple[float, float, float]], width: int) -> None:
    rows = [
        Estimate(f"group <{k}>", value, value - down, value + up, "helps") for k, (value, down, up) in enumerate(drawn)
    ]
    chart = interval_chart(rows, "effect on dev (nats)", width, ("harms", "helps"))
    assert chart is not None
    svg = ET.fromstring(str(chart))
    zero = float(next(line.attrib["x1"] for line in svg.iter("line") if line.attrib["class"] == "zero"))
    texts = [text.text or "" for text in svg.iter("text")]
    assert {"effect on dev (nats)", "0"} <= set(texts)
    for row, mark in zip(rows, svg.iter("g"), strict=True):
        line, dot = next(mark.iter("line")), next(mark.iter("circle"))
        left, middle, right = float(line.attrib["x1"]), float(dot.attrib["cx"]), float(line.attrib["x2"])
        assert -0.1 <= left <= middle + 0.1 <= right + 0.2 <= width + 0.3
        assert (middle - zero) * row.value >= -0.1 * abs(row.value)  # on its side of zero
    assert "group &lt;0&gt;" in str(chart) and "<0>" not in str(chart)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)), min_size=2, max_size=8), st.sampled_from([320, 360, 720]),
       st.sampled_from([1e-3, 1.0, 1e3]))  # fmt: skip
def test_rows_of_a_chart_stand_under_their_heading_and_marks_beside_each_other(
    drawn: list[tuple[float, float]], width: int, scale: float
) -> None:
    half = len(drawn) // 2
    rows = [Estimate("random rows", scale * x, scale * (x - up), scale * (x + up), "unclear", "1%" if k < half else "<5%>")
            for k, (x, up) in enumerate(drawn)]  # fmt: skip
    chart = interval_chart(rows, "loss (nats)", width, ("better", "worse"), 0.988)
    svg = ET.fromstring(str(chart))
    assert svg.attrib["aria-label"].startswith("loss (nats), with 98.8 % intervals: 1%, random rows ")
    texts = list(svg.iter("text"))
    places = {
        kind: [float(text.attrib["y"]) for text in texts if text.attrib["class"] == kind] for kind in ("name", "label")
    }
    assert [text.text for text in texts if text.attrib["class"] == "name"] == ["1%", "<5%>"]
    order = sorted([*places["name"], *places["label"]])
    assert order == [places["name"][0], *places["label"][:half], places["name"][1], *places["label"][half:]]
    assert np.diff(order) == pytest.approx(22)
    ticks = [(float(text.attrib["x"]), text.text or "") for text in texts if text.attrib["class"] == "tick"]
    ends = [(x - 8.3 * len(written) / 2, x + 8.3 * len(written) / 2) for x, written in ticks]
    assert all(before[1] <= after[0] for before, after in zip(ends, ends[1:], strict=False)) or len(ticks) <= 3
    assert ends[-1][1] <= width + 1


def test_a_long_axis_has_several_lines_inside_the_chart() -> None:
    axis = "loss (squared error over the training variance)"
    svg = ET.fromstring(str(interval_chart([Estimate("a", 1.0, 0.5, 1.5, "helps")], axis, 320, ("better", "worse"))))
    lines = [text for text in svg.iter("text") if text.attrib["class"] == "unit" and text.text in axis]  # type: ignore[operator]
    assert " ".join(line.text or "" for line in lines) == axis and len(lines) == 2
    height = float(svg.attrib["viewBox"].split()[3])
    for line in lines:
        half = 7.6 * len(line.text or "") / 2
        assert half <= float(line.attrib["x"]) <= 320 - half and float(line.attrib["y"]) < height


def test_an_axis_of_nothing_but_zero_has_round_marks() -> None:
    svg = ET.fromstring(
        str(interval_chart([Estimate("a", 0.0, 0.0, 0.0, "unclear")], "loss", 320, ("better", "worse")))
    )
    assert [text.text for text in svg.iter("text") if text.attrib["class"] == "tick"][:2] == ["0", "+0.25"]


def test_an_interval_chart_of_nothing_is_none() -> None:
    assert interval_chart([], "effect", 720, ("harms", "helps")) is None


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.sampled_from([360, 720]))
def test_a_histogram_counts_everything_once(values: list[float], width: int) -> None:
    drawn = histogram(np.array([*values, np.nan]), "correlation", "targets", width)
    assert drawn is not None
    svg = ET.fromstring(str(drawn))
    columns = list(svg.iter("rect"))
    counts = [int(title.text.split(": ")[1]) for column in columns for title in column.iter("title")]  # type: ignore[union-attr]
    assert sum(counts) == len(values)
    heights = [float(column.attrib["height"]) for column in columns]
    assert heights == pytest.approx([heights[0] / counts[0] * count for count in counts], abs=0.11 * max(counts))
    assert {"correlation", "targets", "1.0"} <= {text.text for text in svg.iter("text")}
    assert histogram(np.array([np.nan]), "correlation", "targets", width) is None
