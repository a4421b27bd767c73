"""Processes are killed in the middle of every command; given again, it leaves what an undisturbed one leaves, bit for bit."""

from __future__ import annotations

import os
import random
import signal

import pytest

from tests.reliability.bench import Action
from tests.reliability.commands import COMMANDS

KILLS = (Action.KILL_BEFORE, Action.KILL_HALFWAY, Action.KILL_AFTER)
DISTURBED = [name for name in COMMANDS if name not in ("older version", "finished", "verify")]
EVERY = int(os.environ.get("WHENCE_EVERY", "4"))  # 1 for all operations on files, which takes hours


def killed_at(bench, command, numbers):
    for count, number in enumerate(numbers):
        bench.prepare(command)
        ended = bench.run(command, action=KILLS[count % 3], number=number)
        assert ended.code == -signal.SIGKILL, ended.err
        bench.check_whole()
        bench.finish(command)


def killed_at_random(bench, command, seed, kills):
    """Up to three times in a row, at any moment of an undisturbed command's time, until so many kills came before its end."""
    draw, seconds = random.Random(seed), bench.result(command)[2]
    killed = trials = 0
    while killed < kills and trials < 5 * kills:
        trials += 1
        bench.prepare(command)
        for again in range(draw.randint(1, 3)):
            ended = bench.run(command, kill_after=draw.uniform(0, seconds))
            killed += ended.code == -signal.SIGKILL
            if not again and ended.code == 0:  # the machine has become faster
                seconds = min(seconds, ended.seconds)
            bench.check_whole()
        bench.finish(command)
    return killed


@pytest.mark.parametrize("command", ["fit", "blocks", "rest of a shard", "audit of groups", "cleanse", "replace"])
def test_killed_at_operations_on_files(bench, command):
    count = bench.result(command)[1]
    killed_at(bench, command, random.Random(command).sample(range(1, count + 1), 4))


@pytest.mark.parametrize("command", ["fit", "blocks"])
def test_killed_at_random(bench, command):
    assert killed_at_random(bench, command, 0, 4) >= 4


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("command", DISTURBED)
def test_killed_at_all_operations_on_files(bench, command):
    killed_at(bench, command, range(1, bench.result(command)[1] + 1, EVERY))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("command", DISTURBED)
def test_killed_at_random_often(bench, command):
    """15 times each, and so more than 200 times over fit, influence, cleanse and evaluate alone."""
    assert killed_at_random(bench, command, 1, 15) >= 15
