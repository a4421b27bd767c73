"""Masks that are drawn inside a product are the same masks. There is no GPU here: Triton's interpreter runs the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.toys import trained
from whence import WhenceError
from whence.estimators import fused, influence

SCRIPT = """
import numpy as np, torch
from whence.estimators import fused, influence
from whence.masks import exact_keep, keep_bits, mask_key
from tests.toys import trained
assert fused.available(torch.device("cpu"))
random = np.random.default_rng(0)
for keep in (0.5, 0.25, 0.8):
    for rows, units, columns in ((1, 1, 1), (5, 40, 7), (130, 300, 131)):
        ids = np.r_[random.integers(-2**63, 2**63 - 1, rows - 1), 2**32 - 1]
        matrix = torch.from_numpy(random.normal(size=(units, columns))).bfloat16()
        q = exact_keep(keep)
        found = fused.mask_product(torch.from_numpy(ids), matrix, mask_key(3, "layer"), q)
        bits = keep_bits(ids, units, seed=3, layer="layer", keep=keep)
        np.testing.assert_allclose(found, (bits.astype(float) - q) @ matrix.double().numpy(), atol=1e-5)
for keep in (0.5, 0.3):
    run = trained(epochs=1, where=("1", "3"), widths=(6, 16, 24, 3), keep=keep)
    found, exact = (np.asarray(influence(run, "test", method="first_order", precision=p)) for p in ("bfloat16", "float32"))
    assert 0 < np.abs(found - exact).std() < 0.01 * exact.std()
print("same")
"""


@pytest.mark.skipif(fused.triton is None, reason="Triton is not installed")
def test_the_interpreted_kernel_draws_the_same_masks():
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.stdout == "same\n", done.stderr


COMPILE = """
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from whence.estimators.fused import _kernel
pointers = {"low": "*i32", "high": "*i32", "matrix": "*bf16", "shift": "*fp32", "result": "*fp32"}
numbers = dict.fromkeys(["count", "columns", "units", "k0", "k1", "threshold", "matrix_row", "result_row"], "i32")
for halves in (True, False):
    chosen = {"halves": halves, "rows": 128, "width": 128, "kind": tl.bfloat16}
    signature = {**pointers, **numbers, **dict.fromkeys(chosen, "constexpr")}
    places = {(_kernel.arg_names.index(name),): value for name, value in chosen.items()}
    made = compile(ASTSource(fn=_kernel, signature=signature, constexprs=places), target=GPUTarget("cuda", 90, 32))
    assert "wgmma" in made.asm["ptx"] and made.asm["cubin"]
print("compiled")
"""


@pytest.mark.skipif(fused.triton is None, reason="Triton is not installed")
def test_the_kernel_compiles_for_a_card():
    """Which needs none: to the machine code of an H100, with its units for products of bfloat16."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "compiled\n", done.stderr


@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_first_order_in_bfloat16(keep):
    run = trained(epochs=2, keep=keep)
    exact = np.asarray(influence(run, "test", method="first_order"))
    found = np.asarray(influence(run, "test", method="first_order", precision="bfloat16"))
    assert 0 < np.abs(found - exact).std() < 0.01 * exact.std()
    with pytest.raises(
        WhenceError, match="no such precision in method first_order: got 'float16', expected float32 or bfloat16"
    ):
        influence(run, "test", method="first_order", precision="float16")


def test_a_cpu_is_not_taken_for_a_gpu():
    assert not fused.available(torch.device("cpu"))
