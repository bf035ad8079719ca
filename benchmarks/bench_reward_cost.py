"""Scoring a group of replies: the image encoded once, against encoded for every reply as the paper's code does."""

import time
from typing import Any

import numpy as np
import torch

from t2s_core.bundled.build.tokenizer import reply_text
from t2s_core.ports import RawReply
from t2s_core.registry import load_segmenter, prompter_profile
from t2s_core.rewards import MaskReward
from t2s_core.training.examples import Example
from t2s_core.world.samples import samples

GROUP, QUESTIONS, RUNS = 16, 4, 5


def measure() -> dict[str, Any]:
    """Ratio of re-encoding's time to ours with the bundled segmenter on one thread; the two timed in turn."""
    torch.set_num_threads(1)
    reward = MaskReward(load_segmenter("bundled"), prompter_profile("bundled"))
    groups = []
    for number, sample in enumerate(samples("val", QUESTIONS, 0.0)):
        example = Example(str(number), str(number), sample.image, sample.query.text, "", sample.mask)
        reply = RawReply(reply_text(sample.query.name, sample.instances), truncated=False, n_tokens=0)
        groups.append(([example] * GROUP, [reply] * GROUP))
    ours_s, each_s = [], []
    for _ in range(RUNS):
        start_s = time.perf_counter()
        ours = [reward.iou(examples, replies) for examples, replies in groups]
        ours_s.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        each = [
            [reward.iou([example], [reply])[0] for example, reply in zip(examples, replies, strict=True)]
            for examples, replies in groups
        ]
        each_s.append(time.perf_counter() - start_s)
        if not np.allclose(ours, each, atol=0.01):
            raise RuntimeError("scores differ")
    ratios = [b / a for a, b in zip(ours_s, each_s, strict=True)]
    return {
        "ratio": round(float(np.median(ratios)), 2),
        "unit": "seconds with an encoding for each reply / seconds of ours",
        "runs": RUNS,
        "details": {
            "replies_in_a_group": GROUP,
            "ours_s_for_a_group": round(float(np.median(ours_s)) / QUESTIONS, 4),
            "each_s_for_a_group": round(float(np.median(each_s)) / QUESTIONS, 4),
        },
    }
