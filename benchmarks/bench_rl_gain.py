"""What mask-only reinforcement adds to the bundled prompter, by `t2s train` itself. Takes up to two hours: run by name.

Held out are questions about test regions, worded as the test split words them; both models answer the same ones.
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
    group_size=8, questions_per_step=8, questions_per_pass=4, learning_rate=2e-5, kl_weight=0.02, warmup_steps=10,
    dtype="float32", freeze_vision=False, steps=100_000, minutes=80, save_steps=50, held_out=0, max_new_tokens=120,
)  # fmt: skip
N_HELD_OUT = 1_000


def measure() -> dict[str, Any]:
    """Held-out gIoU after minus before, with its paired interval."""
    torch.set_num_threads(os.cpu_count() or 1)
    folder = Path(os.environ.get("T2S_RL_GAIN_FOLDER") or tempfile.mkdtemp())
    started_s = time.monotonic()
    outcome = run_training(TrainSpec(dataset="world", settings=SETTINGS), folder, device="cpu")
    seconds = time.monotonic() - started_s
    before, after = (_ious(name) for name in ("bundled", f"qwen_vl:{outcome.model}"))
    gain = paired_bootstrap(after, before)
    table = CurveTable(folder)
    return {
        "value": round(gain.value, 4),
        "ci95": [round(value, 4) for value in gain.ci95],
        "unit": "gIoU after minus before, same held-out samples",
        "runs": 1,
        "details": {
            "status": outcome.status.value,
            "before": round(sum(before) / len(before), 4),
            "after": round(sum(after) / len(after), 4),
            "n": len(before),
            "steps": outcome.steps,
            "seconds": round(seconds),
            "settings": SETTINGS.model_dump(mode="json"),
            "reward": [[step, round(value, 4)] for step, name, value in table.rows if name == "reward"],
        },
    }


def _ious(prompter: str) -> list[float]:
    examples = open_examples("world", root=None, split="test", limit=N_HELD_OUT)
    setting = Setting(load_segmenter("bundled"))
    return [row.iou for row in evaluate(load_prompter(prompter), [setting], examples)[0].rows]
