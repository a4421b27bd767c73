"""Archives of arrays: pictures and features come through, and nothing that lies or hides code does."""

from __future__ import annotations

import io
import struct
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence import WhenceError
from whence.data import load
from whence.data.arrays import MAX_BYTES
from whence.data.splits import divide

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (30, 5, 4), dtype=np.uint8)
LABELS = np.arange(30) % 3


def arrays(**other):
    parts = {"train": slice(0, 20), "dev": slice(20, 25), "test": slice(25, 30)}
    given = {f"x_{split}": PICTURES[part] for split, part in parts.items()}
    given |= {f"y_{split}": LABELS[part] for split, part in parts.items()} | other
    return {name: array for name, array in given.items() if array is not None}


@pytest.fixture
def save(tmp_path):
    def save(saver=np.savez, **given):
        saver(tmp_path / "a.npz", **given)
        return tmp_path / "a.npz"

    return save


def header(shape, descr="|u1", fortran=False, version=(1, 0), extra=""):
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, {extra}}}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text


def with_member(path, content, name="x_train.npy", pack=zipfile.ZIP_STORED):
    """An archive whose member ``name`` is ``content``."""
    with zipfile.ZipFile(path, "w", pack) as archive:
        for other, array in arrays().items():
            if f"{other}.npy" != name:
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(f"{other}.npy", buffer.getvalue())
        archive.writestr(name, content)
    return path


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
def test_pictures(save, saver):
    data = load(save(saver, **arrays()))
    np.testing.assert_array_equal(data.images, PICTURES)
    assert data.images.dtype == np.uint8
    assert data.targets.tolist() == LABELS.tolist()
    assert data.splits.tolist() == ["train"] * 20 + ["dev"] * 5 + ["test"] * 5
    assert data.ids.tolist() == list(range(30))
    assert data.batch(np.arange(2)).inputs.shape == (2, 1, 5, 4)


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels")])
def test_one_pair_is_divided_into_splits(save, names):
    data = load(save(**dict(zip(names, (PICTURES, LABELS), strict=True)), other=LABELS))
    np.testing.assert_array_equal(data.images, PICTURES)
    assert data.targets.tolist() == LABELS.tolist()
    assert data.splits.tolist() == divide(None, np.arange(30), seed=0, where="").tolist()
    with pytest.raises(WhenceError, match=rf"different length in .*got {names[0]} with 30 rows, {names[1]} with 29"):
        load(save(**dict(zip(names, (PICTURES, LABELS[:29]), strict=True))))
    with pytest.raises(
        WhenceError,
        match=r"a missing or infinite label in .*row 1 \(the first is 1\): got nan.*Fill it in, or remove the row.$",
    ):
        load(save(**dict(zip(names, (PICTURES, np.r_[np.nan, LABELS[1:]]), strict=True))))


def test_lzma_and_color(tmp_path):
    colored = RNG.integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        for name, array in (("x_train", colored), ("y_train", LABELS[:20])):
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    data = load(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.images, colored)
    assert set(data.splits) <= {"train", "dev"}


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "<i8", "|b1", "|u1"])
@pytest.mark.parametrize("order", "CF")
def test_features_of_every_kind_become_float32(save, kind, order):
    x = np.asarray(RNG.integers(0, 9, (20, 3)).astype(kind), order=order)
    data = load(save(x_train=x, y_train=LABELS[:20], x_test=x[:2], y_test=LABELS[:2]))
    assert data.inputs.array.dtype == np.float32
    assert data.images is None
    np.testing.assert_array_equal(data.inputs.array[:20], x.astype(np.float32))
    np.testing.assert_array_equal(data.inputs.array[20:], x[:2].astype(np.float32))


def test_pictures_in_fortran_order(save):
    data = load(save(**arrays(x_train=np.asfortranarray(PICTURES[:20]))))
    np.testing.assert_array_equal(data.images, PICTURES)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (LABELS[:20].astype(">i4")[:, None], ("0", "1", "2")),
        (np.array(["cat", "dog"])[LABELS[:20] % 2], ("cat", "dog")),
        (np.array([b"cat", b"dog"])[LABELS[:20] % 2], ("cat", "dog")),
        (LABELS[:20] == 1, ("false", "true")),
    ],
)
def test_labels_of_every_kind(save, y, classes):
    data = load(save(x_train=PICTURES[:20], y_train=y))
    assert data.task.classes == classes


def test_regression_and_limit(save):
    data = load(save(**arrays(y_train=RNG.normal(size=20), y_dev=np.zeros(5), y_test=np.zeros(5))), limit=4)
    assert data.task.kind == "regression"
    assert len(data) == 12
    np.testing.assert_array_equal(data.images, PICTURES[data.ids])


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was opened')",))


BAD = [
    (
        arrays(x_train=None),
        r"a missing array in .*a.npz: got arrays x_dev, .*expected x_train; .*numpy.savez",
    ),
    (arrays(y_test=None), "a missing array.*expected y_test"),
    (
        arrays(x_train=PICTURES[:19]),
        "arrays of different length in .*: got x_train with 19 rows, y_train with 20",
    ),
    (arrays(x_train=PICTURES[:0], y_train=LABELS[:0]), "an array without rows in .*x_train"),
    (
        arrays(x_train=np.array([Bomb()] * 20)),
        "an array of Python objects in .*, array x_train.*which can run code",
    ),
    (arrays(y_train=np.array(["a", None] * 10)), "an array of Python objects in .*, array y_train"),
    (
        arrays(x_test=PICTURES[25:, :3]),
        r"inputs of different shape in .*x_test: got \[3, 4\], expected \[5, 4\] as x_train",
    ),
    (arrays(x_test=PICTURES[25:].reshape(5, 20)), "inputs of different shape"),
    (
        arrays(x_train=PICTURES[:20].astype(float)),
        "pictures of an unfit kind in .*float64, expected uint8, 0 to 255",
    ),
    (
        arrays(x_train=np.zeros((20, 3, 8, 8), np.uint8)),
        r"unfit shape in .*\[20, 3, 8, 8\].*\.transpose\(0, 2, 3, 1\)",
    ),
    (arrays(x_train=np.zeros((20, 0), np.uint8)), "unfit shape"),
    (arrays(x_train=np.zeros(20)), r"unfit shape in .*: got \[20\]"),
    (arrays(x_train=np.array(1.0)), "an array without rows"),
    (arrays(x_train=np.zeros((20, 2), complex)), "inputs that are not numbers in .*complex128"),
    (arrays(x_train=np.zeros((20, 2), "U3")), "inputs that are not numbers"),
    (arrays(x_train=np.zeros(20, [("a", int)])), "inputs that are not numbers"),
    (arrays(y_train=np.zeros((20, 3))), r"labels of an unfit shape.*\.argmax\(1\)"),
    (arrays(y_train=np.zeros(20, "M8[s]")), "labels of an unfit kind"),
    (arrays(y_train=np.array([b"\xff"] * 20)), "labels that are not UTF-8"),
    (
        arrays(y_train=np.r_[np.zeros(19), np.nan]),
        "a missing or infinite label in .*, y, train row 20 .*: got nan",
    ),
    (arrays(y_test=np.full(5, 9)), r"unknown label in .*, y, test row 1 \(the first is 1\): got '9'"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_arrays(save, given, message):
    with pytest.raises(WhenceError, match=message) as caught:
        load(save(**given))
    assert "\n" not in str(caught.value)


def test_a_feature_that_is_not_finite(save):
    x = np.zeros((30, 4))
    x[22, 2] = np.inf
    given = arrays(x_train=x[:20], x_dev=x[20:25], x_test=x[25:])
    with pytest.raises(
        WhenceError, match=r"not a finite number in .*, dev row 3 \(the first is 1\), column 3: got inf"
    ):
        load(save(**given))


@pytest.mark.parametrize("option", ["label", "text", "features", "id", "group", "split"])
def test_options_for_tables_only(save, option):
    with pytest.raises(WhenceError, match=rf"an option for tables only in .*a.npz: got --{option}. Leave it out"):
        load(save(**arrays()), **{option: "x"})


HOSTILE = {
    "no header": (b"", "an array with an unreadable header"),
    "not an array": (
        b"hello there, how are you today?",
        "an array with an unreadable header in .*, array x_train",
    ),
    "code in the header": (header("__import__('os').abort()").replace(b'"', b""), "unreadable header"),
    "cut header": (header((20, 5, 4))[:40], "unreadable header"),
    "long header": (header((20, 5, 4), extra="'x': '" + "a" * 20_000 + "', "), "unreadable header"),
    "header of 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 99, "unreadable header"),
    "version 9": (header((20, 5, 4), version=(9, 0)), "unreadable header.*version"),
    "huge": (
        header((20, 2**30, 2**30)),
        "too large in .*, array x_train: got .* GiB, expected at most 64 GiB",
    ),
    "beyond 64 bits": (header((20, 2**62, 2**62)), "too large"),
    "negative": (header((20, -5, -4)) + b"\0" * 400, "unfit shape|without rows"),
    "more than it holds": (header((20, 5, 4)) + b"\0" * 399, "got 399 bytes of data, expected 400 for shape"),
    "less than it holds": (header((20, 5, 4)) + b"\0" * 401, "header does not fit its size"),
    "objects": (header((20,), "|O") + b"cos\nabort\n(tR.", "an array of Python objects"),
    "odd type": (header((20, 5, 4), "|z9") + b"\0" * 400, "unreadable header"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_members(tmp_path, case):
    content, message = HOSTILE[case]
    with pytest.raises(WhenceError, match=message):
        load(with_member(tmp_path / "a.npz", content))


def test_an_archive_that_promises_gigabytes_costs_none(tmp_path):
    size = 15 << 30
    assert 4 * size < MAX_BYTES  # as float32
    path = with_member(tmp_path / "a.npz", header((20, size // 20)), pack=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    true, false = (struct.pack("<I", min(number, 2**32 - 2)) for number in (len(header((20, size // 20))), size))
    path.write_bytes(content.replace(true, false))
    with pytest.raises(WhenceError, match=r"does not fit its size|promises more than it holds"):
        load(path)


def test_a_bomb_that_deflate_could_not_have_packed(tmp_path):
    rows = 3 << 20
    head = header((20, rows))
    path = with_member(tmp_path / "a.npz", head, pack=zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", len(head)), struct.pack("<I", len(head) + 20 * rows)))
    with pytest.raises(
        WhenceError, match=r"promises more than it holds in .*x_train: got .* bytes that unpack to 6291"
    ):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello", "not a sound .npz archive.*numpy.savez"),
        (b"PK\x05\x06" + b"\0" * 18, "a missing array"),
    ],
)
def test_not_an_archive(write, content, message):
    with pytest.raises(WhenceError, match=message):
        load(write("a.npz", content))


@settings(max_examples=150, deadline=None)
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.booleans(),
    saver=st.sampled_from([np.savez, np.savez_compressed]),
)
def test_damaged_archives_never_give_another_error(tmp_path_factory, places, cut, saver):
    buffer = io.BytesIO()
    saver(buffer, **arrays())
    content = bytearray(buffer.getvalue())
    for place, byte in places:
        content[min(int(place * len(content)), len(content) - 1)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[: int(places[0][0] * len(content))] if cut else content)
    with suppress(WhenceError):
        assert load(path).images.shape[1:] == (5, 4)


def packed(path, pack, dtype="|u1", rows=400, columns=2**20):
    """An archive of zeros as features."""
    with zipfile.ZipFile(path, "w", pack) as archive:
        with archive.open("x_train.npy", "w") as file:
            file.write(header((rows, columns), dtype))
            for _ in range(rows):
                file.write(bytes(columns * np.dtype(dtype).itemsize))
        buffer = io.BytesIO()
        np.save(buffer, np.arange(rows) % 2)
        archive.writestr("y_train.npy", buffer.getvalue())
    return path


def test_bzip2_is_not_read(tmp_path):
    with pytest.raises(WhenceError, match=r"not read in .*array x_train: got bzip2, expected .*numpy.savez_compressed"):
        load(packed(tmp_path / "a.npz", zipfile.ZIP_BZIP2, rows=70))


def test_what_shrinks_zeros_to_nothing_gets_what_any_file_gets(tmp_path):
    """70 MiB of uint8 become 280 MiB of float32, of which 256 are free."""
    path = packed(tmp_path / "a.npz", zipfile.ZIP_LZMA, rows=70)
    with pytest.raises(
        WhenceError,
        match=r"unpacks to far more than it weighs in .*, array x_train: got [\d,]+ bytes that unpack to 293,60",
    ):
        load(path)


def test_what_arrays_become_counts_all_together(save, monkeypatch):
    monkeypatch.setattr("whence.data.arrays._FREE", 2**20)
    x, y = np.zeros((200, 1200), np.uint8), np.arange(200) % 2
    assert len(load(save(np.savez_compressed, x_train=x, y_train=y))) == 200
    assert len(load(save(np.savez, x_train=x, y_train=y, x_test=x, y_test=y))) == 400
    with pytest.raises(
        WhenceError, match=r"unpacks to far more than it weighs in .*got [\d,]+ bytes that unpack to 1,92"
    ):
        load(save(np.savez_compressed, x_train=x, y_train=y, x_test=x, y_test=y))


def test_one_hot_rows_may_shrink_to_a_thousandth(save):
    x = np.zeros((600, 200_000), np.uint8)
    x[np.arange(600), np.arange(600) * 300] = 1
    path = save(np.savez_compressed, x_train=x, y_train=np.arange(600) % 2)
    assert path.stat().st_size * 200 < 4 * x.size
    assert load(path).inputs.array.sum() == 600


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("pack", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_arrays_of_several_pieces(tmp_path, order, pack):
    x = np.asarray(RNG.integers(0, 9, (700, 900)).astype(np.float64), order=order)
    y = np.arange(700) % 2
    with zipfile.ZipFile(tmp_path / "a.npz", "w", pack) as archive:
        for name, array in (("x_train", x), ("y_train", y)):
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    np.testing.assert_array_equal(load(tmp_path / "a.npz").inputs.array, x.astype(np.float32))
