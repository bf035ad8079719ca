"""Whether a challenger becomes champion: better beyond chance, and no worse about what is not there."""

from collections.abc import Sequence
from dataclasses import dataclass

from t2s_core.errors import ContractError
from t2s_core.metrics import paired_bootstrap


@dataclass(frozen=True, slots=True)
class Sample:
    """What the gate needs of one scored sample."""

    example_id: str
    iou: float
    truth_px: int
    predicted_px: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Promote or not, and why."""

    promote: bool
    why: str
    """One line, with the numbers."""
    n: int
    """Samples that both were scored on."""
    giou_gain: float
    """Mean IoU of the challenger minus the champion's."""
    giou_gain_ci95: tuple[float, float]
    no_target_champion: float | None
    """Share of samples without a target on which nothing was drawn; None where there is no such sample."""
    no_target_challenger: float | None


def decide(champion: Sequence[Sample], challenger: Sequence[Sample]) -> Decision:
    """Judge two scorings of the same samples.

    Promoted is who improves gIoU with the lower end of the paired 95 % bootstrap interval above 0, and whose accuracy
    on absent targets is not lower. Without absent targets the second cannot be known, and nobody is promoted.

    Raises:
        ContractError: They were scored on different samples.

    """
    if [one.example_id for one in champion] != [one.example_id for one in challenger]:
        raise ContractError("champion and challenger were scored on different samples; no comparison is possible")
    gain = paired_bootstrap([one.iou for one in challenger], [one.iou for one in champion])
    before, after = _no_target(champion), _no_target(challenger)
    better = gain.ci95[0] > 0
    text = f"gIoU {gain.value:+.4f} (95 % interval {gain.ci95[0]:+.4f} to {gain.ci95[1]:+.4f}, {len(champion)} samples)"
    if before is None or after is None:
        promote, why = False, f"refused: {text}; no sample lacks its target, so false alarms cannot be judged"
    elif not better:
        promote, why = False, f"refused: {text}; not above 0 beyond chance"
    elif after < before:
        promote, why = False, f"refused: {text}, but accuracy on absent targets fell from {before:.3f} to {after:.3f}"
    else:
        promote, why = True, f"promoted: {text}; accuracy on absent targets {before:.3f} -> {after:.3f}"
    return Decision(promote, why, len(champion), gain.value, gain.ci95, before, after)


def _no_target(samples: Sequence[Sample]) -> float | None:
    right = [one.predicted_px == 0 for one in samples if one.truth_px == 0]
    return sum(right) / len(right) if right else None
