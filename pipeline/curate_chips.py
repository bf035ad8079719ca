"""Cutting chips from one scene: what is target in them, what is absent for sure, and what must be left out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.curate_corrections import CorrectedLayer
from pipeline.curate_files import (
    BACKGROUND,
    NOT_VALID,
    TARGET,
    Georeference,
    chip_name,
    mask_name,
    write_chip,
    write_mask,
)
from pipeline.curate_labels import RasterLayer
from pipeline.curate_splits import SceneBlocks, Split, split_of
from pipeline.curate_truth import ChipGrid, Layer, SceneTruth, Seen
from pipeline.curate_words import Vocabulary
from pipeline.normalise import Stretch
from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.progress import Progress
from pipeline.read import read_window
from pipeline.scenes import Scene
from pipeline.storage import Store
from pipeline.tiling import TileGrid
from t2s_core.errors import MachineFault

MIN_VALID = 0.5
"""Share of a chip that must be data, and of a sample that must be known."""


@dataclass(frozen=True)
class SceneWork:
    """One scene with all that is known of it."""

    scene: Scene
    stretch: Stretch
    layers: Sequence[Layer]
    grids: Mapping[int, TileGrid]
    """By level."""
    blocks: SceneBlocks


@dataclass(frozen=True)
class CutSettings:
    """What all scenes of a data set share."""

    store: Store
    tile_px: int
    vocabulary: Vocabulary
    seed: int
    val: float
    test: float
    min_target_px: int


class Chip(NamedTuple):
    """A window that lies in one block."""

    chip_id: str
    grid: ChipGrid
    split: Split
    block: str


class Pair(NamedTuple):
    """A chip and a query (its key)."""

    chip: Chip
    key: str
    mask: str | None
    """The mask's name; None where all of the chip is data and the target is absent."""


class _Opened(NamedTuple):
    dataset: Any
    truth: SceneTruth


@dataclass
class SceneCut:
    """What came of one scene."""

    scene_id: str
    present: list[Pair] = field(default_factory=list)
    absent: list[Pair] = field(default_factory=list)
    """Candidates: nothing is written for them yet."""
    digests: dict[str, str] = field(default_factory=dict)
    """Of written chips and masks, by name."""
    chips: Counter[str] = field(default_factory=Counter)
    """Windows by what became of them."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Chip-queries that are no example, by reason."""
    unreadable: list[str] = field(default_factory=list)


def chips_of(work: SceneWork, settings: CutSettings) -> Iterator[Chip | None]:
    """Every window of the scene's grids, as a chip or as None where it crosses a block's border."""
    for level, grid in sorted(work.grids.items()):
        for row in range(grid.rows):
            for col in range(grid.cols):
                window = grid.window(row, col)
                block = work.blocks.block_of(window, level)
                if block is None:
                    yield None
                    continue
                # slugs hold no dot, so these names are unique
                chip_id = f"{work.scene.scene_id}.{level}.{row}.{col}"
                split = split_of(block, seed=settings.seed, val=settings.val, test=settings.test)
                yield Chip(chip_id, ChipGrid(window, level), split, block)


def cut_scene(work: SceneWork, settings: CutSettings, progress: Progress) -> SceneCut:
    """Write the chips of a scene that show something, with their masks, and list what is absent.

    Raises `MachineFault` where the scene or a mask raster no longer opens; a window that cannot be read is counted.
    """
    cut = SceneCut(work.scene.scene_id)
    total = sum(grid.rows * grid.cols for grid in work.grids.values())
    advance = progress.start("curate", work.scene.scene_id, total, 0)
    ids = {query.query_id: key for key, query in settings.vocabulary.queries.items()}
    try:
        with open_scene(work.scene) as dataset, SceneTruth(work.layers, work.scene, ids) as truth:
            for chip in chips_of(work, settings):
                cut.chips["windows"] += 1
                cut.chips[_cut_chip(chip, work, settings, _Opened(dataset, truth), cut)] += 1
                advance(1)
    except UnreadablePixels as error:
        raise MachineFault(str(error)) from error
    return cut


def add_absent(
    work: SceneWork, settings: CutSettings, pairs: Sequence[Pair], written: frozenset[str]
) -> dict[str, str]:
    """Write the chips and masks of absent examples that are not there yet; returns their digests by name.

    `written`: names of the chips that are. Raises `MachineFault` where pixels that could be read now cannot.
    """
    digests: dict[str, str] = {}
    by_chip: dict[Chip, list[Pair]] = {}
    for pair in pairs:
        if pair.mask is not None or chip_name(pair.chip.chip_id) not in written:
            by_chip.setdefault(pair.chip, []).append(pair)
    if not by_chip:
        return {}
    try:
        with open_scene(work.scene) as dataset:
            for chip, wanted in by_chip.items():
                image, valid = _read(chip, work, settings, dataset)
                place = place_of(chip, work.scene)
                if chip_name(chip.chip_id) not in written:
                    digests[chip_name(chip.chip_id)] = write_chip(settings.store, chip.chip_id, image, place)
                for pair in wanted:
                    if pair.mask is not None:
                        mask = np.where(valid, BACKGROUND, NOT_VALID).astype(np.uint8)
                        query_id = settings.vocabulary.queries[pair.key].query_id
                        digests[pair.mask] = write_mask(settings.store, chip.chip_id, query_id, mask, place)
    except UnreadablePixels as error:
        raise MachineFault(str(error)) from error
    return digests


def place_of(chip: Chip, scene: Scene) -> Georeference:
    """Where a chip lies on the ground."""
    return Georeference(str(scene.geobox.crs), scene.geobox.affine @ chip.grid.to_scene_px)


def source_of(work: SceneWork, key: str, ids: Mapping[str, str]) -> str:
    """Which files say what is a query's target in a scene: `labels:lakes.gpkg; corrected:edit.gpkg`."""
    names = []
    for layer in work.layers:
        if isinstance(layer, CorrectedLayer):
            if (work.scene.scene_id, ids[key]) in layer.reviewed:
                names.append(f"corrected:{Path(layer.href).name}")
        elif key in (layer.values if isinstance(layer, RasterLayer) else layer.areas):
            names.append(f"labels:{Path(layer.href).name}")
    return "; ".join(names)


def _cut_chip(chip: Chip | None, work: SceneWork, settings: CutSettings, opened: _Opened, cut: SceneCut) -> str:
    """Add a chip's samples to `cut`; returns what became of the window."""
    if chip is None:
        return "crossing_blocks"
    try:
        seen = {key: opened.truth.on(chip.grid, key) for key in opened.truth.keys}
        seen = {key: one for key, one in seen.items() if one.known.any()}
        if not seen:
            return "unlabelled"  # known before a pixel is read: labels may cover little of a large scene
        image, valid = _read(chip, work, settings, opened.dataset)
    except UnreadablePixels as error:
        cut.unreadable.append(str(error))
        return "unreadable"
    if valid.mean() < MIN_VALID:
        return "mostly_nodata"
    verdicts = {key: _verdict(one, valid, settings.min_target_px) for key, one in seen.items()}
    place = place_of(chip, work.scene)
    shown = False
    for key, verdict in verdicts.items():
        query_id = settings.vocabulary.queries[key].query_id
        name = mask_name(chip.chip_id, query_id)
        if verdict == "present":
            mask = _mask(seen[key], valid)
            cut.digests[name] = write_mask(settings.store, chip.chip_id, query_id, mask, place)
            cut.present.append(Pair(chip, key, name))
            shown = True
        elif verdict == "absent":
            cut.absent.append(Pair(chip, key, None if valid.all() else name))
        else:
            cut.left_out[verdict] += 1
    if shown:
        cut.digests[chip_name(chip.chip_id)] = write_chip(settings.store, chip.chip_id, image, place)
    return "usable"


def _read(
    chip: Chip,
    work: SceneWork,
    settings: CutSettings,
    dataset: Any,  # noqa: ANN401
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What a run shows the model of this window, and which chip pixels are data."""
    pixels = read_window(dataset, work.scene, chip.grid.window_scene_px, settings.tile_px, work.stretch)
    return pixels.image, np.ascontiguousarray(chip.grid.at_middles(pixels.valid))


def _mask(seen: Seen, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    mask = np.where(seen.target, TARGET, BACKGROUND)
    return np.where(valid & seen.known, mask, NOT_VALID).astype(np.uint8)


def _verdict(seen: Seen, valid: NDArray[np.bool_], min_target_px: int) -> str:
    """`present` and `absent` make examples; `sliver` and `not_covered` do not."""
    n_target = int((seen.target & valid).sum())
    known = seen.known & valid
    if n_target == 0:
        # one pixel that nobody looked at may hold the target: only wholly covered ground is without it
        return "absent" if (known | ~valid).all() else "not_covered"
    if known.mean() < MIN_VALID:
        return "not_covered"
    return "present" if n_target >= min_target_px else "sliver"
