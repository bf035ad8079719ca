"""What a run gives to others beside mosaics and features: COGs on request, STAC, checksums."""

import hashlib
import json
import posixpath
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from pipeline import checksums, mosaics, stac
from pipeline.cog import FOLDER as COGS
from pipeline.cog import cog_fingerprint, write_cogs
from pipeline.committed import Committed
from pipeline.features import FOLDER as FEATURES
from pipeline.features import partition_name
from pipeline.manifest import NAME, manifest_bytes
from pipeline.plan import ScenePlan
from pipeline.progress import Progress
from pipeline.provenance import TRACE
from pipeline.scenes import Scene
from pipeline.stages import RunContext, StageReceipt
from pipeline.storage import Store
from pipeline.work import InProcess, Workers
from t2s_core.errors import BadInput


def publish_scene(
    plan: ScenePlan,
    state: Committed,  # noqa: ARG001 -- what all stages are called with
    context: RunContext,
    workers: Workers,
    progress: Progress,
) -> StageReceipt:
    """Make a scene's COGs where they are asked for, and the list of its checksums. Its mosaics are finished."""
    start_s = time.perf_counter()
    store, scene = context.store, plan.scene
    advance = progress.start("publish", scene.scene_id, len(context.spec.queries), 0)
    computed, mosaics_by_query = 0, {}
    for query in context.spec.queries:
        attributes = mosaics.finished(store, scene.scene_id, query.query_id)
        if attributes is None:
            raise BadInput(f"{scene.scene_id}/{query.query_id}: no finished mosaic to publish; stitch it first.")
        mosaics_by_query[query.query_id] = attributes
        computed += _publish_cogs(store, scene, query.query_id, attributes, workers, wanted=context.spec.cog)
        advance(1)
    _list_checksums(store, scene.scene_id, mosaics_by_query, workers, anew=computed > 0)
    traces = {query_id: {key: found[key] for key in TRACE} for query_id, found in mosaics_by_query.items()}
    return StageReceipt("publish", scene.scene_id, time.perf_counter() - start_s, computed, {"traces": traces})


def publish_run(store: Store, manifest: Mapping[str, Any], receipts: Sequence[StageReceipt]) -> None:
    """Write the STAC collection and the run's checksums, for a manifest that is written next and not changed before."""
    traces = {receipt.scene_id: receipt.details["traces"] for receipt in receipts if receipt.stage == "publish"}
    stac.write_stac(store, manifest, traces)
    listed = [checksums.scene_list(scene["scene_id"]) for scene in manifest["scenes"]]
    listed += [*store.names(stac.FOLDER), *store.names("objects"), f"{mosaics.FOLDER}/zarr.json"]
    sums = checksums.sums_of(store, listed, InProcess())
    sums[NAME] = hashlib.sha256(manifest_bytes(manifest)).hexdigest()
    checksums.write_sums(store, checksums.RUN, sums)


def withdraw_scenes(store: Store, scene_ids: Sequence[str]) -> None:
    """Remove what readers would take for a part of the run. Tile results stay: scenes come back without models."""
    if not scene_ids:
        return
    theirs = {f"scene_id={scene_id}" for scene_id in scene_ids}
    for folder in {posixpath.dirname(name) for name in store.names(FEATURES)}:
        if posixpath.basename(folder) in theirs:
            store.remove(folder)
    for scene_id in scene_ids:
        for name in (f"{mosaics.FOLDER}/{scene_id}", f"{COGS}/{scene_id}", checksums.scene_list(scene_id)):
            store.remove(name)


def published_names(store: Store, scene_id: str, query_ids: Sequence[str]) -> list[str]:
    """Every object of a scene that its list of checksums must have."""
    names = [f"{mosaics.FOLDER}/{scene_id}/zarr.json"]
    for query_id in query_ids:
        names += store.names(f"{mosaics.FOLDER}/{mosaics.group_path(scene_id, query_id)}")
        names += store.names(f"{COGS}/{scene_id}/{query_id}", ".tif")
        names += store.names(posixpath.dirname(partition_name(scene_id, query_id)))
    return names


def _publish_cogs(
    store: Store, scene: Scene, query_id: str, attributes: Mapping[str, Any], workers: Workers, *, wanted: bool
) -> int:
    """How many were made or, where they are of an earlier mosaic, removed."""
    folder = f"{COGS}/{scene.scene_id}/{query_id}"
    if not wanted and not store.exists(folder):
        return 0
    if cog_fingerprint(store, scene.scene_id, query_id) == attributes["t2s:fingerprint"]:
        return 0
    if wanted:
        write_cogs(store, scene, query_id, attributes, workers)
    else:  # nobody asked for them this time, and they are not true any more
        store.remove(folder)
    return 1


def _list_checksums(
    store: Store, scene_id: str, attributes: Mapping[str, Mapping[str, Any]], workers: Workers, *, anew: bool
) -> None:
    """Sums are taken once, right after writing: taken again later they would bless what was damaged since."""
    name = checksums.scene_list(scene_id)
    facts = {
        query_id: [found, _metadata(store, scene_id, query_id), store.names(f"{COGS}/{scene_id}/{query_id}")]
        for query_id, found in attributes.items()
    }
    version = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if not anew and checksums.version_of_sums(store, name) == version:
        return
    store.fs.invalidate_cache()  # other processes wrote what is listed here
    names = published_names(store, scene_id, list(attributes))
    checksums.write_sums(store, name, checksums.sums_of(store, names, workers), version=version)


def _metadata(store: Store, scene_id: str, query_id: str) -> dict[str, str]:
    """What a partition says of its inputs and its maker."""
    with store.fs.open(store.path(partition_name(scene_id, query_id)), "rb") as file:
        metadata = pq.read_schema(file).metadata
    return {key.decode(): value.decode() for key, value in metadata.items() if key.startswith(b"t2s:")}
