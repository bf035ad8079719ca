"""What a prompter's raw text says: instances, "no target", or nothing usable.

The text is written by a model, so everything in it is suspect and nothing in it may raise. How it is read:

- **Tags.** `<think>` ends at the first `</think>`; the answer stands between the next `<answer>` and `</answer>`.
  Without `<answer>` the answer is whatever follows the thought; an unfinished thought is no answer.
- **List.** Each `{...}` in the answer is a candidate, whatever surrounds it (a code fence, prose, one bracket too many
  or too few). Objects do not nest, and braces inside strings are not supported: no reply needs them, and one pass
  suffices.
- **Cut-off replies.** The complete instances of a truncated list count: the reply is an `Answer` whose `dropped` says
  that it was cut. With no complete instance it is `Unparsable`, unless the list is a closed `[]`.
- **Instances.** Keys are `bbox_2d` (alias `bbox`) and `positive_points` (alias `points`); others are ignored. Boxes are
  put in order and clamped into the frame, points are clamped into it. An instance without a box of some area or
  without one valid point is dropped: guessing a point would be inventing an answer.
- **Flood.** At most `profile.max_instances` are kept. Of boxes with IoU above 0.5 the larger is kept.
- A list whose every instance is invalid is `Unparsable`, never "no target".
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from t2s_core.profiles import PrompterProfile
from t2s_core.prompts import Box, InstancePrompt, Point

MAX_REPLY_CHARS = 200_000
"""Longer replies are cut here and count as truncated. 1,024 tokens are about 4,000 characters."""
DUPLICATE_IOU = 0.5
"""Two boxes that overlap more than this are the same object."""
ABSURD = 1e6
"""Coordinates beyond this are noise rather than something near the frame, and are refused instead of clamped."""
MIN_SIDE = 0.01
"""In units of the reply's frame. A thinner box is empty: it would not survive rescaling to the tile."""

_BOX_KEYS = ("bbox_2d", "bbox")
_POINT_KEYS = ("positive_points", "points")
_MAX_OBJECT_CHARS = 4_000
_MAX_OBJECT_BRACKETS = 200  # far below the interpreter's recursion limit, so that json cannot nest into it
_MAX_NOTES = 20
_BRACES = re.compile(r"[{}]")
_EMPTY_LIST = re.compile(r"\[\s*\]")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_KEY = re.compile(r'"([^"]*)"\s*:')


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply that says something: these instances, or none of them ("no target")."""

    instances_model_px: tuple[InstancePrompt, ...]
    """In `Frame(profile.reply_px, profile.reply_px)`, in the reply's order. Empty: the target is absent."""
    reasoning: str
    """The thought, without its tags."""
    dropped: tuple[str, ...]
    """One line for each instance, point or part of the reply that was not used, and why."""


@dataclass(frozen=True, slots=True)
class Unparsable:
    """A reply that says nothing usable. Not "no target": nobody knows what is there."""

    reason: str
    truncated: bool
    """True where the reply was cut off, so that a larger token limit may help."""
    reasoning: str


def parse_reply(text: str, *, truncated: bool, profile: PrompterProfile) -> Answer | Unparsable:
    """Read one reply, in time linear in its length. Raises nothing, whatever the text.

    Args:
        text: The prompter's raw text.
        truncated: True where generation hit its limit (`RawReply.truncated`).
        profile: Gives the reply's frame and the limits.

    """
    notes = _Notes()
    if len(text) > MAX_REPLY_CHARS:
        notes.add(f"the reply has {len(text)} characters; only the first {MAX_REPLY_CHARS} were read")
        text, truncated = text[:MAX_REPLY_CHARS], True
    reasoning, body, closed = _split(text)
    if body is None:
        return Unparsable("no answer after the thought", truncated, reasoning)
    collector = _Collector(profile=profile, notes=notes)
    end = 0
    for number, (chunk, has_brace, end) in enumerate(_objects(body)):
        if not has_brace and end == len(body) and truncated and not closed:
            notes.add(f"instance {number}: cut off")
            collector.n_cut += 1
        else:
            collector.take(number, chunk, has_brace=has_brace)
    if collector.kept:
        if not closed and truncated and "]" not in body[end:]:
            notes.add("the list is not closed: the reply was cut off")
        return Answer(tuple(collector.kept), reasoning, notes.lines())
    if collector.n_seen:
        why = collector.first_fault
        return Unparsable(f"none of {collector.n_seen} instances is valid; {why}", truncated, reasoning)
    if collector.n_cut:
        return Unparsable("cut off before the first instance was complete", truncated, reasoning)
    if _says_nothing(body):
        return Answer((), reasoning, notes.lines())
    return Unparsable("no list of instances in the answer", truncated, reasoning)


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """Which parts of the asked-for format a reply keeps to the letter; tolerance plays no part here."""

    tags_ok: bool
    """`<think>...</think><answer>...</answer>` with nothing around it and each tag once."""
    schema_ok: bool
    """The answer is one JSON list (fenced or not) of objects with a box of 4 and exactly the asked number of points."""


def reply_format(text: str, *, profile: PrompterProfile) -> ReplyFormat:
    """The two format terms of the reward. A valid `[]` keeps the schema."""
    text = text[:MAX_REPLY_CHARS].strip()
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    at = [text.find(tag) for tag in tags]
    tags_ok = (
        all(text.count(tag) == 1 for tag in tags)
        and at == sorted(at)
        and at[0] == 0
        and not text[at[1] + len(tags[1]) : at[2]].strip()
        and text.endswith(tags[3])
    )
    _, body, _ = _split(text)
    return ReplyFormat(tags_ok=tags_ok, schema_ok=body is not None and _schema_ok(body, profile))


def _split(text: str) -> tuple[str, str | None, bool]:
    """(reasoning, the answer or None, whether `</answer>` closes it)."""
    before, opened, rest = text.partition("<think>")
    if opened:
        thought, ended, rest = rest.partition("</think>")
        if not ended:
            thought, answered, rest = thought.partition("<answer>")
            if not answered:
                return thought.strip(), None, False
            rest = answered + rest
    else:
        thought, ended, rest = before.partition("</think>")
        if not ended:
            thought, rest = "", before
    _, tagged, answer = rest.partition("<answer>")
    body, closing, _ = (answer if tagged else rest).partition("</answer>")
    return thought.strip(), body, bool(closing)


def _objects(body: str) -> Iterator[tuple[str, bool, int]]:
    """Each object's inside, whether its brace was closed, and where it ends. One pass; the pieces do not overlap."""
    start: int | None = None
    for match in _BRACES.finditer(body):
        if match.group() == "{":
            if start is not None and body[start : match.start()].strip():
                # Its closing brace is missing, but the next object shows that it was written to its end.
                yield body[start : match.start()].rstrip().rstrip(","), False, match.start()
            start = match.end()
        elif start is not None:
            yield body[start : match.start()], True, match.end()
            start = None
    if start is not None:
        inside = body[start:].rstrip(
            "` \t\r\n"
        )  # the fence and the list's own bracket follow where the brace is missing
        yield inside.removesuffix("]") if inside.endswith("]]]") else inside, False, len(body)


@dataclass(slots=True)
class _Notes:
    """Reasons, the first few in full and the rest as a count: a flood of them must not fill the results."""

    first: list[str] = field(default_factory=list)
    n_more: int = 0

    def add(self, line: str) -> None:
        if len(self.first) < _MAX_NOTES:
            self.first.append(line)
        else:
            self.n_more += 1

    def lines(self) -> tuple[str, ...]:
        return (*self.first, *([f"and {self.n_more} more"] if self.n_more else []))


@dataclass(slots=True)
class _Collector:
    """Validated instances so far."""

    profile: PrompterProfile
    notes: _Notes
    kept: list[InstancePrompt] = field(default_factory=list)
    n_seen: int = 0
    n_cut: int = 0
    first_fault: str = ""

    def take(self, number: int, chunk: str, *, has_brace: bool) -> None:
        self.n_seen += 1
        found = _instance(chunk, has_brace=has_brace, profile=self.profile)
        if isinstance(found, str):
            self.first_fault = self.first_fault or f"instance {number}: {found}"
            self.notes.add(f"instance {number}: {found}")
            return
        instance, note = found
        if note:
            self.notes.add(f"instance {number}: {note}")
        # At most max_instances are kept, so this is bounded work for each candidate.
        twins = [i for i, other in enumerate(self.kept) if box_iou(instance.box, other.box) > DUPLICATE_IOU]
        if twins:
            self.notes.add(f"instance {number}: near-duplicate of an earlier one; the larger is kept")
            if all(_area(instance.box) > _area(self.kept[i].box) for i in twins):
                self.kept[twins[0]] = instance
                for i in reversed(twins[1:]):
                    del self.kept[i]
        elif len(self.kept) >= self.profile.max_instances:
            self.notes.add(f"instance {number}: beyond the limit of {self.profile.max_instances} instances")
        else:
            self.kept.append(instance)


def _instance(chunk: str, *, has_brace: bool, profile: PrompterProfile) -> tuple[InstancePrompt, str] | str:
    """One object's inside to an instance and a note (may be empty), or the reason why it is none."""
    if len(chunk) > _MAX_OBJECT_CHARS or chunk.count("[") > _MAX_OBJECT_BRACKETS:
        return "too long or too deeply nested"
    try:
        # All numbers become floats: an integer of 5,000 digits is infinite instead of an error.
        fields = json.loads("{" + chunk + "}", parse_int=float)
    except ValueError:
        fields = _mended(chunk, has_brace=has_brace)
        if fields is None:
            return "not JSON"
    raw_box = next((fields[key] for key in _BOX_KEYS if key in fields), None)
    raw_points = next((fields[key] for key in _POINT_KEYS if key in fields), None)
    box = _box(raw_box, profile.reply_px)
    if isinstance(box, str):
        return box
    if not isinstance(raw_points, list) or not raw_points:
        return "no points"
    points = [point for point in (_point(raw, profile.reply_px) for raw in raw_points) if point is not None]
    if not points:
        return "none of its points is valid"
    notes = []
    if len(points) < len(raw_points):
        notes.append(f"{len(raw_points) - len(points)} of {len(raw_points)} points are invalid")
    if len(points) > profile.points_per_instance:
        notes.append(f"only the first {profile.points_per_instance} of {len(points)} points are used")
    return InstancePrompt(box, tuple(points[: profile.points_per_instance])), "; ".join(notes)


def _mended(chunk: str, *, has_brace: bool) -> dict[str, object] | None:
    """Fields of an object with one stray or missing bracket: numbers are grouped by key, brackets ignored."""
    faults = abs(chunk.count("[") - chunk.count("]")) + (0 if has_brace else 1)
    if faults > 1:
        return None
    keys = list(_KEY.finditer(chunk))
    fields: dict[str, object] = {}
    ends = [*(key.start() for key in keys[1:]), len(chunk)]
    for key, end in zip(keys, ends, strict=False):  # without keys there is an end too many
        value = chunk[key.end() : end]
        if re.sub(r"[\[\],\s]", "", _NUMBER.sub("", value)):
            continue  # text, not numbers: some other key, or one that the caller will miss
        numbers = [float(number) for number in _NUMBER.findall(value)]
        if key.group(1) in _POINT_KEYS:
            if len(numbers) % 2:
                return None
            fields[key.group(1)] = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
        else:
            fields[key.group(1)] = numbers
    return fields


def _coordinates(raw: object, count: int) -> list[float] | None:
    if not isinstance(raw, list) or len(raw) != count:
        return None
    # `type is` and not isinstance: json's true and false are no coordinates.
    if not all(type(value) is float and math.isfinite(value) and abs(value) <= ABSURD for value in raw):
        return None
    return raw


def _box(raw: object, side: int) -> Box | str:
    values = _coordinates(raw, 4)
    if values is None:
        return "the box is not four finite numbers"
    xa, ya, xb, yb = (min(max(value, 0.0), float(side)) for value in values)
    box = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    if box[2] - box[0] < MIN_SIDE or box[3] - box[1] < MIN_SIDE:
        return "the box is empty within the frame"
    return box


def _point(raw: object, side: int) -> Point | None:
    values = _coordinates(raw, 2)
    if values is None:
        return None
    # The frame is half-open: a point on its far border moves to the middle of the last pixel.
    x, y = (max(value, 0.0) if value < side else side - 0.5 for value in values)
    return x, y


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes of one frame, XYXY."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(a) + _area(b) - shared)


def _says_nothing(body: str) -> bool:
    """Whether the answer is `[]`, give or take one bracket. Prose that merely mentions brackets is not."""
    return bool(_EMPTY_LIST.search(body)) and body.count("[") + body.count("]") <= 3  # noqa: PLR2004 -- 2 and a stray one


def _schema_ok(body: str, profile: PrompterProfile) -> bool:
    body = body.strip()
    if body.startswith("```") and body.endswith("```") and "\n" in body:
        body = body[body.index("\n") : -3].strip()
    try:
        found = json.loads(body, parse_int=float)
    except (ValueError, RecursionError):  # the second where brackets nest thousands deep
        return False
    return isinstance(found, list) and all(_entry_ok(entry, profile.points_per_instance) for entry in found)


def _entry_ok(entry: object, n_points: int) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"bbox_2d", "positive_points"}:
        return False
    points = entry["positive_points"]
    return (
        _coordinates(entry["bbox_2d"], 4) is not None
        and isinstance(points, list)
        and len(points) == n_points
        and all(_coordinates(point, 2) is not None for point in points)
    )
