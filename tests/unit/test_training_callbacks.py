"""When a training is stopped, and when it is not."""

from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from t2s_core.training.callbacks import Curves, Watchdog
from t2s_core.training.curves import CurveTable
from t2s_core.training.settings import Watch

HEALTHY = {"reward": 2.5, "kl": 0.01, "loss": 0.1, "grad_norm": 1.0, "frac_reward_zero_std": 0.5}


def watched(tmp_path: Path, logs: list[dict[str, float]], watch: Watch | None = None) -> tuple[str | None, bool]:
    watchdog, control = Watchdog(watch or Watch()), TrainerControl(should_save=True)
    for step, entry in enumerate(logs, start=1):
        watchdog.on_log(
            TrainingArguments(output_dir=str(tmp_path), use_cpu=True), TrainerState(global_step=step), control, entry
        )
        if control.should_training_stop:
            assert not control.should_save, "the last checkpoint must stay the last good one"
            break
    return watchdog.reason, control.should_training_stop


def test_a_healthy_run_goes_on(tmp_path: Path) -> None:
    assert watched(tmp_path, [HEALTHY | {"completions/mean_length": 40 + n % 7} for n in range(30)]) == (None, False)


@pytest.mark.parametrize("name", ["loss", "grad_norm", "kl"])
def test_numbers_that_are_none_stop_it(tmp_path: Path, name: str) -> None:
    assert watched(tmp_path, [HEALTHY, HEALTHY | {name: float("nan")}]) == (f"step 2: {name} is nan", True)


def test_a_model_that_drifts_away_is_stopped(tmp_path: Path) -> None:
    reason, stopped = watched(tmp_path, [HEALTHY, HEALTHY | {"kl": 12.0}])
    assert stopped
    assert reason is not None
    assert "KL 12 is above 10" in reason


def test_replies_that_grow_without_end_stop_it(tmp_path: Path) -> None:
    logs = [HEALTHY | {"completions/mean_length": 40.0}] * 6 + [HEALTHY | {"completions/mean_length": 161.0}]
    reason, _ = watched(tmp_path, logs)
    assert reason == "step 7: replies of 161 tokens are more than 4 times the first ones"


def test_flat_steps_count_only_in_a_row(tmp_path: Path) -> None:
    flat, lively = HEALTHY | {"frac_reward_zero_std": 1.0}, HEALTHY
    assert watched(tmp_path, [flat, flat, lively, flat, flat], Watch(flat_steps=3)) == (None, False)
    assert watched(tmp_path, [flat] * 3, Watch(flat_steps=3))[1]


def test_curves_survive_a_reading_and_a_cut(tmp_path: Path) -> None:
    table = CurveTable(tmp_path)
    for step in range(1, 6):
        table.add(step, {"reward": step / 2, "epoch": 0.1, "note": "text"})  # type: ignore[dict-item]
    table.write()
    again = CurveTable(tmp_path)
    assert again.rows == table.rows
    again.cut(3)
    assert [value for _, name, value in again.rows if name == "reward"] == [0.5, 1.0, 1.5]


def test_an_empty_table_can_be_written(tmp_path: Path) -> None:
    CurveTable(tmp_path).write()
    assert CurveTable(tmp_path).rows == []


def test_a_long_table_is_thinned_to_its_measurements_and_its_last_step(tmp_path: Path) -> None:
    table = CurveTable(tmp_path)
    for step in range(1, 201):
        table.add(step, {"reward": 1.0, "learning_rate": 1e-6} | ({"held_out/giou": 0.5} if step % 50 == 0 else {}))
    rows = table.thinned(20)
    steps = [step for step, _ in rows]
    assert len(steps) == 20
    assert steps == sorted(set(steps))
    assert {50, 100, 150, 200} <= set(steps)
    assert all(row["reward"] == 1.0 and "learning_rate" not in row for _, row in rows)


def test_a_short_table_keeps_every_step(tmp_path: Path) -> None:
    table = CurveTable(tmp_path)
    table.add(1, {"reward": 1.0})
    table.add(2, {"kl": 0.5})
    assert table.thinned(20) == [(1, {"reward": 1.0}), (2, {"kl": 0.5})]


@pytest.mark.parametrize("main", [True, False])
def test_the_main_process_alone_writes_curves(tmp_path: Path, main: bool) -> None:
    curves, arguments = Curves(tmp_path), TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    state = TrainerState(global_step=1, is_world_process_zero=main)
    curves.on_log(arguments, state, TrainerControl(), {"reward": 1.0})
    curves.on_save(arguments, state, TrainerControl())
    assert (tmp_path / "curves.parquet").exists() == main


def test_a_line_now_and_then_says_how_far_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    curves = Curves(tmp_path)
    with caplog.at_level("INFO", logger="t2s_core.training"):
        for step in range(1, 31):
            state = TrainerState(global_step=step, max_steps=100, is_world_process_zero=True)
            curves.on_log(None, state, TrainerControl(), {"reward": 0.5, "step_time": 60.0})  # type: ignore[arg-type]
    assert [message.split(":")[0] for message in caplog.messages] == [
        f"step {step} of 100" for step in (1, 2, 5, 10, 20, 30)
    ]
    assert caplog.messages[-1] == "step 30 of 100: reward 0.5, s a step 60, about 1:10:00 left"
