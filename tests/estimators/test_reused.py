"""Memory is given again when nobody looks at it, and never while somebody does."""

import numpy as np
import pytest
import torch

from whence.estimators.reused import Reused

VIEWS = {
    "itself": lambda tensor: tensor,
    "some rows": lambda tensor: tensor[1:],
    "turned": lambda tensor: tensor.T,
    "an array": lambda tensor: tensor.numpy(),
    "part of an array": lambda tensor: tensor[:, 1:].numpy()[1:].T,
    "a tensor of an array": lambda tensor: torch.from_numpy(tensor.numpy()[1:]),
    "a buffer": lambda tensor: memoryview(tensor.numpy()),
}


@pytest.mark.parametrize("view", VIEWS)
def test_what_somebody_looks_at_stays_as_it_is(view):
    reused = Reused()
    held = VIEWS[view](reused.empty(4, 8).fill_(1))
    for size in ((4, 8), (2, 3), (5, 9)):
        reused.empty(*size).fill_(2)
    assert np.array_equal(np.asarray(held), np.ones_like(np.asarray(held)))


@pytest.mark.parametrize("view", VIEWS)
def test_what_nobody_looks_at_is_given_again(view):
    reused = Reused(dtype=torch.int64)
    held = VIEWS[view](reused.empty(4, 8))
    other = reused.empty(4, 8).data_ptr()
    del held
    assert [reused.empty(*size).data_ptr() for size in ((4, 8), (2, 3), (1, 32))] == [other] * 3
    assert reused.empty(5, 7).shape == (5, 7) and reused.empty(0, 3).numel() == 0
