"""Who becomes champion, and who does not."""

import numpy as np
import pytest

from pipeline.nightly_gate import Sample, decide
from t2s_core.errors import ContractError


def scored(ious: list[float], false_alarms: int = 0, n_absent: int = 10) -> list[Sample]:
    present = [Sample(f"p{i}", iou, 100, 100) for i, iou in enumerate(ious)]
    absent = [Sample(f"a{i}", float(i >= false_alarms), 0, int(i < false_alarms)) for i in range(n_absent)]
    return present + absent


BASE = list(np.linspace(0.3, 0.7, 60))
BETTER = [iou + 0.1 for iou in BASE]


def test_a_better_challenger_is_promoted() -> None:
    found = decide(scored(BASE), scored(BETTER))
    assert found.promote
    assert found.giou_gain == pytest.approx(0.1 * 60 / 70)
    assert found.why.startswith("promoted: gIoU +0.0857")


def test_a_worse_one_an_equal_one_and_a_lucky_one_are_refused() -> None:
    lucky = [*BASE[:-1], BASE[-1] + 0.2]
    for challenger in (scored([iou - 0.1 for iou in BASE]), scored(BASE), scored(lucky)):
        found = decide(scored(BASE), challenger)
        assert not found.promote
        assert "not above 0 beyond chance" in found.why


def test_false_alarms_outweigh_better_masks() -> None:
    found = decide(scored([0.1] * 60), scored([0.9] * 60, false_alarms=1))
    assert not found.promote
    assert "fell from 1.000 to 0.900" in found.why


def test_without_absent_targets_nobody_is_promoted() -> None:
    found = decide(scored(BASE, n_absent=0), scored(BETTER, n_absent=0))
    assert (found.promote, found.no_target_champion) == (False, None)


def test_other_samples_are_no_comparison() -> None:
    with pytest.raises(ContractError, match="different samples"):
        decide(scored(BASE), scored(BETTER)[1:])
