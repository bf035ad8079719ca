"""Whether models work on this machine: they are loaded, asked about drawn tiles, and what they give is looked at.

What is checked is that the files, their reading and the device fit together, not how good a model is: published models
have never seen tiles like these.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import mean, median
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from t2s_core.errors import T2sError
from t2s_core.masks import upsample
from t2s_core.ports import Prompter, PromptRequest, Segmenter
from t2s_core.prompts import Box, Frame, InstancePrompt
from t2s_core.registry import load_prompter, load_segmenter
from t2s_core.replies import Answer, parse_reply
from t2s_core.world.samples import Sample, samples

N_TILES = 6
MIN_FORMAT_RATE = 0.8
"""Share of replies that must be readable. Broken weights or a wrong chat template give none."""
MIN_INSIDE = 0.5
"""Share of a mask's pixels that must lie in the box it was prompted with."""
MIN_RIGHT_MASKS = 0.8
"""Share of prompts whose masks must do so. Random weights fill the tile wherever the box is."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    ok: bool
    detail: str
    """What was seen."""
    seen: dict[str, float | str] = field(default_factory=dict)
    """The same as numbers: durations in seconds, shares 0 to 1."""


def check_models(prompter: str, segmenter: str, *, device: str) -> Iterator[Check]:
    """Load both and try them; each check as soon as it is done. A fault ends the checks of that model alone.

    Args:
        prompter: As `t2s_core.registry` names it, and known to be spelt right; so with `segmenter`.
        segmenter: Likewise.
        device: `cpu`, `cuda` or `cuda:N`.

    """
    tiles = _tiles()
    loaded, check = _attempt("prompter loads", lambda: _loaded(load_prompter(prompter, device=device)))
    yield check
    if loaded is not None:
        yield _attempt("prompter answers", lambda: _answers(loaded, tiles))[1]
    segments, check = _attempt("segmenter loads", lambda: _loaded(load_segmenter(segmenter, device=device)))
    yield check
    if segments is not None:
        yield _attempt("segmenter segments", lambda: _segments(segments, tiles))[1]


def _attempt(
    name: str, work: Callable[[], tuple[T | None, bool, str, dict[str, float | str]]]
) -> tuple[T | None, Check]:
    """What `work` gives and how it went; `MachineFault` and its kin become a failed check, bugs pass through."""
    start_s = time.perf_counter()
    try:
        given, ok, detail, seen = work()
    except T2sError as error:
        return None, Check(name, ok=False, detail=str(error))
    return given, Check(name, ok, detail, {**seen, "seconds": round(time.perf_counter() - start_s, 3)})


def _loaded(model: T) -> tuple[T, bool, str, dict[str, float | str]]:
    version = str(getattr(model, "version", ""))
    networks = [value for value in vars(model).values() if isinstance(value, torch.nn.Module)]
    if not networks:
        return model, True, f"{version}, no weights on this machine", {"version": version}
    first = next(networks[0].parameters())
    millions = sum(p.numel() for p in networks[0].parameters()) / 1e6
    device, dtype = str(first.device), str(first.dtype).removeprefix("torch.")
    detail = f"{version}, {millions:.1f} M parameters, {dtype} on {device}"
    return model, True, detail, {"version": version, "device": device, "dtype": dtype, "parameters_millions": millions}


def _answers(prompter: Prompter, tiles: Sequence[Sample]) -> tuple[None, bool, str, dict[str, float | str]]:
    frame_reply_px = Frame(prompter.profile.reply_px, prompter.profile.reply_px)
    took_s, ious, faults = list[float](), list[float](), list[str]()
    for number, tile in enumerate(tiles):
        height, width = tile.image.shape[:2]
        start_s = time.perf_counter()
        (reply,) = prompter.reply([PromptRequest(str(number), tile.image, f"the {tile.query.name}")])
        took_s.append(time.perf_counter() - start_s)
        judged = parse_reply(reply.text, truncated=reply.truncated, profile=prompter.profile)
        if not isinstance(judged, Answer):
            faults.append(f"{judged.reason}: {reply.text[:80]!r}")
            continue
        found = [p.rescaled(frame_reply_px, Frame(width, height)).box for p in judged.instances_model_px]
        ious.append(
            _iou(_filled(found, (height, width)), _filled([i.box_tile_px for i in tile.instances], (height, width)))
        )
    rate, per_query_s = len(ious) / len(tiles), median(took_s)
    detail = f"{len(ious)} of {len(tiles)} replies are in format, {per_query_s:.2f} s per tile-query"
    if ious:
        detail += f"; mean IoU of its boxes with the drawn ones {mean(ious):.2f} (no limit)"
    if faults:
        detail += f"; e.g. {faults[0]}"
    seen: dict[str, float | str] = {"format_rate": rate, "seconds_per_tile_query": round(per_query_s, 4)}
    return None, rate >= MIN_FORMAT_RATE, detail, seen | ({"box_iou": mean(ious)} if ious else {})


def _segments(segmenter: Segmenter, tiles: Sequence[Sample]) -> tuple[None, bool, str, dict[str, float | str]]:
    took_s, ious, inside, finite = list[float](), list[float](), list[float](), True
    for tile in tiles:
        prompts = [_true_prompt(one.box_tile_px, one.points_tile_px) for one in tile.instances]
        start_s = time.perf_counter()
        (masks,) = segmenter.decode(segmenter.encode([tile.image]), [prompts])
        took_s.append(time.perf_counter() - start_s)
        for one, mask in zip(tile.instances, masks, strict=True):
            finite = finite and bool(np.isfinite(mask.logits).all())
            drawn = upsample(mask.logits, one.mask.shape) > 0
            box = _filled([one.box_tile_px], one.mask.shape)
            inside.append(float((drawn & box).sum() / drawn.sum()) if drawn.any() else 0.0)
            ious.append(_iou(drawn, one.mask))
    right, per_tile_s = mean(share >= MIN_INSIDE for share in inside), median(took_s)
    numbers = "all logits are finite" if finite else "some logits are NaN or infinite"
    detail = (
        f"{numbers}; {sum(share >= MIN_INSIDE for share in inside)} of {len(inside)} masks lie in their boxes, "
        f"mean IoU with the drawn objects {mean(ious):.2f} (no limit), {per_tile_s:.2f} s per tile"
    )
    seen: dict[str, float | str] = {"masks_in_boxes": right, "mask_iou": mean(ious), "seconds_per_tile": per_tile_s}
    return None, finite and right >= MIN_RIGHT_MASKS, detail, seen


def _tiles() -> list[Sample]:
    """Tiles with a thing that the question names plainly, always the same."""
    plain = (sample for sample in samples("test", 1000, 0.0) if sample.query.category == "direct")
    return list(islice(plain, N_TILES))


def _true_prompt(box: tuple[int, int, int, int], points: Sequence[tuple[int, int]]) -> InstancePrompt:
    x0, y0, x1, y1 = map(float, box)
    return InstancePrompt((x0, y0, x1, y1), tuple((x + 0.5, y + 0.5) for x, y in points))


def _filled(boxes: Sequence[Box], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    filled = np.zeros(shape, np.bool_)
    for x0, y0, x1, y1 in boxes:
        filled[round(y0) : round(y1), round(x0) : round(x1)] = True
    return filled


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    union = int((first | second).sum())
    return float((first & second).sum() / union) if union else 1.0
