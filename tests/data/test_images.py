"""Directories of pictures, columns of pictures, contact sheets; and what strangers put there."""

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import whence
from whence import WhenceError
from whence.data import Source, images
from whence.data.images import read_folder, read_pictures, unpack_sheet

SEED = np.random.default_rng


def encoded(array, kind="PNG", **options):
    Image.fromarray(array).save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def color(seed, height=12, width=12):
    return SEED(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """tmp_path/CLASS/NUMBER.png: 20 cats and 20 dogs."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(20):
            (tmp_path / label / f"{number}.png").write_bytes(encoded(color(number + 100 * (label == "dog"))))
    return tmp_path


def test_a_folder_for_each_class(folder):
    (folder / ".hidden").mkdir()
    (folder / "cat" / ".thumb.png").write_bytes(b"no picture")
    (folder / "cat" / "notes.txt").write_text("not a picture either")
    data = whence.load(folder)
    assert data.task.classes == ("cat", "dog")
    assert len(data) == 40 and set(data.splits) == {"train", "dev", "test"}
    row = data.names.tolist().index("dog/7.png")
    np.testing.assert_array_equal(data.images[row], color(107))
    assert data.task.show(data.targets[[row]]) == ["dog"]
    pictures = data.batch(np.array([row])).inputs
    assert pictures.shape == (1, 3, 12, 12) and pictures.min() >= 0 and pictures.max() <= 1


def test_ids_and_splits_are_those_of_the_files(folder):
    before = whence.load(folder)
    for number in range(5):
        (folder / "cat" / f"00{number}.png").write_bytes(encoded(color(number)))
    after = whence.load(folder)
    where = {name: row for row, name in enumerate(after.names)}
    same = [where[name] for name in before.names]
    np.testing.assert_array_equal(after.ids[same], before.ids)
    np.testing.assert_array_equal(after.splits[same], before.splits)


def test_a_folder_for_each_split(folder):
    top = folder / "divided"
    for split, labels in (("train", "cat dog"), ("Validation", "cat dog"), ("test", "dog")):
        for label in labels.split():
            (top / split / label / "deeper").mkdir(parents=True)
            for number in range(3):
                (top / split / label / "deeper" / f"{number}.jpg").write_bytes(encoded(color(number), "JPEG"))
    data = whence.load(top)
    assert sorted(zip(data.splits, data.names, strict=True))[:2] == [
        ("dev", "Validation/cat/deeper/0.jpg"), ("dev", "Validation/cat/deeper/1.jpg")]  # fmt: skip
    assert {split: int((data.splits == split).sum()) for split in ("train", "dev", "test")} == {
        "train": 6,
        "dev": 6,
        "test": 3,
    }


def test_a_run_of_a_folder_is_opened_again(folder, tmp_path):
    data = whence.load(folder, image_size=8)
    model, data = whence.prepare(data, "conv:4,8")
    whence.fit(
        model, data, out=tmp_path / "run", epochs=1, device="cpu", source=Source(folder.as_posix(), image_size=8)
    )
    again = whence.open_run(tmp_path / "run")
    np.testing.assert_array_equal(again.train.ids, data.split("train").ids)
    assert again.train.images.shape[1:] == (8, 8, 3)


def test_sizes(folder):
    assert whence.load(folder).notes == ()
    (folder / "cat" / "wide.png").write_bytes(encoded(color(0, 20, 40)))
    data = whence.load(folder)
    assert data.images.shape[1:] == (64, 64, 3)
    assert data.notes == (
        "pictures are of 2 sizes, and are brought to 64 × 64 pixels (--image-size sets another size)",
    )
    assert whence.load(folder, image_size=10).images.shape[1:] == (10, 10, 3)
    large = read_pictures([encoded(color(0, 300, 300))], str)
    assert large.array.shape == (1, 64, 64, 3) and large.notes[0].startswith("pictures are large")


def test_pictures_are_cut_at_the_center():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    found = read_pictures([encoded(picture)], str, side=10).array[0]
    np.testing.assert_array_equal(found, 255)


def test_gray_stays_gray_and_color_makes_all_color():
    gray = SEED(0).integers(0, 256, (5, 6), dtype=np.uint8)
    np.testing.assert_array_equal(read_pictures([encoded(gray)], str).array, gray[None])
    both = read_pictures([encoded(gray), encoded(color(0, 5, 6))], str).array
    np.testing.assert_array_equal(both[0], np.repeat(gray[..., None], 3, axis=2))
    deep = (gray.astype(np.uint16) * 256) + 7
    np.testing.assert_array_equal(read_pictures([encoded(deep)], str).array, gray[None])
    np.testing.assert_array_equal(
        read_pictures([encoded(color(0, 5, 6))], str, like=np.zeros((1, 5, 6), np.uint8)).array.shape, (1, 5, 6)
    )


def test_cameras_that_were_turned():
    upright = color(3, 8, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° to the right
    stored = encoded(np.rot90(upright).copy(), "PNG", exif=exif)
    np.testing.assert_array_equal(read_pictures([stored], str).array[0], upright)


@pytest.mark.parametrize("kind", ["bytes", "struct", "paths"])
def test_a_column_of_pictures(tmp_path, kind):
    pictures = [color(number) for number in range(30)]
    stored = [encoded(picture) for picture in pictures]
    (tmp_path / "files").mkdir()
    for number, content in enumerate(stored):
        (tmp_path / "files" / f"{number}.png").write_bytes(content)
    paths = [f"files/{number}.png" for number in range(30)]
    values = {
        "bytes": pa.array(stored, pa.binary()),
        "struct": pa.array([{"bytes": content if number % 2 else None, "path": paths[number]}
                            for number, content in enumerate(stored)]),
        "paths": pa.array(paths),
    }[kind]  # fmt: skip
    labels = [("no", "yes")[number % 3 == 0] for number in range(30)]
    pq.write_table(pa.table({"picture": values, "label": labels, "who": [f"a{number % 4}" for number in range(30)]}),
                   tmp_path / "table.parquet")  # fmt: skip
    data = whence.load(tmp_path / "table.parquet", label="label", image="picture", group="who", limit=8)
    for row, name in enumerate(data.names):
        np.testing.assert_array_equal(data.images[row], pictures[int(name)])
    source = Source((tmp_path / "table.parquet").as_posix(), label="label", image="picture")
    more = source.load_more(tmp_path / "table.parquet", source.load())
    np.testing.assert_array_equal(more.images, np.stack(pictures))


def test_further_pictures_are_like_the_first(tmp_path):
    for name, side in (("first", 12), ("more", 20)):
        pq.write_table(
            pa.table({"x": [encoded(color(n, side, side)) for n in range(20)], "y": ["a", "b"] * 10}),
            tmp_path / f"{name}.parquet",
        )
    source = Source((tmp_path / "first.parquet").as_posix(), label="y", image="x")
    assert source.load_more(tmp_path / "more.parquet", source.load()).images.shape == (20, 12, 12, 3)


def test_paths_in_a_csv(folder):
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"cat/{n}.png,{n % 2}\n" for n in range(20)))
    data = whence.load(folder / "labels.csv", label="label", image="file")
    np.testing.assert_array_equal(data.images[3], color(3))


def test_sheets(tmp_path):
    tiles = SEED(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    sheet = tiles.reshape(2, 3, 4, 5, 3).swapaxes(1, 2).reshape(8, 15, 3)
    Image.fromarray(sheet).save(tmp_path / "sheet.webp", lossless=True)
    np.testing.assert_array_equal(unpack_sheet(tmp_path / "sheet.webp", 4, 5), tiles)
    with pytest.raises(WhenceError, match=r"no whole number of tiles.*got 8 × 15 pixels, expected multiples of 3 × 5"):
        unpack_sheet(tmp_path / "sheet.webp", 3, 5)


def bomb(width, height):
    """A PNG whose header promises that size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


GOOD = encoded(color(0))
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"
HOSTILE = {
    "empty": (b"", "cannot be read.*no picture"),
    "words": (b"not a picture at all", "cannot be read.*no picture"),
    "svg": (SVG, "cannot be read.*no picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "cannot be read.*no picture"),
    "cut": (encoded(color(0, 60, 60), "JPEG")[:300], "cannot be read.*(?i:truncated)"),
    "bomb": (bomb(60_000, 60_000), "(cannot be read.*exceeds limit|too large)"),
    "large": (bomb(12_000, 10_000), "too large.*12,000 × 10,000 pixels.*Scale it down"),
    "short": (bomb(4_000, 4_000), "cannot be read"),
    "dense": (
        bomb(5_000, 5_000),
        r"far larger than its file.*5,000 × 5,000 pixels in \d+ bytes, expected at most 16,777,216",
    ),
    "scrambled": (GOOD[:40] + bytes(reversed(GOOD[40:])), "cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_picture_is_refused(folder, name):
    content, message = HOSTILE[name]
    (folder / "cat" / "11b.png").write_bytes(content)
    with pytest.raises(WhenceError, match=message) as caught:
        whence.load(folder)
    assert "cat/11b.png" in caught.value.where
    assert str(caught.value).count("11b.png") == 1


def test_pictures_may_be_blank_but_not_all_of_them(folder, monkeypatch):
    for number in range(3):
        (folder / "cat" / f"blank{number}.png").write_bytes(encoded(np.full((600, 500), 255, np.uint8)))
    assert len(whence.load(folder)) == 43
    weight = sum(file.stat().st_size for file in folder.rglob("*.png"))
    monkeypatch.setattr("whence.data.images._FREE_TOTAL", 900_000)
    with pytest.raises(
        WhenceError,
        match=rf"far larger than their files in .*: got 905,760 pixels in {weight:,} bytes, expected at most 900,000",
    ):
        monkeypatch.setattr("whence.data.images._DENSEST", 900_000 // weight)
        whence.load(folder)


def test_a_picture_in_many_rows_is_one_file(tmp_path, monkeypatch):
    picture = color(0)
    (tmp_path / "a.png").write_bytes(encoded(picture))
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f"a.png,{n % 2}\n" for n in range(40)))
    stored = {"label": [n % 2 for n in range(40)], "file": [encoded(picture)] * 40}
    pq.write_table(pa.table(stored), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert len(whence.load(tmp_path / name, label="label", image="file")) == 40
    monkeypatch.setattr("whence.data.images._FREE_TOTAL", 20 * 12 * 12)
    monkeypatch.setattr("whence.data.images._DENSEST", 10)
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(WhenceError, match="got 5,760 pixels in .* bytes"):
            whence.load(tmp_path / name, label="label", image="file")


def test_pictures_that_are_decoded_at_the_same_time(monkeypatch):
    """Never more pixels than there is room for, unless of one picture; and what is decoded is the same."""
    sides = [10, 40, 10, 70, 10, 20, 30, 10] * 4
    stored = [encoded(color(number, side, side)) for number, side in enumerate(sides)]
    expected = read_pictures(stored, str, side=8).array
    inside, seen, lock = [], [], threading.Lock()

    def decoded(content, *rest):
        side = Image.open(io.BytesIO(content)).width
        with lock:
            inside.append(side * side)
            seen.append(list(inside))
        try:
            return genuine(content, *rest)
        finally:
            with lock:
                inside.remove(side * side)

    genuine = images._decoded
    monkeypatch.setattr(images, "_decoded", decoded)
    monkeypatch.setattr(images, "_AT_ONCE", 2000)
    monkeypatch.setattr("os.cpu_count", lambda: 100)
    np.testing.assert_array_equal(read_pictures(stored, str, side=8).array, expected)
    assert len(seen) == len(sides)
    assert all(len(those) == 1 or sum(those) <= 2000 for those in seen)
    assert max(map(len, seen)) <= images._MOST_THREADS


def test_directories_without_pictures(tmp_path):
    with pytest.raises(
        WhenceError, match="a directory without a dataset.*expected a folder of pictures for each class"
    ):
        whence.load(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(
        WhenceError, match=r"a directory without pictures.*got folders cat, expected files ending in \.png"
    ):
        whence.load(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "cat").rmdir()
    with pytest.raises(WhenceError, match="This is a run: open it with whence audit"):
        whence.load(tmp_path)


def test_links_to_directories_lead_nowhere(folder):
    try:
        (folder / "cat" / "all").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("no symbolic links here")
    assert len(whence.load(folder)) == 40


def test_bad_columns_of_pictures(tmp_path):
    (tmp_path / "t.csv").write_text("file,label,n\nnowhere.png,a,1\nnowhere.png,b,2\n")
    with pytest.raises(
        WhenceError, match=r"no such picture in .*column 'file', row 1.*got .*nowhere\.png.*where the table lies"
    ):
        whence.load(tmp_path / "t.csv", label="label", image="file", split="none")
    pq.write_table(pa.table({"x": [None, b"1"], "n": [1, 2], "y": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(WhenceError, match="a missing value in .*column 'x', row 1"):
        whence.load(tmp_path / "t.parquet", label="y", image="x")
    with pytest.raises(
        WhenceError, match="a column that holds no pictures.*got int64.*expected bytes, paths, or structs"
    ):
        whence.load(tmp_path / "t.parquet", label="y", image="n")
    with pytest.raises(WhenceError, match="both text and image are named"):
        whence.load(tmp_path / "t.parquet", label="y", image="x", text="n")
    with pytest.raises(WhenceError, match="one column is both image and label"):
        whence.load(tmp_path / "t.parquet", label="y", image="y")
    with pytest.raises(WhenceError, match="a size of pictures for data without any"):
        whence.load(tmp_path / "t.parquet", label="y", image_size=8)
    with pytest.raises(WhenceError, match="out of range in image_size: got 0"):
        whence.load(tmp_path / "t.parquet", label="y", image="x", image_size=0)
    with pytest.raises(WhenceError, match="an option for tables only.*directories of pictures have no columns"):
        whence.load(Path(tmp_path), label="y")


def test_pictures_that_do_not_fit_in_memory(folder, monkeypatch):
    monkeypatch.setattr("whence.data.images.MAX_BYTES", 40 * 12 * 12 * 3 - 1)
    with pytest.raises(WhenceError, match="more pictures than fit in memory.*--image-size"):
        read_folder(folder)
