"""Masks do not know how many processes there are: DDP on two equals one process on the whole batch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

import whence
from tests.toys import blobs, network

STEPS, BATCH = 5, 16


def rows():
    data = blobs(STEPS * BATCH)
    return [(int(data.ids[i]), data.inputs.array[i], int(data.targets[i])) for i in range(len(data))]


def train(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for ids, x, y in batches:
        optimizer.zero_grad()
        with whence.own(ids):
            nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def worker(rank, world, folder):
    dist.init_process_group("gloo", init_method=(Path(folder) / "rendezvous").as_uri(), rank=rank, world_size=world)
    items = rows()
    loader = DataLoader(items, batch_size=BATCH // world, sampler=DistributedSampler(items, world, rank, shuffle=False))
    model = DistributedDataParallel(network(6, 32, 3))
    train(model, loader)
    if rank == 0:
        torch.save(model.module.state_dict(), os.path.join(folder, "weights.pt"))
    dist.barrier()  # a process that leaves first can abort the other's threads of communication
    del model
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available() or not hasattr(os, "fork"), reason="needs gloo")
@pytest.mark.filterwarnings("ignore")
def test_ddp_equals_one_process(tmp_path):
    mp.spawn(worker, args=(2, str(tmp_path)), nprocs=2)
    model = network(6, 32, 3)
    train(model, DataLoader(rows(), batch_size=BATCH))
    for name, value in torch.load(tmp_path / "weights.pt").items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_shuffling_loader_workers_keep_ids_with_their_rows():
    items, seen = rows(), {}
    for ids, x, _ in DataLoader(items, batch_size=7, shuffle=True, num_workers=2):
        layer = whence.TurnOverDropout("x")
        with whence.own(ids):
            masked = layer(torch.ones(len(ids), 64))
        for id, features, mask in zip(ids.tolist(), x, masked, strict=True):
            seen[id] = (features, mask)
    assert len(seen) == len(items)
    for id, features, _ in items:
        assert torch.equal(seen[id][0], torch.from_numpy(features))
        with whence.own(id):
            assert torch.equal(seen[id][1], layer(torch.ones(1, 64))[0])
