"""How far scores can be trusted, and in which words that is said."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.reporting.conftest import pictures
from tests.toys import trained
from whence.estimators import influence
from whence.groups import GroupEffects, group_effects
from whence.models import prepare
from whence.reporting import Trust, assess, findings, report
from whence.reporting.findings import verdict
from whence.run import Run
from whence.scores import Labels, NoiseFloor, Scores
from whence.subnetworks import exposure
from whence.training import fit

NOISE = NoiseFloor(np.ones(3, np.float32), 0.05, 1.0, 0.8, 512, 0, 100)
FAINT = NoiseFloor(np.ones(3, np.float32), 0.07, 1.2, 1e-4, 512, 0, 100)
SIGNAL = NoiseFloor(np.ones(3, np.float32), 0.4, 6.0, 1e-9, 512, 0, 100)
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
    trust = assess(group_run, groups=group_effects(group_run))
    assert (trust.level, trust.rows, trust.method) == ("group", 6, "kronecker")
    assert "of 6 groups" in verdict(trust)


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


def test_rows_beyond_chance_are_named_beside_a_whole_that_is_not() -> None:
    """What the page says first never denies what ``significance`` calls."""
    few = replace(TRUST, method="turnover", floor=replace(NOISE, called=2))
    shown, floor, _ = findings(few)
    assert (shown.value, floor.level, floor.value) == ("few", "caution", "2 of 100")
    assert "2 of 100" in shown.text and "Do not act on the order" in shown.text
    assert "as a whole" in floor.text and "2 of 100 rows are beyond chance" in floor.text
    assert verdict(few).endswith("which cannot be told from chance as a whole; 2 of 100 can.")
    assert findings(replace(few, method="kernel"))[1].value == "2 of 100"


def test_trust_tells_of_the_audits_groups(group_run: Run) -> None:
    effects = group_effects(group_run)
    assert assess(group_run, groups=effects).groups is effects
    assert assess(group_run).groups is None


def of_groups(*sides: int, kernel: bool = True) -> GroupEffects:
    """Made-up effects: of each group −1 harms, 0 cannot be told, 1 helps."""
    sign = np.array(sides, float)
    scores = Scores(Labels(np.arange(len(sign)), []), Labels(np.zeros(0, np.int64), []), {"method": "kronecker"},
                    null=np.zeros((512, 1), np.float32))  # fmt: skip
    return GroupEffects(
        ids=np.arange(len(sign)), names=[f"g{i}" for i in range(len(sign))], members=np.full(len(sign), 9), effect=sign, z=3 * sign,
        p=np.where(sign == 0, 0.9, 1e-4), q=np.where(sign == 0, 0.9, 1e-3), kernel=sign if kernel else None, unit="nats",
        quantity="loss", level=0.05, target_set="dev", targets=30, among=30, alone=None if kernel else "loss has no gradient",
        published=scores, summed=scores if kernel else None,
    )  # fmt: skip


def test_card_and_headline_count_the_same_verdicts() -> None:
    trust = replace(TRUST, level="group", groups=of_groups(-1, -1, 0, 0, 0, 1))
    finding = findings(trust)[1]
    assert (finding.level, finding.value) == ("good", "2 harm, 1 helps")
    said = "2 of 6 groups harm and 1 helps beyond chance (loss on dev); 3 cannot be told from it."
    assert verdict(trust) == said
    assert finding.text.startswith(said)
    assert "two estimates agree" in finding.text
    assert "The mean over many targets" in findings(trust)[2].text
    assert findings(trust)[2].title.startswith(
        "For comparison: would published turn-over scores of groups on single predictions"
    )


def test_groups_within_chance_are_said_to_be() -> None:
    trust = replace(TRUST, level="group", groups=of_groups(0, 0, 0))
    finding = findings(trust)[1]
    assert (finding.level, finding.value) == ("poor", "none")
    assert verdict(trust) == "None of 3 groups can be told from chance (loss on dev)."
    assert "Do not act on the order" in finding.text


def test_all_groups_beyond_chance() -> None:
    assert (
        verdict(replace(TRUST, groups=of_groups(-1)))
        == "1 of 1 groups harms and none help beyond chance (loss on dev)."
    )


def test_one_estimate_alone_is_said_to_be() -> None:
    text = findings(replace(TRUST, level="group", groups=of_groups(-1, 0, kernel=False)))[1].text
    assert "no second estimate, because loss has no gradient" in text
    assert "agree" not in text


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


def test_a_report_without_its_noise_floor_says_why_and_what_to_do(tmp_path: Path) -> None:
    """Stored scores of another version are made again, damaged ones are told of, and the rest of the page is there."""
    run = trained(out=tmp_path / "run", epochs=1)

    def made() -> str:
        return re.sub(r"\d\d:\d\d UTC", "", report(run).read_text(encoding="utf-8"))  # whatever minute it was

    whole = made()
    (folder,) = (tmp_path / "run" / "scores").glob("report-trust-*")
    described, missing = folder / "scores.json", "The comparison with masks never trained on could not be made."
    assert missing not in whole
    described.write_text(json.dumps({**json.loads(described.read_text()), "version": 0}))
    assert made() == whole
    assert json.loads(described.read_text())["version"] > 0
    described.write_text("{")
    text = made()
    assert f"{missing} A damaged file in {described}: got " in text
    assert "Delete the directory that it lies in to score again." in text
    shutil.rmtree(folder)
    assert made() == whole


def test_batch_normalization_is_named() -> None:
    model, data = prepare(pictures(60), "vgg:4,4,16")
    trust = assess(fit(model, data, epochs=1, device="cpu"))
    assert trust.batch_norms == 4
    assert (
        "The statistics of 2 layers of batch normalization hold every instance"
        in findings(replace(TRUST, batch_norms=2))[2].text
    )
    assert "one layer of batch" in findings(replace(TRUST, batch_norms=1))[2].text
    assert "batch normalization" not in findings(TRUST)[2].text
