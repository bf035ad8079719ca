"""Corrected features: what a person made of a run's polygons, as truth for that run's queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import geopandas as gpd
import shapely
from shapely.geometry.base import BaseGeometry

from pipeline.aoi import Aoi, aoi_in_scene_px
from pipeline.curate_labels import crs_text, digest_of, read_outlines
from pipeline.curate_words import is_missing, key_of
from pipeline.features import read_features
from pipeline.mosaics import finished
from pipeline.pixels import UnreadablePixels, open_scene
from pipeline.runs import FinishedRun
from pipeline.scenes import Scene
from t2s_core.errors import BadInput

_ANY_SCENE = ""


@dataclass(frozen=True)
class CorrectedLayer:
    """Corrections of one run. Truth wherever the run looked: the person saw what it found, and what it missed."""

    href: str
    etag: str
    """32 hex digits of the corrections and of the mosaics that say where the run looked."""
    run: FinishedRun
    crs: str
    areas: Mapping[tuple[str, str], BaseGeometry]
    """By scene_id (empty: of any scene) and query_id: all outlines united, in `crs`."""
    reviewed: frozenset[tuple[str, str]]
    """(scene_id, query_id) that the corrections are truth for."""
    cover: Aoi | None
    """Where they are; None means wherever the run looked."""
    notes: Sequence[str] = ()

    def area_of(self, scene_id: str, query_id: str) -> BaseGeometry:
        """What a scene's corrections outline for a query, in `crs`; may be empty."""
        parts = [self.areas.get((name, query_id)) for name in (scene_id, _ANY_SCENE)]
        return shapely.union_all([part for part in parts if part is not None])


def read_corrections(run: FinishedRun, href: str, reviewed: Sequence[str], cover: Aoi | None) -> CorrectedLayer:
    """Corrected features of a run.

    Args:
        run: Whose features they were.
        href: Any vector file with the column `query` or `query_id` (features as QGIS shows them have it), and perhaps
            `scene_id`; without it an outline counts in every scene that it lies in.
        reviewed: `query_id` or `scene_id/query_id` that the file is truth for; all of the run if empty.
        cover: Where they are truth; wherever the run looked if None.

    Raises:
        BadInput: All that is wrong, also where features of the run have vanished without a trace from the file and
            `reviewed` does not say that this was meant: half a file would teach that nothing is there.

    """
    table, outlines, mended = read_outlines(href)
    areas, problems = _areas(href, run, table, outlines)
    pairs, of_pairs = _reviewed(run, reviewed)
    problems += of_pairs
    facts = {pair: finished(run.store, *pair) for pair in sorted(pairs)}
    problems += [
        f"{run.store.url}: {scene_id}/{query_id} has no finished mosaic; run the same command again"
        for (scene_id, query_id), fact in facts.items()
        if fact is None
    ]
    problems += [p for scene in run.scenes for p in _scene_problems(scene, run)]
    if problems:
        raise BadInput(*problems)
    crs = crs_text(table.crs)
    looked = {pair: fact.get("t2s:fingerprint") for pair, fact in facts.items() if fact is not None}
    etag = digest_of(areas, f"{crs} {looked}")
    notes = [f"{href}: {mended} outlines were invalid and were mended"] if mended else []
    layer = CorrectedLayer(href, etag, run, crs, areas, frozenset(pairs), cover, notes)
    vanished = [] if reviewed else _vanished(layer)
    if vanished:
        raise BadInput(*vanished)
    return layer


def _areas(
    href: str, run: FinishedRun, table: gpd.GeoDataFrame, outlines: Sequence[BaseGeometry]
) -> tuple[dict[tuple[str, str], BaseGeometry], list[str]]:
    """By (scene_id, query_id), and what is wrong with the rows."""
    ids = {q.query_id: q.query_id for q in run.queries} | {key_of(q.text): q.query_id for q in run.queries}
    names = {scene.scene_id for scene in run.scenes} | {_ANY_SCENE}
    columns = [name for name in ("query_id", "query", "scene_id") if name in table.columns]
    if not {"query", "query_id"} & set(columns):
        return {}, [f"{href}: has neither a column query nor query_id; say in one of them what each outline shows"]
    parts: dict[tuple[str, str], list[BaseGeometry]] = {}
    faults: dict[str, int] = {}
    for number, (row, outline) in enumerate(zip(table[columns].to_dict("records"), outlines, strict=True), start=1):
        said = next((row[c] for c in ("query_id", "query") if c in row and not is_missing(row[c])), None)
        query_id = None if said is None else ids.get(str(said).strip(), ids.get(key_of(str(said))))
        scene_id = row.get("scene_id")
        scene_id = _ANY_SCENE if is_missing(scene_id) else str(scene_id).strip()
        if said is None:
            faults.setdefault("an outline without a query; fill the column", number)
        elif query_id is None:
            faults.setdefault(
                f"query {said!r} is none of the run's; {', '.join(q.query_id for q in run.queries)} are", number
            )
        elif scene_id not in names:
            faults.setdefault(f"scene_id {scene_id!r} is none of the run's; empty the cell or mend it", number)
        else:
            parts.setdefault((scene_id, query_id), []).append(outline)
    areas = {place: shapely.union_all(found) for place, found in parts.items()}
    return areas, [f"{href}: row {number}: {fault}" for fault, number in faults.items()]


def _reviewed(run: FinishedRun, names: Sequence[str]) -> tuple[set[tuple[str, str]], list[str]]:
    every = {(scene.scene_id, query.query_id) for scene in run.scenes for query in run.queries}
    if not names:
        return every, []
    pairs, problems = set(), []
    for name in names:
        named = {pair for pair in every if name in {pair[1], "/".join(pair)}}
        if not named:
            known = ", ".join(q.query_id for q in run.queries)
            problems.append(
                f"--reviewed {name}: the run has no such query (it has {known}), or no such scene before it"
            )
        pairs |= named
    return pairs, problems


def _scene_problems(scene: Scene, run: FinishedRun) -> list[str]:
    entry = next(e for e in run.manifest["scenes"] if e["scene_id"] == scene.scene_id)
    if entry["fault"]:
        return [f"{scene.href}: the run could not read it ({entry['fault']}); mend it and run again"]
    try:
        with open_scene(scene):
            return []
    except UnreadablePixels as error:
        return [str(error)]


def _vanished(layer: CorrectedLayer) -> list[str]:
    """Scenes and queries whose every feature is gone from the file."""
    run = layer.run
    before = read_features(run.store).groupby(["scene_id", "query_id"]).size()
    problems = []
    for scene in run.scenes:
        for query in run.queries:
            n_before = int(before.get((scene.scene_id, query.query_id), 0))
            area = layer.area_of(scene.scene_id, query.query_id)
            if n_before and (area.is_empty or aoi_in_scene_px(Aoi(layer.href, area, layer.crs), scene).is_empty):
                problems.append(
                    f"{layer.href}: the run found {n_before} features of {query.query_id} in {scene.scene_id} and none "
                    "is left; name what was checked, e.g. "
                    f"--reviewed {scene.scene_id}/{query.query_id} if all of them were wrong"
                )
    return problems
