"""What mask-only reinforcement adds to the bundled prompter, by `t2s train` itself. Takes 50 minutes: run by name.

The supervised stage leaves nothing to win on the world as it was taught (its gIoU there is within a hundredth of what
perfect prompts reach), so the prompter is sent where a user would send it: to imagery that looks otherwise. On a hazy
day it misses most of what is there, and all that it is given to learn from are masks. Held out are test regions and the
test split's wordings; both models answer the same questions, on the hazy day and, lest something was forgotten, on
clear ones.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.training import TrainSpec, run_training
from t2s_core.metrics import paired_bootstrap
from t2s_core.registry import load_prompter, load_segmenter
from t2s_core.training.curves import CurveTable
from t2s_core.training.datasets.opening import open_examples
from t2s_core.training.evaluate import Setting, evaluate
from t2s_core.training.settings import TrainSettings

LONG = True
SETTINGS = TrainSettings(
    group_size=8, questions_per_step=8, learning_rate=4e-5, kl_weight=0.005, warmup_steps=10, dtype="float32",
    freeze_vision=False, steps=100_000, minutes=32, save_steps=50, held_out=0, max_new_tokens=120,
)  # fmt: skip
TAUGHT, NEW = "world", "world-haze"
N_HELD_OUT = 1_000


def measure() -> dict[str, Any]:
    """Held-out gIoU after minus before on the hazy day, with its paired interval."""
    torch.set_num_threads(os.cpu_count() or 1)
    folder = Path(os.environ.get("T2S_RL_GAIN_FOLDER") or tempfile.mkdtemp())
    started_s = time.monotonic()
    outcome = run_training(TrainSpec(dataset=NEW, settings=SETTINGS), folder, device="cpu")
    seconds = time.monotonic() - started_s
    ious = {
        dataset: [_ious(prompter, dataset) for prompter in ("bundled", f"qwen_vl:{outcome.model}")]
        for dataset in (NEW, TAUGHT)
    }
    gains = {dataset: paired_bootstrap(after, before) for dataset, (before, after) in ious.items()}
    return {
        "value": round(gains[NEW].value, 4),
        "ci95": [round(value, 4) for value in gains[NEW].ci95],
        "unit": f"gIoU after minus before, same held-out samples of {NEW}",
        "runs": 1,
        "details": {
            "status": outcome.status.value,
            "n": N_HELD_OUT,
            **{
                dataset: {
                    "before": round(sum(before) / len(before), 4),
                    "after": round(sum(after) / len(after), 4),
                    "gain_ci95": [round(value, 4) for value in gains[dataset].ci95],
                }
                for dataset, (before, after) in ious.items()
            },
            "steps": outcome.steps,
            "seconds": round(seconds),
            "settings": SETTINGS.model_dump(mode="json"),
            "reward": [[step, round(value, 4)] for step, name, value in CurveTable(folder).rows if name == "reward"],
        },
    }


def _ious(prompter: str, dataset: str) -> list[float]:
    examples = open_examples(dataset, root=None, split="test", limit=N_HELD_OUT)
    setting = Setting(load_segmenter("bundled"))
    return [row.iou for row in evaluate(load_prompter(prompter), [setting], examples, batch_size=32)[0].rows]
