"""Two processes train one model together, started as on two GPUs, here on the CPU (gloo)."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from pipeline.training import TrainSpec, run_training
from t2s_core.registry import prompter_directory
from t2s_core.training.curves import CurveTable
from t2s_core.training.settings import TrainSettings

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "infra" / "accelerate").glob("*.yaml"))
SETTINGS: dict[str, Any] = {
    "group_size": 4, "questions_per_step": 2, "max_new_tokens": 32, "temperature": 1.5, "learning_rate": 1e-3,
    "dtype": "float32", "held_out": 2, "held_out_steps": 1, "save_steps": 1, "kl_weight": 0.01,
}  # fmt: skip


def launch(folder: Path, *, steps: int, **settings: object) -> subprocess.CompletedProcess[str]:
    """`t2s train` under `accelerate launch` with the config that ships, no GPU in sight."""
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS | settings))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS[0])),
        *("-m", "flows.cli.app", "train", "--dataset", "world", "--out", str(folder / "training")),
        *("--settings", str(folder / "settings.yaml"), "--steps", str(steps), "--json"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True) as started:
        try:
            out, err = started.communicate()
        finally:
            started.terminate()  # at a test's time limit the launcher, so asked, ends its processes too
    return subprocess.CompletedProcess(command, started.returncode, out, err)


def last(folder: Path, curve: str) -> float:
    return [value for _, name, value in CurveTable(folder).rows if name == curve][-1]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_accelerate_reads_the_configs_that_ship(file: Path) -> None:
    config = load_config_from_file(str(file))
    assert (config.num_processes, config.distributed_type.value) == (2, "MULTI_GPU")


@pytest.mark.timeout(900)  # five starts of Python with torch
def test_two_processes_take_the_same_steps_and_one_writes(tmp_path: Path) -> None:
    first = launch(tmp_path, steps=1)
    assert first.returncode == 0, first.stderr
    done = launch(tmp_path, steps=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2, "one document, from one process"
    training = tmp_path / "training"
    rows = CurveTable(training).rows
    assert [step for step, name, _ in rows if name == "reward"] == [1, 2], "the second call went on"
    assert [step for step, name, _ in rows if name == "held_out/giou"] == [0, 1, 2]
    run_training(TrainSpec(dataset="world", settings=TrainSettings(**SETTINGS, steps=2)), tmp_path / "alone")
    of_two, of_one = (last(folder, "num_tokens") for folder in (training, tmp_path / "alone"))
    assert 0.75 < of_two / of_one < 1.33, "a step's questions are shared, not asked by each"
    before = load_file(prompter_directory("bundled") / "model.safetensors")
    after = load_file(training / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.isfinite(weight).all() for weight in after.values())
    assert not list(training.glob("*.part"))


def test_processes_that_cannot_share_a_step_say_so(tmp_path: Path) -> None:
    failed = launch(tmp_path, steps=1, questions_per_step=3)
    assert failed.returncode != 0
    assert "questions_per_step=3 is no multiple of questions_per_pass=1 on each of 2 processes; use 2" in failed.stderr
