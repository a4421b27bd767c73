"""Models on another device than the CPU: the same numbers, and nothing of the two devices mixed (run by ``test_devices.py``).

Where there is a GPU it is taken too. Elsewhere a device of these tests' own (``elsewhere.py``) refuses what a GPU would refuse.
"""

import numpy as np
import pytest
import torch

import whence
from tests.models.test_models import pictures
from tests.toys import blobs, network, trained
from whence.estimators.dispatch import METHODS
from whence.models import prepare

try:
    from tests import elsewhere  # noqa: F401
except (AttributeError, ImportError) as error:  # of a torch that has another way to register devices
    pytest.skip(f"this torch takes no device written in Python: {error}", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings(
    "ignore:An output with one or more elements was resized"
)  # by vmap of linear layers
DEVICES = ["elsewhere", *(["cuda"] if torch.cuda.is_available() else [])]


def texts(folder):
    words = {"p": "good fine nice", "n": "bad poor awful"}
    lines = [f"{words[label]} word{row % 7} thing{row % 5},{label}" for row in range(45) for label in "pn"]
    (folder / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    model, data = prepare(whence.load(folder / "texts.csv", text="text", label="label"), "ngrams:16")
    return whence.fit(model, data, epochs=2, device="cpu")


def convolutions(folder):
    model, data = prepare(pictures(60, 16), "conv:4,8,16", masked="features.relu*")
    return whence.fit(model, data, dev=pictures(20, 16), epochs=1, device="cpu")


RUNS = {
    "one layer": lambda folder: trained(epochs=2),
    "two layers": lambda folder: trained(epochs=2, where=("1", "3"), widths=(6, 16, 16, 3)),
    "convolutions": convolutions,
    "texts": texts,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp("run")) for name, make in RUNS.items()}


def test_devices_do_not_mix():
    there, here = torch.ones(3, 3).to("elsewhere"), torch.ones(3, 3)
    for mixed in (lambda: there @ here, lambda: there + here, lambda: there.index_select(0, torch.tensor([0]))):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(TypeError, match="to numpy"):
        there.numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", RUNS)
def test_scores_are_those_of_the_cpu(runs, name, method, device):
    run = runs[name]
    expected = np.asarray(whence.influence(_on(run, "cpu"), "dev", method=method))
    scores = np.asarray(whence.influence(_on(run, device), "dev", method=method))
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4 * expected.std())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", RUNS)
def test_what_is_said_out_of_sample_is_that_of_the_cpu(runs, name, device):
    run = runs[name]
    expected, audited = whence.out_of_sample(_on(run, "cpu")), whence.audit(run)
    np.testing.assert_allclose(whence.out_of_sample(_on(run, device)), expected, atol=1e-4)
    np.testing.assert_allclose(whence.audit(run).column("p_wrong"), audited.column("p_wrong"), atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_training_there_learns_the_same(device):
    here, there = (
        whence.fit(network(6, 16, 3), blobs(), epochs=2, batch_size=16, device=name) for name in ("cpu", device)
    )
    for name, weight in here.model.state_dict().items():
        torch.testing.assert_close(there.model.state_dict()[name].cpu(), weight, rtol=1e-4, atol=1e-5)


def _on(run, device):
    run.model.to(device)
    return run
