"""The prompt template that published models are asked with, and templates of the user's own."""

from pathlib import Path
from typing import Literal

from t2s_core.profiles import PromptTemplate, read_template

_SYSTEM = (
    "You look at one overhead image (from a satellite, an aircraft or a drone) and find what a question asks for. "
    "Work out first which objects the question means, then say where each of them is."
)

_USER = """\
Question: "{query}"

Find every object in the image that answers the question. The question may describe a purpose or a situation \
instead of naming a thing: decide what fits, judging by shape, size, colour and surroundings.

Write your thoughts between <think> and </think>. Then write the result between <answer> and </answer>, as a JSON \
list in a ```json fence with one entry for each separate object:

<think>which objects fit, and why</think><answer>
```json
[{"bbox_2d": [x1, y1, x2, y2], "positive_points": [%(points)s]}]
```
</answer>

- "bbox_2d" is the tightest box around the object: left, top, right, bottom.
- "positive_points" holds exactly %(count)s that lie on the object itself, well inside its outline.
- %(convention)s
- Nothing in the image fits? Then the list is empty: [].
"""


def default_template(
    *, model_px: int, coordinates: Literal["pixel", "permille"], points_per_instance: int = 2
) -> PromptTemplate:
    """Our template for large models, which follow instructions; small trained ones bring theirs in their profile.

    Args:
        model_px: Side of the square that the model sees.
        coordinates: As in `PrompterProfile`.
        points_per_instance: How many points to ask for on each object.

    """
    if coordinates == "pixel":
        convention = f"All coordinates are whole pixels of this {model_px} x {model_px} image"
    else:
        convention = "All coordinates are whole numbers from 0 to 1000, in thousandths of the image's width and height"
    return PromptTemplate(
        system=_SYSTEM,
        user=_USER
        % {
            "points": ", ".join(f"[x{i}, y{i}]" for i in range(1, points_per_instance + 1)),
            "count": "1 point" if points_per_instance == 1 else f"{points_per_instance} points",
            "convention": f"{convention}; x grows to the right, y grows downwards, both start at the top left corner.",
        },
    )


def load_template(path: Path) -> PromptTemplate:
    """Read `--prompt-template FILE`: a JSON object with the keys `system` and `user`.

    JSON because the method's package has no YAML, and because it keeps line breaks and quotes beyond doubt.

    Raises:
        BadInput: The file cannot be read, is no such object, or `user` does not contain `{query}` exactly once.

    """
    return read_template(path)
