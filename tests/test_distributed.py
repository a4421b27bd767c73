"""Masks do not know how many processes there are: two or four train as one does on the whole batch, by whatever engine."""

from __future__ import annotations

import os
import socket
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
from whence.attachment import attached
from whence.dropout import in_force

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


def ddp(model, items, rank, world):
    loader = DataLoader(items, batch_size=BATCH // world, sampler=DistributedSampler(items, world, rank, shuffle=False))
    wrapped = DistributedDataParallel(model)
    train(wrapped, loader)
    return model.state_dict()


def by_accelerate(model, items, rank, world):
    """As in any script of accelerate: it divides what the loader gives, ids with the rest."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(items, batch_size=BATCH // world)
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for ids, x, y in loader:
        optimizer.zero_grad()
        with whence.own(ids):
            accelerator.backward(nn.functional.cross_entropy(wrapped(x), y))
        optimizer.step()
    return accelerator.unwrap_model(wrapped).state_dict()


def fsdp(model, items, rank, world):
    """Weights divided among the processes, those of the first layer frozen."""
    model[0].requires_grad_(False)
    return sharded(model, items, rank, world)


def fsdp_lora(model, items, rank, world):
    """The same of a model under peft's LoRA: masks are on its ranks, all that is trained beside the head."""
    return sharded(model, items, rank, world)


def sharded(model, items, rank, world):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world,))
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.requires_grad:
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loader = DataLoader(items, batch_size=BATCH // world, sampler=DistributedSampler(items, world, rank, shuffle=False))
    train(model, loader)
    return {name: value.full_tensor() for name, value in model.state_dict().items()}


ENGINES = {engine.__name__: engine for engine in (ddp, by_accelerate, fsdp, fsdp_lora)}


def model_for(engine):
    """The same weights and masks wherever it is called."""
    if engine != "fsdp_lora":
        return network(6, 32, 3)
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    model = get_peft_model(base, LoraConfig(r=8, target_modules=["2"], modules_to_save=["4"], init_lora_weights=False))
    return whence.attach(model, ["*.lora_A.default"], keep=0.5)


def worker(rank, world, folder, engine):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "localhost",
                   "MASTER_PORT": (Path(folder) / "port").read_text()}  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model = model_for(engine)
    seen = masks_seen(model)
    weights = ENGINES[engine](model, rows(), rank, world)
    torch.save((weights, seen), os.path.join(folder, f"{rank}.pt"))
    dist.barrier()  # a process that leaves first can abort the other's threads of communication
    dist.destroy_process_group()


def masks_seen(model):
    """A dictionary that fills with the bits that each id's features were masked by."""
    seen = {}
    (layer,) = attached(model).values()

    def note(module, inputs, output):
        ids = torch.as_tensor(in_force().ids)
        for id, mask in zip(ids.tolist(), layer.bits(ids.numpy()), strict=True):
            seen[id] = mask

    layer.register_forward_hook(note)
    return seen


@pytest.mark.skipif(not dist.is_available() or not hasattr(os, "fork"), reason="needs gloo")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("world", [2, 4])
def test_many_processes_train_as_one(tmp_path, engine, world):
    if engine == "by_accelerate":
        pytest.importorskip("accelerate")
    if engine == "fsdp_lora":
        pytest.importorskip("peft")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    mp.spawn(worker, args=(world, str(tmp_path), engine), nprocs=world)
    model = model_for(engine)
    if engine == "fsdp":
        model[0].requires_grad_(False)
    seen = masks_seen(model)
    train(model, DataLoader(rows(), batch_size=BATCH))
    theirs = {}
    for rank in range(world):
        weights, masks = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for name, value in weights.items():
            torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-6)
        assert not theirs.keys() & masks.keys()  # each instance is in one process
        theirs |= masks
    assert theirs.keys() == seen.keys()
    assert all((theirs[id] == seen[id]).all() for id in seen)


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
