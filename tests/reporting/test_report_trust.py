"""How far scores can be trusted, and in which words that is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.reporting.conftest import pictures, trained
from whence.estimators import influence
from whence.reporting import Trust, assess, findings
from whence.reporting.findings import verdict
from whence.reporting.trust import GroupFloor, group_floor
from whence.run import Run
from whence.scores import NoiseFloor
from whence.subnetworks import exposure

NOISE = NoiseFloor(np.ones(3, np.float32), 0.05, 1.0, 0.8, 512)
FAINT = NoiseFloor(np.ones(3, np.float32), 0.07, 1.2, 1e-4, 512)
SIGNAL = NoiseFloor(np.ones(3, np.float32), 0.4, 6.0, 1e-9, 512)
TRUST = Trust(
    own_loss=0.1, flipped_loss=0.3, full_loss=0.2, dev_loss=0.3, isolation=1.0, unit="nats", method="kernel",
    floor_method="turnover", floor=NOISE, targets=3, target_set="test", level="instance", rows=100,
)  # fmt: skip


def test_measures_what_the_run_says(picture_run: Run) -> None:
    trust, measured = assess(picture_run), exposure(picture_run)
    assert (trust.own_loss, trust.flipped_loss, trust.dev_loss) == tuple(
        measured[name] for name in ("own_loss", "flipped_loss", "dev_loss")
    )
    scores = influence(picture_run, "test", method="turnover")
    assert trust.floor is not None
    assert trust.floor.significant == scores.noise_floor().significant
    assert (trust.method, trust.floor_method, trust.targets, trust.rows) == ("kronecker", "turnover", 30, 120)
    assert not trust.has_null


@pytest.mark.parametrize("method", ["turnover", "first_order"])
def test_shown_turnover_scores_are_the_ones_tested(picture_run: Run, method: str) -> None:
    scores = influence(picture_run, "dev", method=method)
    trust = assess(picture_run, scores, target_set="dev")
    assert trust.has_null
    assert (trust.method, trust.floor_method, trust.target_set) == (method, method, "dev")
    assert trust.floor is not None
    assert trust.floor.excess == scores.noise_floor().excess


def test_groups_are_rows(group_run: Run) -> None:
    trust = assess(group_run)
    assert (trust.level, trust.rows, trust.method) == ("group", 6, "kronecker")
    assert "groups" in verdict(trust)


def test_no_gap_has_no_isolation(train_only_run: Run) -> None:
    trust = assess(train_only_run)
    assert trust.isolation is None
    assert trust.dev_loss is None
    assert trust.target_set == "train"


@pytest.mark.parametrize(
    ("isolation", "level", "words"),
    [
        (0.02, "poor", "knows the instance anyway"),
        (0.5, "caution", "leaks around the masks"),
        (1.0, "good", "stand in for cross-validation"),
        (3.0, "caution", "worse than on unseen data"),
    ],
)
def test_isolation_in_words(isolation: float, level: str, words: str) -> None:
    finding = findings(replace(TRUST, isolation=isolation))[2]
    assert finding.level == level
    assert words in finding.text


def test_noise_is_called_noise() -> None:
    shown, floor, _ = findings(TRUST)
    assert (shown.level, floor.level, floor.value) == ("caution", "poor", "no")
    assert "Not distinguishable from chance" in floor.text
    assert "fit again with another seed" in shown.text
    shown, floor, _ = findings(replace(TRUST, method="turnover"))
    assert (shown.level, shown.value) == ("poor", "no")
    assert "Do not act" in shown.text
    shown, floor, _ = findings(replace(TRUST, method="turnover", floor=SIGNAL, level="group"))
    assert (shown.level, floor.value) == ("good", "yes")
    assert findings(replace(TRUST, floor=None))[1].value == "not measured"


def test_mean_influence_of_corrupted_groups_is_beyond_chance() -> None:
    data = pictures(360, errors=0, groups=10)
    assert data.groups is not None
    corrupted = np.isin(data.groups, (0, 1)) & (data.splits == "train")
    targets = np.where(corrupted, (data.targets + 1) % 3, data.targets)
    run = trained(replace(data, targets=targets), epochs=10)
    floor = group_floor(run)
    assert floor is not None
    ranked = sorted(floor.deviations, key=lambda group: floor.deviations[group])
    assert set(ranked[:2]) == {0, 1}
    assert floor.deviations[ranked[0]] < -2
    assert 1 <= floor.beyond <= 2


def test_groups_beyond_chance_are_said_to_be() -> None:
    floor = GroupFloor(dict.fromkeys(range(10), 0.0), 3)
    finding = findings(replace(TRUST, level="group", groups=floor))[1]
    assert (finding.level, finding.value) == ("good", "yes, at its ends")
    assert "3 of 10 groups" in verdict(replace(TRUST, groups=floor))


def test_groups_within_chance_are_noise() -> None:
    floor = GroupFloor(dict.fromkeys(range(20), 0.0), 2)
    assert floor.is_noise
    assert "no more than chance" in findings(replace(TRUST, level="group", groups=floor))[1].text
    assert not GroupFloor(dict.fromkeys(range(20), 0.0), 5).is_noise


def test_no_groups_no_floor(picture_run: Run) -> None:
    assert group_floor(picture_run) is None


def test_faint_signal_is_not_sold_as_trust() -> None:
    for method in ("kernel", "turnover"):
        found = findings(replace(TRUST, method=method, floor=FAINT))
        assert "mostly noise" in [finding.value for finding in found]
        assert "good" not in [finding.level for finding in found[:2]]
    assert verdict(replace(TRUST, method="turnover", floor=FAINT)).endswith("are mostly noise.")


def test_scores_that_the_lists_do_not_use_are_shown_for_comparison() -> None:
    floor = findings(TRUST)[1]
    assert floor.title.startswith("For comparison: would published turn-over scores")
    assert "do not use these scores but last-layer kernel scores" in floor.text
    assert "last-layer kernel scores" in verdict(TRUST)
    assert "turn-over" not in verdict(TRUST)
    own = replace(TRUST, method="turnover")
    assert "comparison" not in findings(own)[1].title + findings(own)[1].text[:40]
    assert (
        verdict(own)
        == "The influence lists use turn-over scores of single instances, which cannot be told from chance."
    )


def test_the_caveat_of_an_audit_is_a_finding() -> None:
    assert len(findings(TRUST)) == 3
    last = findings(TRUST, "The model errs on 40.0 % of unseen instances.")[-1]
    assert (last.level, last.value) == ("caution", "many may be right")
    assert last.text.startswith("The model errs on 40.0\u00a0% of unseen")
