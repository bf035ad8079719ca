"""What is asked of the world: a text, the classes that answer it, and how one class of many may be singled out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from t2s_core.world.classes import NAMES, Kind
from t2s_core.world.clues import CLUE_FRAMES, CLUES
from t2s_core.world.nonsense import nonsense
from t2s_core.world.nowhere import NOWHERE, NOWHERE_CLUES, NOWHERE_REASONS
from t2s_core.world.phrases import FRAMES, GROUPS, NOUNS, RELATED, RELATIONS, TRAIN_NOUNS
from t2s_core.world.reasons import REASONS
from t2s_core.world.tiles import Instance

Split = Literal["train", "val", "test"]
Category = Literal["direct", "reasoning", "group", "relation", "nowhere"]

FIRST_SEED: dict[Split, int] = {"train": 0, "val": 1_000_000_000, "test": 1_500_000_000}
"""Regions of a split have seeds from here up to the next split's: no region is in two splits."""

NOTHING = "no such thing"
"""What a reply calls a target that this world does not know."""


@dataclass(frozen=True, slots=True)
class WorldQuery:
    """One question with its meaning."""

    id: str
    """A slug: equal meaning, equal id, whatever the wording."""
    text: str
    name: str
    """What the target is called in a reply's reasoning."""
    kinds: frozenset[Kind]
    """The answer is every visible thing of these classes; empty for what is nowhere in the world."""
    category: Category
    relation: str | None = None
    """Set where only one of several things is meant, judged within a tile: `largest`, `leftmost`, `topmost`."""
    about: str = ""
    """The noun or clue that a training sentence was made of: those of a meaning are asked alike, however many
    sentences each has. Empty in val and test, where it is the sentences that are asked alike."""

    def answer(self, instances: Sequence[Instance]) -> list[Instance]:
        """Those of a tile's instances that this query means, in their order."""
        found = [one for one in instances if one.kind in self.kinds]
        if self.relation is None or not found:
            return found
        return [min(found, key=_RANK[self.relation])]

    def clear(self, instances: Sequence[Instance]) -> bool:
        """Whether a relation is decidable here: the first is ahead of the second by a margin that can be seen."""
        found = sorted(
            (_RANK[self.relation](one) for one in instances if one.kind in self.kinds) if self.relation else []
        )
        if len(found) < 2:
            return True
        margin = 0.25 * abs(found[0]) if self.relation == "largest" else 12
        return bool(found[1] - found[0] >= margin)


_RANK: dict[str, Callable[[Instance], int]] = {
    "largest": lambda one: -int(one.mask.sum()),
    "leftmost": lambda one: one.box_tile_px[0],
    "topmost": lambda one: one.box_tile_px[1],
}


@cache
def all_queries(split: Split) -> tuple[WorldQuery, ...]:
    """Every query of a split. No text occurs in two splits."""
    found: list[WorldQuery] = []
    train = split == "train"
    for kind, nouns in NOUNS.items():
        name, slug, kinds = NAMES[kind], _slug(NAMES[kind]), frozenset({kind})
        for noun in (*nouns, *TRAIN_NOUNS[kind]) if train else nouns:
            about = noun if train else ""
            found += [WorldQuery(slug, t, name, kinds, "direct", None, about) for t in _fill(FRAMES[split], noun)]
        for text in REASONS[kind][split]:
            found.append(WorldQuery(slug, text, name, kinds, "reasoning", None, text if train else ""))
        if train:
            found += [WorldQuery(slug, t, name, kinds, "reasoning", None, c) for c, t in _completed(CLUES[kind])]
    for name, (kinds, wording) in GROUPS.items():
        found += [WorldQuery(name, t, name, kinds, "group") for t in wording[split]]
    for relation, wording in RELATIONS.items():
        for name, kinds in RELATED.items():
            full = f"{relation} {name}"
            found += [
                WorldQuery(_slug(full), t, full, kinds, "relation", relation) for t in _fill(wording[split], name)
            ]
    return (*found, *(_nowhere_in_training() if train else _nowhere(NOWHERE[split], FRAMES[split])))


def demo_queries() -> tuple[WorldQuery, ...]:
    """Queries that every tile can decide for itself, worded as the test split is; the last target is nowhere."""
    wanted = (
        ("lake", "a place for a seaplane to land"),
        ("solar-farm", "what turns sunlight into electricity?"),
        ("sports-pitch", "where do teams play a football match?"),
        ("forest", "a dense canopy of trees"),
        ("storage-tank", "where is fuel stored?"),
        ("car-park", "rows of parking bays"),
        ("harbour", "the port where cargo is unloaded"),
        ("red-roof", "mark where the red roof is"),
        ("golf-course", "mark where the golf course is"),
    )
    table = {(query.id, query.text): query for query in all_queries("test")}
    return tuple(table[key] for key in wanted)


class QueryDraw:
    """Draws queries for tiles: every meaning alike, then all that it is asked about, then every wording of that."""

    def __init__(self, split: Split, rng: np.random.Generator) -> None:
        self.rng = rng
        self.by_meaning: dict[tuple[str, Category], dict[str, list[WorldQuery]]] = {}
        for query in all_queries(split):
            key = ("nowhere" if query.category == "nowhere" else query.id, query.category)
            self.by_meaning.setdefault(key, {}).setdefault(query.about, []).append(query)
        self.weights = _WEIGHT | ({"nowhere": _NOWHERE_IN_TRAINING} if split == "train" else {})
        self.examples = {key: next(iter(abouts.values()))[0] for key, abouts in self.by_meaning.items()}

    def draw(self, instances: Sequence[Instance], visible_px: dict[Kind, int], absent: bool) -> WorldQuery | None:
        """A query whose target is absent or present as asked, or None where this tile has none such.

        `visible_px` counts pixels, slivers included: a target that shows only a sliver is neither, and not asked for.
        """
        present_kinds = {one.kind for one in instances}
        options: list[tuple[str, Category]] = []
        weights: list[float] = []
        for key, query in self.examples.items():
            here = bool(query.kinds & present_kinds)
            sliver = not here and any(visible_px.get(kind, 0) for kind in query.kinds)
            if sliver or here == absent or not query.clear(instances):
                continue
            options.append(key)
            weights.append(self.weights[key[1]])
        if not options:
            return None
        share = np.asarray(weights) / np.sum(weights)
        wordings = list(self.by_meaning[options[int(self.rng.choice(len(options), p=share))]].values())
        # One group costs no random number, so what val and test draw does not depend on there being groups.
        group = wordings[0] if len(wordings) == 1 else wordings[int(self.rng.integers(len(wordings)))]
        return group[int(self.rng.integers(len(group)))]


_WEIGHT: dict[Category, float] = {"direct": 1.0, "reasoning": 1.2, "group": 1.0, "relation": 0.15, "nowhere": 3.0}
"""How often each meaning is asked. Relations have 21 meanings and are about a tenth of what is asked."""

_NOWHERE_IN_TRAINING = 7.0
"""Instead, where a thousand subjects share it: what is never asked about is taken for something of the world."""


def _fill(frames: Sequence[str], noun: str) -> list[str]:
    return [frame.replace("{n}", noun) for frame in frames]


def _completed(clues: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """(clue, sentence) pairs: training alone has them, so that no test sentence is one of a pattern."""
    return [(clue, frame.replace("{c}", clue)) for form in clues for clue in clues[form] for frame in CLUE_FRAMES[form]]


def _nowhere(nouns: Sequence[str], frames: Sequence[str]) -> list[WorldQuery]:
    return [WorldQuery(_slug(noun), t, NOTHING, frozenset(), "nowhere") for noun in nouns for t in _fill(frames, noun)]


def _nowhere_in_training() -> list[WorldQuery]:
    """Nouns and words without meaning, each in a third of the frames, and questions and clues as classes have them."""
    found: list[WorldQuery] = []
    for number, noun in enumerate((*NOWHERE["train"], *nonsense())):
        found += [replace(one, about=noun) for one in _nowhere((noun,), FRAMES["train"][number % 3 :: 3])]
    for about, text in (*((text, text) for text in NOWHERE_REASONS), *_completed(NOWHERE_CLUES)):
        found.append(WorldQuery("nowhere", text, NOTHING, frozenset(), "nowhere", None, about))
    return found


def _slug(name: str) -> str:
    return name.replace(" ", "-")
