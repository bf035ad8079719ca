"""Curated tiles: chips with true masks for training, from labels, from corrected features, and hard tiles listed."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pipeline.curate_chips import CutSettings, Pair, SceneCut, SceneWork, add_absent, cut_scene, place_of, source_of
from pipeline.curate_files import DATASET, FORMAT, MARKER, chip_name, claim, fingerprint, write_samples
from pipeline.curate_hard import HardTile, hard_tiles, write_hard
from pipeline.curate_prepare import PreparedCuration
from pipeline.curate_splits import Split
from pipeline.manifest import now
from pipeline.progress import Progress
from pipeline.runs import FinishedRun
from pipeline.storage import Store

Row = dict[str, Any]


def list_hard(store: Store, run: FinishedRun, min_disagreement: float, min_px: int) -> list[HardTile]:
    """Write `hard.parquet`; returns what is in it."""
    tiles = list(hard_tiles(run, min_disagreement=min_disagreement, min_px=min_px))
    write_hard(store, run, tiles)
    return tiles


@dataclass(frozen=True)
class Steps:
    """What is done per scene or run. Prefect wraps each in a task; without it they are called as they are."""

    cut: Callable[[SceneWork, CutSettings, Progress], SceneCut] = cut_scene
    add: Callable[[SceneWork, CutSettings, Sequence[Pair], frozenset[str]], dict[str, str]] = add_absent
    hard: Callable[[Store, FinishedRun, float, int], list[HardTile]] = list_hard


DIRECT = Steps()
"""The steps as they are, with no orchestrator around them."""


def run_curation(
    prepared: PreparedCuration, progress: Progress, *, steps: Steps = DIRECT, fresh: bool = False
) -> dict[str, Any]:
    """Make the data set; returns dataset.json, which is written last: where it is, the rest is.

    The same inputs give the same fingerprint. Raises `BadInput` where the directory holds another data set and not
    `fresh`, `MachineFault` where a scene no longer opens.
    """
    settings, spec, store = prepared.settings, prepared.spec, prepared.settings.store
    claim(store, prepared.inputs, fresh=fresh)
    progress.expect(len(prepared.works))
    cuts = [steps.cut(work, settings, progress) for work in prepared.works]
    absent = choose_absent(cuts, rate=spec.absent_rate, seed=spec.seed)
    digests = {name: digest for cut in cuts for name, digest in cut.digests.items()}
    rows: list[Row] = []
    for work, cut in zip(prepared.works, cuts, strict=True):
        chosen = absent[cut.scene_id]
        written = frozenset(chip_name(pair.chip.chip_id) for pair in cut.present)
        if chosen:
            digests |= steps.add(work, settings, chosen, written)
        rows += [row for pair in cut.present for row in _rows(pair, work, settings, absent=False)]
        rows += [row for pair in chosen for row in _rows(pair, work, settings, absent=True)]
    hard: list[HardTile] = []
    if prepared.hard is not None:
        hard = steps.hard(store, prepared.hard, spec.min_disagreement, spec.min_target_px)
    write_samples(store, rows)
    document = _document(prepared, cuts, rows, fingerprint(rows, digests), hard)
    store.write(DATASET, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    store.remove(MARKER)
    return document


def choose_absent(cuts: Sequence[SceneCut], *, rate: float, seed: int) -> dict[str, list[Pair]]:
    """By scene_id: of what is surely absent, in each split `rate` pairs for each pair with its target.

    Drawn by a seeded hash of chip and query, so that the order of scenes decides nothing.
    """
    every = [(cut.scene_id, pair) for cut in cuts for pair in cut.absent]
    n_present = Counter(pair.chip.split for cut in cuts for pair in cut.present)
    ranked = sorted(every, key=lambda entry: _rank(entry[1], seed))
    n_left = {split: round(rate * n_present[split]) for split in Split}
    chosen: dict[str, list[Pair]] = {cut.scene_id: [] for cut in cuts}
    for scene_id, pair in ranked:
        if n_left[pair.chip.split] > 0:
            n_left[pair.chip.split] -= 1
            chosen[scene_id].append(pair)
    return chosen


def _rank(pair: Pair, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{pair.chip.chip_id}/{pair.key}".encode()).hexdigest()


def _rows(pair: Pair, work: SceneWork, settings: CutSettings, *, absent: bool) -> list[Row]:
    """One per phrasing: what is drawn anew in training is the text, on the same mask."""
    words, chip = settings.vocabulary, pair.chip
    query = words.queries[pair.key]
    place, window = place_of(chip, work.scene), chip.grid.window_scene_px
    ids = {key: q.query_id for key, q in words.queries.items()}
    return [
        {
            "sample_id": f"{chip.chip_id}__{query.query_id}" + (f".{number}" if number else ""),
            "chip_id": chip.chip_id,
            "split": chip.split.value,
            "query": text,
            "query_id": query.query_id,
            "category": words.categories[pair.key],
            "absent": absent,
            "image": chip_name(chip.chip_id),
            "mask": pair.mask,
            "scene_id": work.scene.scene_id,
            "scene_etag": work.scene.etag,
            "label_source": source_of(work, pair.key, ids),
            "x0": window.x0,
            "y0": window.y0,
            "x1": window.x1,
            "y1": window.y1,
            "crs": place.crs,
            "transform": [float(v) for v in place.transform[:6]],
            "block": chip.block,
        }
        for number, text in enumerate(words.texts[pair.key])
    ]


def _document(
    prepared: PreparedCuration, cuts: Sequence[SceneCut], rows: Sequence[Row], digest: str, hard: Sequence[HardTile]
) -> dict[str, Any]:
    spec = prepared.spec
    unreadable = [line for cut in cuts for line in cut.unreadable]
    shares = {Split.TRAIN: 1 - spec.val - spec.test, Split.VAL: spec.val, Split.TEST: spec.test}
    splits = {
        split.value: {"share": round(shares[split], 6), **_counts([r for r in rows if r["split"] == split.value])}
        for split in Split
    }
    notes = [*prepared.notes, *(f"not read: {line}" for line in unreadable)]
    notes += [
        f"split {name} got no sample of its {entry['share']:g} of the ground; use a smaller --block-m, or more ground"
        for name, entry in splits.items()
        if rows and entry["share"] > 0 and not entry["samples"]
    ]
    return {
        "format": FORMAT,
        "fingerprint": digest,
        "tile_px": prepared.settings.tile_px,
        "levels": list(spec.levels),
        "gsd_m": {work.scene.scene_id: round(work.blocks.gsd_m, 6) for work in prepared.works},
        "seed": spec.seed,
        "splits": splits,
        "block_m": prepared.block_m,
        "counts": {
            "samples": len(rows),
            "chips": len({row["chip_id"] for row in rows}),
            "windows": dict(sum((cut.chips for cut in cuts), Counter())),
            "left_out": dict(sum((cut.left_out for cut in cuts), Counter())),
            "queries": _by_query(rows, prepared),
            "hard": dict(Counter(tile.status.value for tile in hard)),
        },
        "sources": list(prepared.sources),
        "notes": notes,
        "inputs": prepared.inputs,
        "created": now(),
    }


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "samples": len(rows),
        "present": sum(not row["absent"] for row in rows),
        "absent": sum(row["absent"] for row in rows),
        "chips": len({row["chip_id"] for row in rows}),
        "blocks": len({row["block"] for row in rows}),
    }


def _by_query(rows: Sequence[Row], prepared: PreparedCuration) -> list[dict[str, Any]]:
    """One entry per query, those without any sample too."""
    words = prepared.settings.vocabulary
    by_id: Mapping[str, list[Row]] = {
        query_id: list(group)
        for query_id, group in groupby(sorted(rows, key=lambda r: r["query_id"]), key=lambda r: r["query_id"])
    }
    entries = []
    for query in sorted(words.queries.values(), key=lambda q: q.query_id):
        of_query = by_id.get(query.query_id, [])
        counts = {
            split.value: {
                "present": sum(r["split"] == split.value and not r["absent"] for r in of_query),
                "absent": sum(r["split"] == split.value and r["absent"] for r in of_query),
            }
            for split in Split
        }
        entries.append({"query_id": query.query_id, "query": query.text, **counts})
    return entries
