"""Scores stream, resume, refuse what is not theirs, and know their noise."""

from __future__ import annotations

import io
import json
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import whence
from tests.toys import blobs, network, trained
from whence import WhenceError, load_scores
from whence.score_making import compute
from whence.scores import Labels, NoiseFloor


def scores_of(matrix, path=None, block_rows=None, null=None, **options):
    matrix = np.asarray(matrix, np.float32)
    rows = Labels(np.arange(len(matrix)) * 10, [f"r{i}" for i in range(len(matrix))])
    columns = Labels(np.arange(matrix.shape[1]) + 1000, [f"t{i}" for i in range(matrix.shape[1])])
    info = {"method": "turnover", "quantity": "loss", "unit": "nats", "level": "instance", "run": "f00"}
    return compute(
        lambda a, b: matrix[a:b], rows, columns, info, path=path, block_rows=block_rows, null=lambda: null, **options
    )


def random_matrix(n, m, seed=0):
    return np.random.default_rng(seed).normal(size=(n, m)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 6), block=st.integers(1, 50), k=st.integers(1, 50), harmful=st.booleans(),
       summary_k=st.sampled_from([1, 3, 100]))  # fmt: skip
def test_top_equals_a_full_sort(n, m, block, k, harmful, summary_k):
    matrix = random_matrix(n, m)
    top = scores_of(matrix, block_rows=block, summary_k=summary_k).top(k, harmful=harmful)
    order = np.argsort(matrix if harmful else -matrix, axis=0, kind="stable")[: min(k, n)].T
    assert np.array_equal(top.rows, order)
    assert np.array_equal(top.values, np.take_along_axis(matrix.T, order, 1))
    assert np.array_equal(top.ids, order * 10)


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_matrix_and_its_parts(tmp_path, on_disk):
    matrix = random_matrix(53, 7)
    scores = scores_of(matrix, tmp_path / "s" if on_disk else None, block_rows=10)
    if on_disk:
        scores = load_scores(tmp_path / "s")
    assert scores.shape == (53, 7)
    assert np.array_equal(np.asarray(scores), matrix)
    assert np.array_equal(scores.for_target(3), matrix[:, 3])
    for wrong in ("dev-3", matrix.shape[1], 1.5):
        with pytest.raises(WhenceError, match="option out of range in for_target"):
            scores.for_target(wrong)
    np.testing.assert_allclose(scores.mean_over_targets(), matrix.mean(1), rtol=1e-5, atol=1e-7)
    groups = np.arange(53) % 4
    by_group = scores.for_groups(groups)
    np.testing.assert_allclose(by_group, [matrix[groups == g].sum(0) for g in range(4)], rtol=1e-5, atol=1e-5)
    assert by_group.ids.tolist() == [0, 1, 2, 3]
    named = scores.for_groups(np.array(["b", "a"])[np.arange(53) % 2])
    assert named.rows.names == ["b", "a"]
    assert named.info["level"] == "group"
    assert "53 instances × 7 targets" in repr(scores)


def test_parquet(tmp_path):
    matrix = random_matrix(20, 3)
    scores = scores_of(matrix, block_rows=6)
    table = pq.read_table(scores.to_parquet(tmp_path / "all.parquet"))
    assert table.num_rows == 60
    for entry in table.to_pylist():
        row, column = int(entry["name"][1:]), int(entry["target_name"][1:])
        assert (entry["id"], entry["target"]) == (row * 10, column + 1000)
        assert entry["score"] == matrix[row, column]
    top = pq.read_table(scores.to_parquet(tmp_path / "top.parquet", k=2)).to_pylist()
    assert len(top) == 12
    assert [e["score"] for e in top[:4]] == sorted([e["score"] for e in top[:4]], reverse=True)
    small = scores_of(random_matrix(3, 1)).to_parquet(tmp_path / "small.parquet", k=3)
    assert pq.read_table(small).num_rows == 3
    signed = scores_of([[2.0, 1.0], [0.0, 3.0], [-1.0, 2.0]]).to_parquet(tmp_path / "signed.parquet", k=3)
    assert pq.read_table(signed)["score"].to_pylist() == [2.0, -1.0, 3.0, 2.0, 1.0]  # zero helps nobody


def test_interrupted_scores_resume(tmp_path):
    matrix, asked = random_matrix(40, 5), []

    def block(fail_at):
        def give(start, stop):
            if start >= fail_at:
                raise KeyboardInterrupt
            asked.append(start)
            return matrix[start:stop]

        return give

    rows, columns = Labels(np.arange(40), ["x"] * 40), Labels(np.arange(5), ["t"] * 5)
    with pytest.raises(KeyboardInterrupt):
        compute(
            block(30),
            rows,
            columns,
            {"method": "m"},
            path=tmp_path / "s",
            block_rows=10,
            of_rows=lambda rows: matrix[rows],
        )
    with pytest.raises(WhenceError, match="unfinished scores in .*: got 1 blocks missing.*whence influence"):
        load_scores(tmp_path / "s")
    compute(
        block(99), rows, columns, {"method": "m"}, path=tmp_path / "s", block_rows=10
    )  # asks for no single rows again
    assert asked == [0, 10, 20, 30]
    assert np.array_equal(load_scores(tmp_path / "s"), matrix)
    with pytest.raises(WhenceError, match="scores of another run, data or setting"):
        compute(block(99), rows, columns, {"method": "other"}, path=tmp_path / "s", block_rows=10)


def test_blocks_that_nothing_describes_are_not_taken(tmp_path):
    before, matrix = random_matrix(40, 5, seed=1), random_matrix(40, 5)
    scores_of(before, tmp_path / "s", block_rows=10, null=before)
    (tmp_path / "s" / "scores.json").unlink()
    scores = scores_of(matrix, tmp_path / "s", block_rows=10)
    assert np.array_equal(scores, matrix)
    assert load_scores(tmp_path / "s").null is None


@pytest.mark.parametrize("null", [None, random_matrix(200, 6, seed=1) * [1, 1, 2, 5, 100, 100]])
def test_in_an_even_mean_every_target_counts_alike(null, tmp_path):
    """The same with and without the matrix, in memory and on disk; the unit of a target's loss changes nothing."""
    matrix = random_matrix(700, 6) * np.float32([1, 1, 2, 5, 100, 100])
    sizes = np.sqrt((matrix**2).mean(0)) if null is None else null.std(0, ddof=1)
    expected = np.average(matrix, axis=1, weights=1 / (sizes + 0.1 * np.median(sizes)))
    tolerance = 0.1 if null is None else 1e-5  # without a null, sizes are those of 512 rows
    made = [scores_of(matrix, null=null), scores_of(matrix, tmp_path / "a", null=null, block_rows=100),
            scores_of(matrix, tmp_path / "b", null=null, block_rows=100, keep_matrix=False), load_scores(tmp_path / "b")]  # fmt: skip
    for scores in made:
        found = scores.mean_over_targets(even=True)
        np.testing.assert_allclose(found, made[0].mean_over_targets(even=True), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * expected.std())
    scaled = np.float32([3, 3, 3, 3, 3000, 3000])
    other = scores_of(matrix * scaled, null=None if null is None else null * scaled).mean_over_targets(even=True)
    assert np.corrcoef(other, made[0].mean_over_targets(even=True))[0, 1] > 0.98
    assert np.corrcoef(matrix.mean(1), made[0].mean_over_targets(even=True))[0, 1] < 0.8


def test_even_means_without_anything_that_moves():
    assert not scores_of(np.zeros((5, 3), np.float32)).mean_over_targets(even=True).any()
    one = np.zeros((5, 3), np.float32)
    one[:, 1] = [1, -1, 2, 0, 0]
    np.testing.assert_allclose(scores_of(one).mean_over_targets(even=True), one.mean(1), rtol=1e-6)


def test_without_the_matrix(tmp_path):
    matrix = random_matrix(300, 4)
    scores = scores_of(matrix, tmp_path / "s", block_rows=100, keep_matrix=False, summary_k=5)
    assert not (tmp_path / "s" / "matrix").exists()
    assert np.array_equal(scores.top(5).values, -np.sort(-matrix, axis=0)[:5].T)
    np.testing.assert_allclose(scores.mean_over_targets(), matrix.mean(1), rtol=1e-4, atol=1e-6)
    with pytest.raises(WhenceError, match="matrix of scores was not kept.*keep_matrix=True"):
        scores.top(6)


def test_top_does_not_hold_the_matrix(tmp_path):
    """40,000 × 200 scores are 32 MB; ranking them from 1,000-row blocks takes a fraction of that."""
    rows, columns = Labels(np.arange(40_000), [""] * 40_000), Labels(np.arange(200), [""] * 200)
    generator = np.random.default_rng(0)
    tracemalloc.start()
    scores = compute(lambda a, b: generator.normal(size=(b - a, 200)).astype(np.float32), rows, columns, {"method": "m"},
                     path=tmp_path / "s", block_rows=1000, summary_k=10)  # fmt: skip
    scores.top(10)
    scores.mean_over_targets()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6


def npy(array):
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def test_damaged_files_are_refused(tmp_path):
    matrix = random_matrix(20, 3)
    for name, content, message in [
        ("scores.json", b"{", "damaged file.*expected JSON"),
        ("scores.json", b"[1]", "expected a JSON object"),
        ("scores.json", json.dumps({"format": 9}).encode(), "scores of another format"),
        ("rows.parquet", b"nothing", "damaged file.*expected Parquet"),
        (
            "matrix/c/0/0",
            b"\x93NUMPY",
            r"damaged file in .*matrix/c/0/0: got 6 bytes in place of 120, expected a block of scores",
        ),
        ("matrix/zarr.json", b"{}", "damaged file.*got no codecs in zarr.json"),
        ("matrix/zarr.json", b"\xff", "damaged file.*expected a block of scores"),
        ("block-00001.safetensors", b"\xff" * 64, "damaged file.*expected safetensors"),
        ("sizes.npy", b"x", "damaged file.*expected an array"),
        ("sizes.npy", npy(np.ones(4)), r"damaged file.*float64 \(4,\).*expected float64 \(3,\)"),
        ("null.npy", b"x", "damaged file.*expected an array"),
    ]:
        folder = tmp_path / f"{name.replace('/', '-')}{len(content)}"
        scores_of(matrix, folder, block_rows=10, null=matrix[:4])
        (folder / name).write_bytes(content)
        with pytest.raises(WhenceError, match=message):
            loaded = load_scores(folder)
            np.asarray(loaded)
            loaded.top(3)
            assert len(loaded.weights) == 3
    np.save(folder / "null.npy", np.array([{"a": 1}] * 30, dtype=object), allow_pickle=True)
    with pytest.raises(WhenceError, match="damaged file.*null.npy"):
        load_scores(folder)
    with pytest.raises(WhenceError, match="no scores in this directory"):
        load_scores(tmp_path / "nowhere")


def test_bad_questions():
    scores = scores_of(random_matrix(5, 2))
    with pytest.raises(WhenceError, match="out of range in k: got 0"):
        scores.top(0)
    with pytest.raises(WhenceError, match="not one group per row.*got 2, expected 5"):
        scores.for_groups([1, 2])
    with pytest.raises(WhenceError, match="no null distribution.*compare two runs"):
        scores.noise_floor()
    with pytest.raises(WhenceError, match="not finite in rows 0 to 1"):
        scores_of([[1.0, 2.0], [np.nan, 1.0]])


def test_noise_is_called_noise():
    """The false alarm rate is the stated one, though targets are correlated and few null masks are drawn."""
    alarms, shares = [], []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        mixing = generator.normal(size=(3, 20))  # twenty targets of rank three
        null = (generator.normal(size=(128, 3)) @ mixing).astype(np.float32)
        floor = scores_of(generator.normal(size=(300, 3)) @ mixing, null=null).noise_floor()
        alarms.append(not floor.is_noise)
        shares.append(floor.significant)
    assert abs(np.mean(shares) - 0.05) < 0.01
    assert sum(alarms) <= 7  # 1 % of 200, and three standard deviations


def test_signal_is_measured():
    generator = np.random.default_rng(0)
    null = (3 * generator.normal(size=(512, 20))).astype(np.float32)
    floor = scores_of(3 * generator.normal(size=(1000, 20)), null=null).noise_floor()
    np.testing.assert_allclose(floor.standard_deviation, 3, rtol=0.15)
    assert floor.is_noise
    assert floor.verdict().startswith("Not distinguishable from chance: ")
    for factor, signal, words in ((1.1, 1 - 1 / 1.21, "Mostly noise"), (2, 0.75, "More than chance")):
        floor = scores_of(3 * factor * generator.normal(size=(1000, 20)), null=null).noise_floor()
        assert not floor.is_noise
        assert floor.signal == pytest.approx(signal, abs=0.05)
        assert floor.verdict().startswith(words)
    faint = NoiseFloor(np.ones(2, np.float32), 0.05, 1.003, 1e-5, 512, 0, 9)
    assert faint.verdict().startswith("Mostly noise, less than 1 % of their variance is signal")
    shifted = scores_of(3 * generator.normal(size=(1000, 20)) + 1, null=null).noise_floor()
    assert not shifted.is_noise
    dead = scores_of(np.zeros((10, 2)), null=np.zeros((100, 2), np.float32)).noise_floor()
    assert dead.is_noise
    assert dead.signal == 0


def test_noise_of_trained_runs():
    """Many instances on few units are noise; two groups on as many units are not."""
    crowd = whence.influence(trained(n=600, epochs=5), "test", method="turnover").noise_floor()
    assert crowd.is_noise
    few = trained(n=120, epochs=20, groups=2, widths=(6, 256, 3))
    scores = whence.influence(few, "test", method="turnover")
    assert not scores.noise_floor().is_noise


def test_stale_scores_are_refused(tmp_path):
    run = trained(out=tmp_path / "run", epochs=2)
    whence.influence(run, "test", method="turnover")
    again = whence.influence(run, "test", method="turnover")
    assert np.array_equal(again, load_scores(tmp_path / "run" / "scores" / "turnover-test"))
    import torch

    with torch.no_grad():
        run.model[0].weight += 1e-3
    with pytest.raises(WhenceError, match="scores of another run, data or setting.*delete the directory"):
        whence.influence(run, "test", method="turnover")
    for name in ("../outside", "", "a/b", ".."):
        with pytest.raises(WhenceError, match="not a name for scores"):
            whence.influence(run, "test", name=name)
    other = whence.open_run(tmp_path / "run", model=network(6, 32, 3), train=blobs(120), dev=blobs(40, seed=1, start=1000),
                            test=blobs(30, seed=3, start=2000))  # fmt: skip
    with pytest.raises(WhenceError, match="scores of another run, data or setting"):
        whence.influence(other, "test", method="turnover")


def test_ties_go_to_the_first_rows():
    matrix = np.random.default_rng(0).integers(0, 3, (60, 4))
    tops = [scores_of(matrix, block_rows=size).top(7) for size in (3, 11, 60)]
    for top in tops:
        assert np.array_equal(top.rows, np.argsort(-matrix, axis=0, kind="stable")[:7].T)


def test_settings_have_names_of_their_own(tmp_path):
    run = trained(out=tmp_path / "run", epochs=1)
    first = whence.influence(run, "dev", method="kernel", damping=0.5)
    assert not np.allclose(whence.influence(run, "dev", method="kernel"), first)
    whence.audit(run)
    for seed in (5, 6):
        whence.influence(run, blobs(5, seed=seed, start=700), method="turnover")


def test_many_independent_targets_raise_no_false_alarm():
    """Rows and null are both measured out of sample; with one null for scale and test most of these were alarms."""
    alarms = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        null, real = generator.normal(size=(512, 600)), generator.normal(size=(600, 600))
        alarms += not scores_of(real, null=null.astype(np.float32)).noise_floor().is_noise
    assert alarms <= 3
    with pytest.raises(WhenceError, match="too few null masks.*got 8, expected at least 100"):
        scores_of(real, null=null[:8].astype(np.float32)).noise_floor()
    with pytest.raises(WhenceError, match="too few null masks"):
        whence.influence(trained(epochs=1), "test", null_masks=8)


def test_scores_of_a_run_with_groups_know_them(tmp_path):
    run = trained(groups=5, out=tmp_path / "run")
    scores = whence.influence(run, "dev", method="kronecker", name="k")
    groups = scores.for_groups()
    assert groups.shape == (5, 40)
    member = run.train.groups == groups.ids[2]
    np.testing.assert_allclose(np.asarray(groups)[2], np.asarray(scores)[member].sum(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(groups.mean_over_targets(), np.asarray(groups).mean(1), rtol=1e-5, atol=1e-8)
    assert groups.top(2).values[0, 0] == np.asarray(groups)[:, 0].max() and groups.info["shape"] == [5, 40]
    again = whence.load_scores(tmp_path / "run" / "scores" / "k").for_groups()
    np.testing.assert_array_equal(again, groups)
    assert again.rows.names == groups.rows.names
    masks = whence.influence(run, "dev", method="turnover")
    assert masks.for_groups() is masks
    with pytest.raises(whence.WhenceError, match="no groups in for_groups"):
        whence.influence(trained(epochs=1), "dev", method="kernel").for_groups()
