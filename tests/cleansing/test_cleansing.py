"""Cleansing from end to end: wrong labels are found to harm, a random choice is not, and an interrupted call goes on."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

import whence
from tests.cleansing.noisy import noisy
from tests.toys import network
from whence.cleansing import retrained
from whence.cleansing.choosing import rows_given
from whence.cleansing.comparing import GAIN, HARM, UNSEEN
from whence.cleansing.treatments import DROPPED, RANDOM, SAME_LABELS
from whence.errors import WhenceError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return noisy(tmp_path_factory.mktemp("noisy") / "run")


def test_wrong_labels_harm_and_dropping_them_is_a_gain(run):
    run, wrong = run
    found = whence.cleanse(run, drop="10%", seeds=4)
    assert found.verdict == GAIN
    dropped = np.array(found.table()["action"].to_pylist()) == "drop"
    assert dropped.sum() == 20 and wrong[dropped].mean() > 0.8
    loss = found.steps[0].of("loss")
    assert (
        loss.high < 0 and found.steps[0].of("loss", SAME_LABELS).high < 0 and found.steps[0].of("loss", RANDOM).high < 0
    )
    assert len(found.data()) == 180 and not set(found.data().ids) & set(run.train.ids[dropped])


def test_relabeling_is_held_against_dropping_the_same(run):
    run, wrong = run
    found = whence.cleanse(run, relabel=True, seeds=4)
    assert found.verdict == GAIN and found.steps[0].of("loss", DROPPED)
    table = found.table()
    changed = np.array(table["action"].to_pylist()) == "relabel"
    assert wrong[changed].mean() > 0.8
    assert [(a, b) for a, b, c in zip(table["given_label"].to_pylist(), table["label"].to_pylist(), changed, strict=True)
            if (a != b) != c] == []  # fmt: skip
    assert run.task.show(found.data().targets) == table["label"].to_pylist()


def test_a_choice_at_random_is_no_gain(run):
    run, _ = run
    ids = run.train.ids[np.random.default_rng(3).permutation(200)[:20]]
    found = whence.cleanse(run, rows=ids, seeds=4)
    assert found.verdict == UNSEEN
    assert "no detectable gain" in found.lines()[-1]
    assert "97.5 % intervals over seeds and instances (together 95 % for all that can be a gain)" in found.lines()[0]


def test_whole_groups_are_dropped(tmp_path):
    run, wrong = noisy(tmp_path / "run", share=0.4, groups=10)
    found = whence.cleanse(run, groups=4, seeds=4)
    dropped = np.array(found.table()["action"].to_pylist()) == "drop"
    assert dropped.sum() == 80 and found.steps[0].rows == 80
    assert wrong[dropped].all()
    assert all(one.mean < 0 for one in found.steps[0].differences if one.measure.name == "loss")
    assert "4 of 10 groups, 80 of 200 training instances" in "\n".join(found.lines())
    assert repr(found).startswith("Cleansing(4: dropped 4 of 10 groups") and repr(found).endswith(f"{found.verdict})")


def test_nothing_to_change_is_an_answer(run, monkeypatch):
    run, _ = run
    monkeypatch.setattr(retrained, "in_processes", lambda work, calls, **_: [] if not calls else pytest.fail("trained"))
    quiet = replace(rows_given(run, run.train.ids[:1]), order=np.empty(0, np.int64))
    monkeypatch.setattr("whence.cleansing.experiment.rows_by_suspicion", lambda run: quiet)
    found = whence.cleanse(run, by="p_wrong", name="none")
    assert found.steps == [] and found.verdict == UNSEEN and found.lines()[0].startswith("1%: nothing to drop")
    assert set(found.table()["action"].to_pylist()) == {"keep"} and len(found.data()) == 200


def test_what_is_written_is_what_was_found(run):
    run, _ = run
    found = whence.cleanse(run, drop="2%,10%", seeds=4, name="two")
    assert found.path == run.directory.path / "cleanse" / "two"
    table = pq.read_table(found.path / "cleansed.parquet")
    assert table.equals(found.table()) and table.num_rows == 200
    steps = np.array([step or 0 for step in table["step"].to_pylist()])
    assert (steps == 1).sum() == 4 and (steps == 2).sum() == 16
    assert all((reason != "") == (action != "keep") for reason, action in
               zip(table["reason"].to_pylist(), table["action"].to_pylist(), strict=True))  # fmt: skip
    record = whence.rundir.RunDirectory(found.path).read_json("cleanse.json")
    assert [step["rows"] for step in record["steps"]] == [4, 20] and record["verdict"] == found.verdict


def test_an_interrupted_call_goes_on_and_nothing_is_trained_twice(tmp_path, monkeypatch):
    run, _ = noisy(tmp_path / "run", n=100)
    whole = whence.cleanse(run, drop="5%", seeds=3, name="whole")
    models = run.directory.path / "cleanse" / "models"
    assert len(list(models.glob("*.safetensors"))) == 4 * 3  # no change, the change, two controls
    trained, train = [], retrained._Measured.__call__

    def counted(self, *call):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(call)
        return train(self, *call)

    monkeypatch.setattr(retrained._Measured, "__call__", counted)
    for file in sorted(models.glob("*.safetensors"))[:5]:
        file.unlink()
    with pytest.raises(KeyboardInterrupt):
        whence.cleanse(run, drop="5%", seeds=3, name="again")
    assert not (run.directory.path / "cleanse" / "again").exists()
    trained.clear()
    monkeypatch.setattr(retrained._Measured, "__call__", lambda self, *call: trained.append(call) or train(self, *call))
    again = whence.cleanse(run, drop="5%", seeds=3, name="again")
    assert len(trained) == 3
    assert again.to_json() == whole.to_json() and again.table().equals(whole.table())
    trained.clear()
    more = whence.cleanse(run, drop="5%,10%", seeds=3)  # what was trained for the one is used for the other
    assert len(trained) == 3 * 3 and len(more.steps) == 2


@pytest.mark.parametrize("change", [lambda values: values * np.nan, lambda values: values.long(), lambda values: values * 1e300],
                         ids=["not finite", "integers", "enormous"])  # fmt: skip
def test_numbers_that_no_model_gave_are_refused(tmp_path, change):
    run, _ = noisy(tmp_path / "run", n=60)
    whence.cleanse(run, drop="5%", seeds=2, name="c")
    written = (tmp_path / "run" / "cleanse" / "c" / "cleanse.json").read_bytes()
    file = sorted((tmp_path / "run" / "cleanse" / "models").glob("*.safetensors"))[0]
    save_file({name: change(values) for name, values in load_file(file).items()}, file)
    with pytest.raises(WhenceError, match="damaged file.*finite float64.*Delete it, and give the same call again"):
        whence.cleanse(run, drop="5%", seeds=2, name="c")
    assert (tmp_path / "run" / "cleanse" / "c" / "cleanse.json").read_bytes() == written


def test_any_number_of_processes_gives_the_same(tmp_path):
    alone, _ = noisy(tmp_path / "alone", n=80)
    several, _ = noisy(tmp_path / "several", n=80)
    one = whence.cleanse(alone, drop=4, seeds=2, runs=2)
    two = whence.cleanse(several, drop=4, seeds=2, runs=2, jobs=2)
    assert one.to_json() == two.to_json() and "mean of 2 runs" in one.ranking.by


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, _ = noisy(n=80)
    assert whence.cleanse(run, drop=4, seeds=2).path is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": "1%", "relabel": True}, "changes that cannot be told apart in cleanse: got drop and relabel"),
        ({"by": "loss"}, "unknown by in by: got 'loss', expected influence or p_wrong"),
        ({"method": "magic"}, "unknown method in method: got 'magic'"),
        ({"seeds": 1}, "an option out of range in seeds: got 1, expected an integer from 2 to 1000000"),
        ({"runs": 0}, "an option out of range in runs: got 0"),
        ({"level": 1.0}, "an option out of range in level"),
        (
            {"jobs": 0},
            "an option out of range in jobs: got 0, expected an integer of at least 1, or -1 for one per core",
        ),
        ({"targets": "exam"}, "no split named 'exam'"),
        ({"name": "../out"}, "not a name for a cleansing"),
        ({"name": "models"}, "not a name for a cleansing"),
        ({"name": "x" * 300}, "not a name for a cleansing"),
        ({"targets": "dev"}, "targets that the change is chosen by.*got 'dev'"),
        ({"targets": "errors", "relabel": True}, "targets that the change is chosen by"),
        ({"relabel": True, "runs": 3}, "an option without effect on this change in runs"),
        ({"groups": True}, "no groups in the run"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(run, options, message):
    run, _ = run
    before = sorted(run.directory.path.rglob("*"))
    with pytest.raises(WhenceError, match=message.replace("(", r"\(")):
        whence.cleanse(run, **options)
    assert sorted(run.directory.path.rglob("*")) == before


def test_without_a_test_split_nothing_judges(run, monkeypatch):
    run, _ = run
    monkeypatch.delitem(run.splits, "test")
    with pytest.raises(
        WhenceError, match="no test split to judge by in the run: got only train, dev, expected instances that"
    ):
        whence.cleanse(run)


def test_a_harmful_change_is_not_applied(run):
    run, _ = run
    found = whence.cleanse(run, drop="1%,10%", seeds=4)
    worst = replace(found.steps[1], verdict=HARM)
    assert replace(found, steps=[replace(found.steps[0], verdict=UNSEEN), worst]).best == 0
    all_harm = replace(found, steps=[replace(found.steps[0], verdict=HARM), worst])
    assert all_harm.best is None and all_harm.verdict == HARM and len(all_harm.data()) == 200
    assert set(all_harm.table()["action"].to_pylist()) == {"keep"}


def test_loops_that_are_bound_to_other_values_are_others(tmp_path):
    run, _ = noisy(tmp_path / "run", n=80)

    def loop(instances, seed, epochs):
        return whence.fit(
            network(6, 64, 3, seed=seed), instances, epochs=epochs, seed=seed, device="cpu", batch_size=16
        ).model

    losses = {
        epochs: whence.cleanse(run, drop=4, seeds=2, fit=partial(loop, epochs=epochs)).before["loss"]
        for epochs in (1, 4)
    }
    assert (losses[1] != losses[4]).all()


def test_a_loss_that_is_not_finite_is_told(run, monkeypatch):
    run, _ = run
    monkeypatch.setattr(retrained, "per_instance", lambda *_: {"loss": np.array([np.inf, 1.0])})
    with pytest.raises(WhenceError, match="a retrained model whose loss is not finite"):
        whence.cleanse(run, drop=7, seeds=2)


def test_a_damaged_training_is_refused_not_used(tmp_path):
    run, _ = noisy(tmp_path / "run", n=80)
    whence.cleanse(run, drop=4, seeds=2)
    file = next((run.directory.path / "cleanse" / "models").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(WhenceError, match="a damaged file"):
        whence.cleanse(run, drop=4, seeds=2)


def test_another_run_in_its_place_takes_its_cleansings_along(tmp_path):
    run, _ = noisy(tmp_path / "run", n=80)
    whence.cleanse(run, drop=4, seeds=2)
    other, _ = noisy(n=80, seed=1)
    whence.Run(
        other.model, other.train, dev=other.splits["dev"], test=other.splits["test"], out=tmp_path / "run", replace=True
    )
    assert not (tmp_path / "run" / "cleanse").exists()
