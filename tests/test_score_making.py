"""Scores on disk: readable by others, made by several processes, whole whatever is killed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import whence
from tests.test_scores import random_matrix, scores_of
from tests.toys import trained
from whence import WhenceError, load_scores
from whence.score_making import compute
from whence.scores import Labels


@pytest.mark.parametrize("values", ["noise", "few"])
def test_the_matrix_is_a_zarr_array(tmp_path, values):
    """Chunks of few different numbers are compressed, those of noise are not; the last block is a short one."""
    zarr = pytest.importorskip("zarr")
    matrix = random_matrix(53, 7) if values == "noise" else random_matrix(53, 7).round().clip(-1, 1)
    scores = scores_of(matrix, tmp_path / "s", block_rows=10)
    array = zarr.open_array(tmp_path / "s" / "matrix", mode="r")
    np.testing.assert_array_equal(array[:], matrix)
    assert array.chunks == (10, 7)
    np.testing.assert_array_equal(load_scores(tmp_path / "s"), matrix)
    chunk = tmp_path / "s" / "matrix" / "c" / "5" / "0"
    assert (chunk.stat().st_size < 280) == (values == "few") == scores.matrix.packed
    if values == "few":
        for content in (b"", b"no frame", chunk.read_bytes()[:-3], pa.compress(b"x" * 10**7, "zstd", asbytes=True)):
            chunk.write_bytes(content)
            with pytest.raises(WhenceError, match="damaged file in .*matrix/c/5/0"):
                np.asarray(load_scores(tmp_path / "s"))


def test_other_libraries_open_the_tables(tmp_path):
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    matrix = random_matrix(9, 3)
    path = scores_of(matrix).to_parquet(tmp_path / "pairs.parquet")
    best = duckdb.sql(f"select target, name, score from '{path.as_posix()}' order by score desc limit 1").fetchall()
    row, column = np.unravel_index(matrix.argmax(), matrix.shape)
    assert best == [(1000 + column, f"r{row}", matrix.max())]
    means = polars.read_parquet(path).group_by("id").agg(polars.col("score").mean()).sort("id")
    np.testing.assert_allclose(means["score"], matrix.mean(1), rtol=1e-5)


def test_other_libraries_open_every_table_of_a_run(tmp_path):
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    run = trained(out=tmp_path, epochs=1, groups=10)
    whence.influence(run, "test", method="turnover")
    whence.audit(run)
    tables = sorted(tmp_path.rglob("*.parquet"))
    assert {"instances", "history", "audit", "groups", "rows", "targets"} <= {table.stem for table in tables}
    for table in tables:
        count = pq.read_metadata(table).num_rows
        assert duckdb.sql(f"select count(*) from '{table.as_posix()}'").fetchall() == [(count,)]
        assert polars.read_parquet(table).height == count > 0


def test_shards_are_made_apart_and_read_together(tmp_path):
    """Whoever comes last reads all; a lost process costs its own blocks only."""
    matrix = random_matrix(53, 7)
    whole = scores_of(matrix, tmp_path / "whole", block_rows=5)
    asked = []

    def part(rank, world=3, block_rows=5):
        rows = Labels(whole.ids, whole.rows.names)
        info = {key: whole.info[key] for key in ("method", "quantity", "unit", "level", "run")}
        return compute(lambda a, b: asked.append(a) or matrix[a:b], rows, whole.columns, info, path=tmp_path / "s",
                       block_rows=block_rows, shard=(rank, world))  # fmt: skip

    assert part(1).missing() == [0, 2, 3, 5, 6, 8, 9]
    with pytest.raises(WhenceError, match="unfinished scores.*7 blocks missing"):
        load_scores(tmp_path / "s")
    assert part(0).missing() == [2, 5, 8]
    asked.clear()
    assert part(1).missing() == [2, 5, 8] and not asked  # given again, nothing is made again
    assert part(11, 12).missing() == [2, 5, 8]  # more processes than blocks
    done = part(0, 1, None)  # the blocks are as they were begun
    assert set(asked) == {10, 25, 40}
    np.testing.assert_array_equal(done, matrix)
    np.testing.assert_array_equal(done.top(4).rows, whole.top(4).rows)
    for file in (tmp_path / "whole").rglob("*"):
        if file.is_file():
            assert (tmp_path / "s" / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes()
    with pytest.raises(WhenceError, match="shard of scores that are not stored"):
        compute(lambda a, b: matrix[a:b], whole.rows, whole.columns, {}, shard=(0, 2))


def test_shards_are_small_enough_for_all(tmp_path):
    matrix = random_matrix(1000, 3)
    scores = scores_of(matrix, tmp_path / "s", keep_matrix=False, summary_k=2, shard=(3, 8))
    assert len(list(scores.ranges())) >= 8
    assert len(scores.missing()) < len(list(scores.ranges()))


def test_a_directory_that_nothing_describes_is_made_anew(tmp_path):
    matrix = random_matrix(20, 3)
    scores_of(matrix, tmp_path / "s", block_rows=5)
    (tmp_path / "s" / "scores.json").unlink()
    np.testing.assert_array_equal(scores_of(matrix + 1, tmp_path / "s", block_rows=10), matrix + 1)
    assert len(list((tmp_path / "s").glob("block-*"))) == 2


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    old, new = tmp_path / ".s.1.aa.tmp", tmp_path / ".s.2.bb.tmp"
    for folder in (old, new, tmp_path / ".other.3.cc.tmp"):
        folder.mkdir()
    for folder in (old, tmp_path / ".other.3.cc.tmp"):
        os.utime(folder, (0, 0))
    scores_of(random_matrix(20, 3), tmp_path / "s")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".other.3.cc.tmp", ".s.2.bb.tmp", "s"]


def test_a_slower_process_goes_by_the_faster_ones_directory(tmp_path, monkeypatch):
    matrix, real = random_matrix(20, 3), os.replace

    def overtaken(ids):
        def replace(source, target):
            if target == tmp_path / "s":
                monkeypatch.setattr(os, "replace", real)
                compute(lambda a, b: matrix[a:b], Labels(np.arange(20) * 10, [f"r{i}" for i in range(20)]), Labels(ids, list("abc")),
                        info, path=target, block_rows=10, shard=(1, 2))  # fmt: skip
            real(source, target)

        return replace

    info = {"method": "turnover", "quantity": "loss", "unit": "nats", "level": "instance", "run": "f00"}
    monkeypatch.setattr(os, "replace", overtaken(np.arange(3) + 1000))
    np.testing.assert_array_equal(scores_of(matrix, tmp_path / "s", block_rows=10), matrix)
    shutil.rmtree(tmp_path / "s")
    monkeypatch.setattr(os, "replace", overtaken(np.arange(3)))
    with pytest.raises(WhenceError, match="another process chose other targets.*again"):
        scores_of(matrix, tmp_path / "s", block_rows=10)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s"]


def test_what_nothing_describes_is_not_removed_once_it_is_described(tmp_path, monkeypatch):
    """Another process begins between the look and the removal."""
    from whence import score_making

    matrix, real = random_matrix(20, 3), score_making._move_away
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "left").write_text("over")

    def overtaken(path):
        monkeypatch.setattr(score_making, "_move_away", real)
        rows, columns = (
            Labels(np.arange(20) * 10, [f"r{i}" for i in range(20)]),
            Labels(np.arange(3) + 1000, ["t0", "t1", "t2"]),
        )
        info = {"method": "turnover", "quantity": "loss", "unit": "nats", "level": "instance", "run": "f00"}
        compute(lambda a, b: matrix[a:b], rows, columns, info, path=path, block_rows=5, shard=(1, 2))
        assert {file.name for file in path.glob("block-*")} == {"block-00001.safetensors", "block-00003.safetensors"}
        stamps.extend(file.stat().st_mtime_ns for file in sorted(path.glob("block-*")))
        real(path)

    stamps: list[int] = []
    monkeypatch.setattr(score_making, "_move_away", overtaken)
    scores = scores_of(matrix, tmp_path / "s", block_rows=5)
    blocks = sorted((tmp_path / "s").glob("block-*"))
    assert [blocks[1].stat().st_mtime_ns, blocks[3].stat().st_mtime_ns] == stamps
    np.testing.assert_array_equal(scores, matrix)
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("path", [None, "s"])
def test_null_scores_have_to_be_finite(tmp_path, path):
    null = random_matrix(8, 3)
    null[2, 1] = np.inf
    with pytest.raises(WhenceError, match="not finite in masks never trained on"):
        scores_of(random_matrix(20, 3), path and tmp_path / path, null=null)
    assert not list(tmp_path.iterdir())


def test_blocks_that_killed_processes_left_are_cleared_away(tmp_path):
    matrix = random_matrix(20, 3)
    scores_of(matrix, tmp_path / "s", block_rows=5, shard=(0, 2))
    left = [tmp_path / "s" / "matrix" / "c" / "1" / ".0.1.aa.tmp", tmp_path / "s" / ".block-00001.safetensors.1.aa.tmp"]
    for file in left:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"half")
        os.utime(file, (0, 0))
    np.testing.assert_array_equal(scores_of(matrix, tmp_path / "s", block_rows=5), matrix)
    assert not any(file.exists() for file in left)


def test_sums_beyond_single_precision(tmp_path):
    huge = np.full((4, 3), 2e38, np.float32)
    np.testing.assert_allclose(scores_of(huge, tmp_path / "s").mean_over_targets(), 2e38, rtol=1e-6)
