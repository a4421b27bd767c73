"""Products class by class on many cores, against sums written out."""

import numpy as np
import pytest
import torch

from whence.estimators import comparing
from whence.estimators.comparing import Asked, Compared, Comparison


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("targets", [1, 40, 75])
def test_scores_are_the_sum_over_classes(targets, threads, monkeypatch):
    """In pieces of 16 targets and 4 instances; nobody asks of the last class."""
    monkeypatch.setattr(comparing, "_TARGETS", 16)
    monkeypatch.setattr(comparing, "_INSTANCES", 4)
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(targets)
    asked, asking, compared = Asked(4), [], []
    expected, orders = torch.zeros(30, targets), []
    for c in range(4):
        theirs = torch.randperm(targets, generator=generator)[: 0 if c == 3 else max(1, targets - 9 * c)]
        rows, residuals = torch.randperm(30, generator=generator)[:11], torch.randn(11, generator=generator)
        left, right = torch.randn(11, 5, generator=generator), torch.randn(len(theirs), 5, generator=generator)
        asked.add(c, right)
        orders.append(theirs.argsort())
        asking.append(theirs[orders[-1]])
        expected[rows[:, None], theirs] += residuals[:, None] * (left @ right.T)

        def add(instances, columns, total, desk, c=c, left=left):
            total.addmm_(left[instances], asked.of(c, columns))

        compared.append(Compared(c, rows, residuals, add))
    asked.close(orders)
    found = torch.zeros(30, targets)
    Comparison(asking, [11] * 4, targets, torch.device("cpu")).add_to(found, compared)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_core_works_on_little_at_a_time(threads):
    """However many instances and targets: copies of what they are compared by, and products, are of 2,048 × 1,024 at most."""
    torch.set_num_threads(threads)
    rows, theirs, sizes = torch.arange(7000), torch.arange(2500), []
    asked = Asked(1)
    asked.add(0, torch.ones(len(theirs), 2))
    asked.close([theirs])

    def add(instances, columns, total, desk):
        sizes.append(total.shape)
        assert len(rows[instances]) == len(total)
        total.add_(asked.of(0, columns)[0])

    found = torch.zeros(len(rows), len(theirs))
    compared = [Compared(0, rows, torch.ones(len(rows)), add)] * 3
    Comparison([theirs], [len(rows)], len(theirs), torch.device("cpu")).add_to(found, compared)
    assert (found == 3).all()
    assert max(height for height, _ in sizes) == 2048
    assert max(width for _, width in sizes) <= 1024
