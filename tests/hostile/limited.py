"""Bombs and what would wait for ever, each met by a process of its own with little memory and little time.

python -m tests.hostile.limited RUN FOLDER [quick]    one JSON object a line: case, outcome, peak memory (MiB), seconds
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import signal
import struct
import sys
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.hostile import makers
from tests.hostile.test_bytes import FILES
from tests.hostile.using import refusal

MEMORY, SECONDS = 8 << 30, 120  # address space; a process that has loaded torch has taken up some
Case = tuple[str, Callable[[], Any]]


def zeros_gz(path: Path, count: int) -> None:
    """A gzip file of so many times a MiB of lines, in members."""
    member = gzip.compress(b"0,0\n" * 2**18)
    path.write_bytes(gzip.compress(b"x,y\n") + member * count)


def zeros_npz(path: Path, name: str, rows: int) -> None:
    """An archive whose array of rows × 2^20 zeros weighs a thousandth: blocks of deflate are repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(b"\0" * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    head = makers.npy(f"({rows}, {2**20})", "|u1", b"")
    first = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = first.compress(head) + first.flush(zlib.Z_FULL_FLUSH) + block * rows + b"\x03\x00"
    size, member = len(head) + rows * 2**20, f"{name}.npy".encode()
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 33, 0, len(packed), size, len(member), 0)
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, 0, len(packed), size, len(member), 0, 0, 0, 0, 0, 0
    )
    start = len(local) + len(member) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry) + len(member), start, 0)
    path.write_bytes(local + member + packed + entry + member + end)


def of_data(folder: Path) -> Iterator[Case]:
    """Data sets that are read."""
    from whence.data import load

    for ending in ("csv", "tsv.gz", "jsonl", "parquet", "npz"):
        os.mkfifo(folder / f"pipe.{ending}")
        yield f"a pipe as {ending}", partial(load, folder / f"pipe.{ending}", label=None if ending == "npz" else "y")
    pictures = folder / "pictures"
    for label in "ab":
        (pictures / label).mkdir(parents=True)
        os.mkfifo(pictures / label / "one.png")
    yield "a pipe as a picture", partial(load, pictures)
    (folder / "paths.csv").write_text("p,y\npictures/a/one.png,a\n/dev/zero,b\n")
    yield "a pipe in a column of pictures", partial(load, folder / "paths.csv", image="p", label="y")

    zeros_gz(folder / "bomb.csv.gz", 2000)
    yield "a gzip bomb", partial(load, folder / "bomb.csv.gz", label="y")
    (folder / "line.jsonl.gz").write_bytes(gzip.compress(b" " * 2**20) * 2000)
    yield "a gzip bomb of one line", partial(load, folder / "line.jsonl.gz", label="y")
    zeros_npz(folder / "bomb.npz", "x_train", 3000)
    with zipfile.ZipFile(folder / "bomb.npz", "a") as archive:
        archive.writestr("y_train.npy", makers.npy("(3000,)", "|u1", bytes(range(250)) * 12))
    yield "a zip bomb", partial(load, folder / "bomb.npz")
    for name, packing in {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.items():
        makers.zeros_packed(folder / f"{name}.npz", 2000, packing)
        yield f"a {name} bomb of 2 GB", partial(load, folder / f"{name}.npz")
    zeros_npz(folder / "grows.npz", "x_train", 1900)
    with zipfile.ZipFile(folder / "grows.npz", "a") as archive:
        archive.writestr("y_train.npy", makers.npy("(1900,)", "|u1", bytes(range(190)) * 10))
    yield "2 GB of bytes that become floats", partial(load, folder / "grows.npz")
    (folder / "promise.npz").write_bytes(
        makers.npz(x_train=makers.npy("(1000000000000, 2)"), y_train=makers.npy("(1000000000000,)", "<i8"))
    )
    yield "an archive that promises 10^12 rows", partial(load, folder / "promise.npz")
    makers.long_column(folder / "long.parquet", "x", 2 * 10**8)
    yield "a Parquet file of 2·10^8 equal rows", partial(load, folder / "long.parquet", label="x", features="x2")
    makers.wide_texts(folder / "wide.parquet", "x", 60_000, 900_000)
    yield "a Parquet file of 54 GB of one text", partial(load, folder / "wide.parquet", label="y", text="x")

    for name, make in makers.WIDE.items():
        make(folder / name)
        yield f"a very wide table: {name}", partial(load, folder / name, label="y", features="*")
    for name, line in {
        "list": "[" * makers.DEEP,
        "object": '{"x":' * makers.DEEP,
        "closed": "[" * makers.DEEP + "]" * makers.DEEP,
    }.items():
        (folder / f"{name}.jsonl").write_text(f'{{"x": 1, "y": 2}}\n{{"x": {line}, "y": 1}}\n')
        yield f"a line nested 100,000 deep: {name}", partial(load, folder / f"{name}.jsonl", label="y")
    (folder / "huge.jsonl").write_text(f'{{"x": 1, "y": 1}}\n{{"x": 1{"0" * 400}, "y": 2}}\n{{"x": 1e400, "y": 3}}\n')
    yield "a number of 10^400", partial(load, folder / "huge.jsonl", label="y")
    for name in ("png", "webp"):
        shutil.rmtree(pictures)
        for label in "ab":
            (pictures / label).mkdir(parents=True)
            (pictures / label / f"one.{name}").write_bytes(HUGE[name])
        yield f"a picture of 60,000 × 60,000 pixels: {name}", partial(load, pictures)
    for side, count in ((8000, 12), (4000, 60)):
        shutil.rmtree(pictures)
        for label in "ab":
            (pictures / label).mkdir(parents=True)
            for number in range(count):
                (pictures / label / f"{number}.png").write_bytes(_png(side, side, rows=side))
        yield f"{2 * count} blank pictures of {side} × {side} pixels", partial(load, pictures)


def _png(width: int, height: int, rows: int = 0) -> bytes:
    """A black picture in color; of so many rows, or of 2^20 bytes whatever its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))

    head = struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(b"\0" * ((3 * width + 1) * rows or 2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def _webp(width: int, height: int) -> bytes:
    """An extended header, which may say up to 2^24 each way, and a lossless image that says nothing."""
    extended = (
        b"VP8X" + struct.pack("<LL", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    image = b"VP8L" + struct.pack("<L", 6) + b"\x2f" + b"\0" * 5
    return b"RIFF" + struct.pack("<L", 4 + len(extended) + len(image)) + b"WEBP" + extended + image


HUGE = {"png": _png(60_000, 60_000), "webp": _webp(60_000, 60_000)}


def of_runs(run: Path) -> Iterator[Case]:
    """Runs that are opened."""
    kept = {name: (run / name).read_bytes() for name in FILES}

    def with_harm(name: str, harm: makers.Harm) -> Callable[[], Any]:
        def call() -> Any:
            harm(run / name)
            if (message := refusal(run, FILES[name])) is None:
                raise AssertionError("nothing was refused")
            from whence import WhenceError

            raise WhenceError(message)

        return call

    def restore(name: str) -> None:
        (run / name).unlink()
        (run / name).write_bytes(kept[name])

    for name in FILES:
        for harm in (makers.a_pipe, makers.a_device):
            yield f"{harm.__name__} in place of {name}", with_harm(name, harm)
            restore(name)
        if name.endswith(".parquet"):
            column = "epoch" if "history" in name else "id"
            yield f"very many rows in {name}", with_harm(name, partial(makers.long_column, name=column, rows=10**8))
            yield (
                f"one long text in {name}",
                with_harm(name, partial(makers.wide_texts, name=column, count=60_000, length=900_000)),
            )
            restore(name)
        if name.endswith(".json"):
            yield f"ten gigabytes in {name}", with_harm(name, lambda path: os.truncate(path, 10 << 30))
            restore(name)
    for model in (
        "mlp:2147483647",
        "mlp:999999999",
        "mlp:65536,65536,65536",
        "mlp:" + ",".join(["9"] * 999),
        "mlp:" + "9" * 5000,
    ):
        spec = json.loads(kept["run.json"])
        spec["model_spec"]["name"] = model
        yield f"a model of {model[:24]}", with_harm("run.json", makers.holding(json.dumps(spec).encode()))
        restore("run.json")
    zarr = json.loads(kept["scores/turnover-test/matrix/zarr.json"])
    zarr["codecs"] = [{"name": "zstd"}]
    (run / "scores/turnover-test/matrix/zarr.json").write_text(json.dumps(zarr))
    bomb = pa.compress(b"\0" * 2**28, codec="zstd", asbytes=True)
    yield "a bomb in a block of scores", with_harm("scores/turnover-test/matrix/c/0/0", makers.holding(bomb))


def outcome(call: Callable[[], Any]) -> str:
    """The text of a WhenceError, after "refused: ", or what else came of it."""
    from whence import WhenceError

    try:
        call()
    except WhenceError as error:
        return f"refused: {error}"
    except BaseException:
        return traceback.format_exc()
    return "taken"


def alone(call: Callable[[], Any]) -> dict[str, Any]:
    """What comes of a call in a process with limits."""
    read, write = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(SECONDS)
        said = outcome(call)
        os.write(write, said.encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode()
    _, status, used = os.wait4(child, 0)
    return {"outcome": said or f"died of signal {os.WTERMSIG(status)}", "peak": used.ru_maxrss // 1024,
            "seconds": round(time.monotonic() - began, 2)}  # fmt: skip


def main(run: Path, folder: Path, quick: bool) -> None:
    import torch

    import whence

    torch.set_num_threads(1)
    refusal(run, "verify")  # what is imported when it is first needed is imported now
    print(json.dumps({"case": "nothing", **alone(lambda: whence.open_run(run))}), flush=True)
    for name, call in of_data(folder):
        if quick and "bomb" in name:
            break
        print(json.dumps({"case": name, **alone(call)}), flush=True)
    for name, call in of_runs(run):
        if quick and "a_pipe" not in name:
            continue
        print(json.dumps({"case": name, **alone(call)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), quick="quick" in sys.argv[3:])
