"""The worst cases of an evaluation: a page that opens anywhere, offline, and loads nothing; and one small picture."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from t2s_core.ports import Image
from t2s_core.prompts import InstancePrompt
from t2s_core.training.evaluate import Case, Evaluation

TRUTH, PREDICTED, PROMPT, NEGATIVE = (255, 255, 255), (230, 80, 0), (0, 230, 255), (220, 0, 60)
_SIDE_PX = 480
"""Pictures are drawn about this large: small tiles are enlarged so that outlines stay thin, large ones reduced."""
_MAX_REPLY_CHARS = 4_000
_SHEET_CASES, _SHEET_COLUMNS, _SHEET_PX, _SHEET_CHARS = 8, 4, 280, 44
_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1.5rem; color: #1b1b1b }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.05rem; margin: 0 0 .4rem } .soft { color: #666 }
section { border-top: 1px solid #ddd; padding: 1.2rem 0 } .pictures { display: flex; flex-wrap: wrap; gap: .6rem }
img { max-width: 100%; height: auto; image-rendering: pixelated }
pre { background: #f6f6f6; padding: .8rem; overflow: auto; white-space: pre-wrap }
.key { display: inline-block; width: .8rem; height: .8rem; border: 1px solid #888; margin: 0 .3rem 0 .9rem }
"""
# Replies are a model's and queries a data set's: escaped, and forbidden to load or run anything besides.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(evaluation: Evaluation) -> bytes:
    """The HTML page, UTF-8, of `evaluation.worst`; pictures are data URIs."""
    title = f"{evaluation.dataset}: the {len(evaluation.worst)} worst of {len(evaluation.rows)} samples"
    facts = f"prompter {evaluation.prompter}, segmenter {evaluation.segmenter}, prompts {evaluation.kind}"
    body = "".join(_section(number, case, evaluation) for number, case in enumerate(evaluation.worst, start=1))
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{escape(title)}</h1><p class="soft">{escape(facts)}</p><p>Left the image; right '
        f"{_key(TRUTH, 'outline of the truth')}{_key(PREDICTED, 'prediction')}{_key(PROMPT, 'boxes and points')}"
        f"{_key(NEGATIVE, 'negative points')}{_key((0, 0, 0), 'not valid, not counted')}</p>{body}</body></html>\n"
    )
    return text.encode("utf-8", "replace")


def sheet(evaluation: Evaluation) -> bytes:
    """The first of `evaluation.worst` side by side, each above its IoU and question: a JPEG to look at in passing."""
    cases = evaluation.worst[:_SHEET_CASES]
    side, line = _SHEET_PX, 18
    rows = -(-len(cases) // _SHEET_COLUMNS)
    canvas = PillowImage.new("RGB", (_SHEET_COLUMNS * side, max(rows, 1) * (side + line)), "white")
    draw = ImageDraw.Draw(canvas)
    for place, case in enumerate(cases):
        x, y = place % _SHEET_COLUMNS * side, place // _SHEET_COLUMNS * (side + line)
        shown = PillowImage.fromarray(picture(case, evaluation.kind.altered(case.answer.prompts_tile_px)))
        shown.thumbnail((side - 4, side - 4))
        canvas.paste(shown, (x + 2, y + 2))
        text = f"{case.row.iou:.2f} {case.row.query}"
        # The font that Pillow brings has no glyphs beyond Latin ones.
        draw.text((x + 2, y + side), text.encode("ascii", "replace").decode()[:_SHEET_CHARS], fill="black")
    sink = io.BytesIO()
    canvas.save(sink, "JPEG", quality=80)
    return sink.getvalue()


def picture(case: Case, prompts_tile_px: Sequence[InstancePrompt]) -> Image:
    """The image with the prediction as a tint, the truth as an outline, and the prompts.

    Returns:
        (height, width, 3): the image's size times one factor that brings its longer side near 480 px.

    """
    image, factor = _scaled(case.example.image)
    size = image.shape[1], image.shape[0]
    predicted, truth = _fit(case.predicted, size), _fit(case.example.mask, size)
    shown = image.astype(np.float32)
    shown[predicted] = 0.55 * shown[predicted] + 0.45 * np.array(PREDICTED, np.float32)
    if case.example.valid is not None:
        shown[~_fit(case.example.valid, size)] *= 0.25
    shown[_outline(predicted)] = PREDICTED
    shown[_outline(truth)] = TRUTH
    canvas = PillowImage.fromarray(shown.astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for prompt in prompts_tile_px:
        # Larger and below: one object's negative is another's positive.
        _dots(draw, prompt.negative_points, factor, 7, NEGATIVE)
    for prompt in prompts_tile_px:
        if prompt.boxed:
            draw.rectangle([value * factor for value in prompt.box], outline=PROMPT)
        _dots(draw, prompt.points, factor, 4, PROMPT)
    return np.asarray(canvas)


def _section(number: int, case: Case, evaluation: Evaluation) -> str:
    row, answer = case.row, case.answer
    prompts = evaluation.kind.altered(answer.prompts_tile_px)
    shown = picture(case, prompts)
    facts = (
        f"{row.example_id} | {row.category or 'no category'} | {row.status} | {row.n_instances} instances | "
        f"truth {row.truth_px} px, predicted {row.predicted_px} px, shared {row.intersection_px} px"
    )
    reason = f"<p><b>note</b> {escape(row.reason)}</p>" if row.reason else ""
    reasoning = f"<p><b>reasoning</b> {escape(answer.reasoning)}</p>" if answer.reasoning else ""
    cut = "" if len(row.reply) <= _MAX_REPLY_CHARS else f"\n[{len(row.reply) - _MAX_REPLY_CHARS} characters more]"
    return (
        f'<section><h2>{number}. IoU {row.iou:.3f}: {escape(row.query)}</h2><p class="soft">{escape(facts)}</p>'
        f'<div class="pictures">{_img(case.example.image, shown, "image")}'
        f"{_img(shown, shown, 'truth, prediction and prompts')}</div>{reason}{reasoning}"
        f"<details><summary>reply and prompts</summary><pre>{escape(row.reply[:_MAX_REPLY_CHARS] + cut)}</pre>"
        f"<pre>{escape(_listed(prompts))}</pre></details></section>"
    )


def _listed(prompts: Iterable[InstancePrompt]) -> str:
    """The prompts as the segmenter got them, in pixels of the image."""
    lines = []
    for prompt in prompts:
        box = f"box {tuple(round(v, 1) for v in prompt.box)}" if prompt.boxed else "no box"
        points = " ".join(f"+({x:.1f}, {y:.1f})" for x, y in prompt.points)
        negatives = " ".join(f"-({x:.1f}, {y:.1f})" for x, y in prompt.negative_points)
        lines.append(" ".join(part for part in (box, points, negatives) if part))
    return "\n".join(lines) or "no prompts"


def _scaled(image: Image) -> tuple[Image, float]:
    """The picture near its drawn size, and how many of its pixels one of the image's takes."""
    height, width = image.shape[:2]
    longest = max(height, width)
    factor = float(round(_SIDE_PX / longest)) if longest <= _SIDE_PX else _SIDE_PX / longest
    size = max(1, round(width * factor)), max(1, round(height * factor))
    resampling = PillowImage.Resampling.NEAREST if factor >= 1 else PillowImage.Resampling.LANCZOS
    return np.asarray(PillowImage.fromarray(np.ascontiguousarray(image)).resize(size, resampling)), factor


def _fit(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at a picture's (width, height)."""
    return np.asarray(PillowImage.fromarray(mask).resize(size, PillowImage.Resampling.NEAREST), np.bool_)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True pixels with a False one beside them; the picture's border counts as False."""
    around = np.pad(mask, 1)
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    outline: NDArray[np.bool_] = mask & ~inside
    return outline


def _dots(
    draw: ImageDraw.ImageDraw,
    points: Iterable[tuple[float, float]],
    factor: float,
    radius_px: int,
    colour: tuple[int, int, int],
) -> None:
    for x, y in points:
        draw.circle((x * factor, y * factor), radius_px, fill=colour, outline=(0, 0, 0))


def _key(colour: tuple[int, int, int], meaning: str) -> str:
    return f'<span class="key" style="background:rgb{colour}"></span>{meaning}'


def _img(image: Image, like: Image, meaning: str) -> str:
    """An image as large on the page as another; a small one is stored as it is and enlarged by the browser."""
    height, width = like.shape[:2]
    stored = image if image.shape[0] <= height else _scaled(image)[0]
    sink = io.BytesIO()
    PillowImage.fromarray(np.ascontiguousarray(stored)).save(sink, "PNG", optimize=True)
    data = base64.b64encode(sink.getvalue()).decode()
    return f'<img alt="{meaning}" width="{width}" height="{height}" src="data:image/png;base64,{data}">'
