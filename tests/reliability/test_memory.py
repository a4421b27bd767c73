"""Long runs keep memory flat: between their first and their last third it grows by less than a few MiB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MEBIBYTE = 2**20

SCRIPT = """
import json, resource, sys, warnings
import numpy as np, torch, whence
import whence.evaluation.retraining as retraining, whence.training as training
from tests.toys import blobs, network, trained
from whence.cleansing.retrained import Trainings
from whence.score_store import StoredScores

seen, what, out = [], sys.argv[1], sys.argv[2]

def watched(real):
    def call(*arguments, **options):
        result = real(*arguments, **options)
        with open("/proc/self/statm") as file:
            seen.append(int(file.read().split()[1]) * resource.getpagesize())
        return result
    return call

torch.set_num_threads(1)
if what == "fit":
    training.save = watched(training.save)
    trained(out=out, epochs=300, n=400, patience=300)
elif what == "influence":
    StoredScores.make_block = watched(StoredScores.make_block)
    run = trained(out=out, epochs=1, n=1500)
    for method in sys.argv[3:]:
        whence.influence(run, "test", method=method, block_rows=5, keep_matrix=method != "turnover")
elif what == "evaluate":
    retraining.write_retraining = watched(retraining.write_retraining)
    retraining.retrain(trained(out=out, epochs=1), subsets=300, seeds=1, out=out + "/truth/t")
elif what == "cleanse":
    Trainings.keep = watched(Trainings.keep)
    whence.cleanse(trained(out=out, epochs=1), drop="5%", seeds=75, method="kernel")
else:
    run = trained(out=out, epochs=2)
    page = watched(lambda: (whence.audit(run), whence.report(run)))
    for _ in range(60):
        page()
print(json.dumps(seen))
"""


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("fit", 300),
        ("influence turnover", 300),
        ("influence first_order", 300),
        ("influence kernel", 300),
        ("influence kronecker", 300),
        ("evaluate", 300),
        ("cleanse", 300),
        ("report", 60),
    ],
)
def test_memory_is_flat(tmp_path, what, count):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1",
                   "MALLOC_ARENA_MAX": "1"}  # fmt: skip
    name, *methods = what.split()
    ended = subprocess.run([sys.executable, "-c", SCRIPT, name, str(tmp_path / "run"), *methods], env=environment, text=True,
                           stdout=subprocess.PIPE, check=True)  # fmt: skip
    seen = np.array(json.loads(ended.stdout.splitlines()[-1]), np.float64)
    assert len(seen) >= count
    first, last = np.median(seen[: len(seen) // 3]), np.median(seen[-(len(seen) // 3) :])
    assert last - first < 4 * MEBIBYTE, f"{(last - first) / MEBIBYTE:.1f} MiB more"
