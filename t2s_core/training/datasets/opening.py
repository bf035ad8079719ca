"""From a dataset's name to its examples."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast, get_args

from t2s_core.errors import BadInput
from t2s_core.training.examples import ExampleSet
from t2s_core.world.looks import Look
from t2s_core.world.queries import Split

_OPENERS = {
    # Named, not imported: Parquet's library is wanted by one of them only.
    "earthreason": "t2s_core.training.datasets.earthreason:open_earthreason",
    "rrsisd": "t2s_core.training.datasets.rrsisd:open_rrsisd",
    "refsegrs": "t2s_core.training.datasets.refsegrs:open_refsegrs",
    "risbench": "t2s_core.training.datasets.risbench:open_risbench",
    "curated": "t2s_core.training.datasets.curated:open_curated",
}
_DRAWN: dict[str, Look] = {"world": "clear", "world-haze": "haze"}
DATASETS = (*_DRAWN, *_OPENERS)
SPLITS: tuple[Split, ...] = get_args(Split)


def open_examples(dataset: str, *, root: Path | None, split: str, limit: int | None = None) -> ExampleSet:
    """Open a dataset's split without reading a pixel.

    Args:
        dataset: One of `DATASETS`.
        root: The directory that the dataset was unpacked into; None for the worlds, which are drawn.
        split: One of `SPLITS`.
        limit: At most so many examples, bad ones included, spread evenly over the split; all if None. The world has
            exactly as many as are asked for; `world-haze` is the same world on a hazy day.

    Raises:
        BadInput: All that is wrong with the arguments, or what the directory lacks, or that the split is empty.

    """
    problems: list[str] = []
    if dataset not in DATASETS:
        problems.append(f"dataset {dataset!r} is unknown; use one of {', '.join(DATASETS)}")
    elif dataset in _DRAWN and root is not None:
        problems.append(f"dataset {dataset!r} is drawn, not read from {root}; leave out --root")
    elif dataset not in _DRAWN and root is None:
        problems.append(f"dataset {dataset!r} is read from a directory; name it with --root")
    if split not in SPLITS:
        problems.append(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        problems.append(f"limit {limit} leaves no example; use at least 1, or leave it out")
    if problems:
        raise BadInput(*problems)
    if root is None:
        from t2s_core.training.datasets.world import WorldExamples

        return WorldExamples(cast("Split", split), limit, look=_DRAWN[dataset])
    module, _, name = _OPENERS[dataset].partition(":")
    opener = cast("Callable[[Path, str, int | None], ExampleSet]", getattr(importlib.import_module(module), name))
    return opener(root.expanduser(), split, limit)
