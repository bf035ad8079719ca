"""Boxes and points drawn from masks, for the optional supervised stage before reinforcement."""

import json

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from t2s_core.profiles import PrompterProfile
from t2s_core.prompts import Frame, InstancePrompt, Point
from t2s_core.training.examples import Example

MIN_SHARE = 1e-4
"""Of the image. Smaller specks are left out, unless there is nothing larger: they teach noise."""


def clicks_from_mask(mask: NDArray[np.bool_], *, n_points: int, max_instances: int) -> list[InstancePrompt]:
    """Each connected part of a mask as a box and points well inside it.

    Args:
        mask: (height, width).
        n_points: On each part; the first is the pixel furthest from the edge, each next one is far from the edge and
            from those before.
        max_instances: The largest parts are kept, in reading order.

    Returns:
        Prompts in the mask's own pixels; empty for an empty mask.

    """
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:max_instances]
    large = [int(n) for n in order if sizes[n] >= MIN_SHARE * mask.size] or [int(n) for n in order[:1]]
    boxes = ndimage.find_objects(labels)
    return [_clicks(labels[boxes[n]] == n + 1, boxes[n], n_points) for n in sorted(large)]


def _clicks(part: NDArray[np.bool_], window: tuple[slice, slice], n_points: int) -> InstancePrompt:
    rows, columns = window
    depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    ys, xs = np.indices(part.shape)
    reach = float(depth.max())
    points: list[Point] = []
    score, away = depth, np.full(part.shape, np.inf)
    for _ in range(n_points):
        y, x = np.unravel_index(int(np.argmax(np.where(part, score, -1.0))), part.shape)
        points.append((float(columns.start + x) + 0.5, float(rows.start + y) + 0.5))
        # Depth counts up to half of the deepest, then distance from what is already clicked decides.
        away = np.minimum(away, np.hypot(ys - y, xs - x))
        score = np.minimum(depth / reach, 0.5) * away
    box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
    return InstancePrompt(box, tuple(points))


def taught_reply(example: Example, profile: PrompterProfile) -> str:
    """The reply that the supervised stage teaches: the asked format, coordinates as the profile has them.

    The reasoning is honest about how little a mask tells: it says how many objects answer the question.
    """
    height, width = example.mask.shape
    source, target = Frame(width, height), Frame(profile.reply_px, profile.reply_px)
    found = clicks_from_mask(
        example.mask, n_points=profile.points_per_instance, max_instances=min(profile.max_instances, 12)
    )
    entries = []
    for prompt in (one.rescaled(source, target) for one in found):
        x0, y0, x1, y1 = prompt.box
        entries.append(
            {
                "bbox_2d": [int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))],
                "positive_points": [[int(x), int(y)] for x, y in prompt.points],
            }
        )
    thought = f"{example.query}: {len(entries) or 'none'}"
    return f"<think>{thought}</think><answer>{json.dumps(entries, separators=(',', ':'))}</answer>"
