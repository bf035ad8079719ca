"""Words that mean nothing, so that unknown letters are not taken for something of the world."""

from functools import cache

import numpy as np

_ONSETS = ("b", "bl", "d", "dr", "f", "fl", "g", "gr", "j", "k", "kl", "m", "n", "p", "pl", "qu", "r", "s", "sk", "sn",
           "t", "tr", "v", "w", "y", "z", "zw")  # fmt: skip
_VOWELS = (*"aaeeiioouu", "oo", "ai")
_CODAS = ("b", "d", "f", "g", "k", "lp", "m", "mp", "nd", "ng", "nk", "p", "rb", "rn", "rx", "sk", "t", "v", "x", "zz")
_BEFORE = ("old", "big", "small", "round", "long", "tall", "open", "green", "red", "blue", "white", "steel", "wide")
_AFTER = ("course", "park", "station", "tower", "yard", "line", "machine", "club", "hole", "stand", "works")
"""Nothing that is a class of the world: an unknown word before "road" would be the name of a road."""


@cache
def nonsense(count: int = 300) -> tuple[str, ...]:
    """`count` pronounceable words without meaning, always the same; half of them in a compound with a real word."""
    rng = np.random.default_rng(29)
    found: dict[str, None] = {}
    while len(found) < count:
        syllables = ["".join(_one(rng, part) for part in (_ONSETS, _VOWELS)) for _ in range(int(rng.integers(1, 3)))]
        word = "".join(syllables) + _one(rng, _ONSETS) + _one(rng, _VOWELS) + _one(rng, _CODAS)
        match len(found) % 4:
            case 1:
                word = f"{_one(rng, _BEFORE)} {word}"
            case 3:
                word = f"{word} {_one(rng, _AFTER)}"
        found[word] = None
    return tuple(found)


def _one(rng: np.random.Generator, parts: tuple[str, ...]) -> str:
    return parts[int(rng.integers(len(parts)))]
