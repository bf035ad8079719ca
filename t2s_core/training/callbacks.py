"""What looks over a running training's shoulder: its curves, its budget, its health."""

import logging
import math
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from t2s_core.training.curves import CurveTable
from t2s_core.training.processes import agreed
from t2s_core.training.settings import Watch

logger = logging.getLogger(__name__)

_FIRST_SAID = (1, 2, 5)
"""Steps after which a line is said before the tenth: those of a large model take minutes."""
GIVEN_MEAN = 5
"""Logged steps whose mean length is what later lengths are held against."""


class Curves(TrainerCallback):
    """Every logged number goes to `curves.parquet` and `curves.png`, so that an interrupted run shows what it did."""

    def __init__(self, folder: Path) -> None:
        """Go on with what an earlier call wrote to the folder."""
        self.table = CurveTable(folder)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget what a crashed call logged beyond the checkpoint that this one goes on from."""
        self.table.cut(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        self.table.add(state.global_step, logs)
        step = state.global_step
        if state.is_world_process_zero and (step % 10 == 0 or step in _FIRST_SAID) and "reward" in logs:
            shown = {"reward": "reward", "kl": "KL", "completions/mean_length": "tokens", "step_time": "s a step"}
            text = ", ".join(f"{label} {float(logs[name]):.3g}" for name, label in shown.items() if name in logs)
            if "step_time" in logs:
                left_s = float(logs["step_time"]) * (state.max_steps - step)
                text += f", about {timedelta(seconds=round(left_s))} left"
            logger.info("step %d of %d: %s", step, state.max_steps, text)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._write(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._write(state)

    def _write(self, state: TrainerState) -> None:
        if state.is_world_process_zero:  # all have the same numbers
            self.table.write()


class Budget(TrainerCallback):
    """Stops after so many minutes, with a checkpoint."""

    def __init__(self, minutes: float) -> None:
        """The clock starts now: loading models is part of a night."""
        self.end_s = time.monotonic() + 60 * minutes
        self.spent = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if agreed(time.monotonic() >= self.end_s or None):
            self.spent = control.should_save = control.should_training_stop = True


class Watchdog(TrainerCallback):
    """Stops a run that has stalled or diverges. It then saves nothing: the last checkpoint is the last good one."""

    def __init__(self, watch: Watch) -> None:
        """Nothing is wrong yet."""
        self.watch = watch
        self.reason: str | None = None
        self._flat = 0
        self._lengths: list[float] = []

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is None or "reward" not in logs:
            return
        self.reason = agreed(self.reason or self._fault(logs))
        if self.reason:
            self.reason = f"step {state.global_step}: {self.reason}"
            control.should_training_stop = True
            control.should_save = False

    def _fault(self, logs: dict[str, float]) -> str | None:
        for name in ("loss", "grad_norm", "kl"):
            if name in logs and not math.isfinite(logs[name]):
                return f"{name} is {logs[name]}"
        if logs.get("kl", 0.0) > self.watch.max_kl:
            return f"KL {logs['kl']:.3g} is above {self.watch.max_kl:g}; lower the learning rate or raise the KL weight"
        self._flat = self._flat + 1 if logs.get("frac_reward_zero_std", 0.0) >= 1.0 else 0
        if self._flat >= self.watch.flat_steps:
            return f"in {self._flat} logged steps every group scored alike: there is nothing to learn from"
        length = logs.get("completions/mean_length")
        if length is not None:
            self._lengths.append(length)
            start = sum(self._lengths[:GIVEN_MEAN]) / len(self._lengths[:GIVEN_MEAN])
            if len(self._lengths) > GIVEN_MEAN and length > self.watch.max_length_ratio * start:
                return (
                    f"replies of {length:.0f} tokens are more than {self.watch.max_length_ratio:g} times the first ones"
                )
        return None


class HeldOut(TrainerCallback):
    """Measures on held-out examples every so many steps, at the start and at the end."""

    def __init__(self, steps: int, measure: Callable[[], dict[str, float]], curves: Curves) -> None:
        """`measure` gives the numbers to add to the curves."""
        self.steps, self.measure, self.curves = steps, measure, curves
        self._last = -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self._add(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.steps == 0:
            self._add(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step != self._last:
            self._add(state)
            self.curves.on_train_end(args, state, control)

    def _add(self, state: TrainerState) -> None:
        values = self.measure()
        self.curves.table.add(state.global_step, values)
        if state.is_world_process_zero:
            text = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            logger.info("step %d: %s", state.global_step, text)
        self._last = state.global_step
