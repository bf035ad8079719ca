"""A whole region run: plan, segment, stitch, vectorise, publish. The same with and without Prefect."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline import lease
from pipeline.aoi import place
from pipeline.committed import Tally, committed, total_counts
from pipeline.conduct import DAMAGED, DIRECT, SceneOutcome, Stages, conduct
from pipeline.manifest import (
    SCHEMA_VERSION,
    RunStatus,
    new_run_id,
    now,
    read_manifest,
    software_versions,
    write_manifest,
)
from pipeline.objects import write_objects
from pipeline.plan import ScenePlan
from pipeline.prepare import Prepared, plan_scenes
from pipeline.progress import Progress
from pipeline.provenance import spec_digest
from pipeline.publish import publish_run, withdraw_scenes
from pipeline.rates import Rates
from pipeline.redaction import redacted
from pipeline.report import NAME as REPORT
from pipeline.report import write_report
from pipeline.scenes import Scene
from pipeline.spec import RunSpec
from pipeline.stages import RunContext, StageReceipt
from pipeline.storage import store_errors
from pipeline.timings import timings
from pipeline.tolerance import Tolerance
from pipeline.work import Workers


@dataclass(frozen=True)
class Outcome:
    """How an invocation ended."""

    status: RunStatus
    manifest: dict[str, Any]
    computed: int
    """Tile-queries that this invocation computed; 0 where everything was done already."""


def run_region(
    prepared: Prepared,
    workers: Workers,
    progress: Progress,
    *,
    stages: Stages = DIRECT,
    device: str = "auto",
    retry_failed: bool = False,
    fresh: bool = False,
    scenes_at_once: int = 1,
    rates: Rates | None = None,
) -> Outcome:
    """Do what is not done yet. Whatever happens, committed work stays and run.json says how far the run came.

    `scenes_at_once`: see `conduct`. `rates`: see `conclude`.

    Raises `BadInput` where another run is at work in the same directory. An exception of a stage is raised after the
    manifest says FAILED.
    """
    store, run_id = prepared.store, new_run_id()
    with lease.held(store, run_id):
        if fresh:
            for folder in ("tiles", "masks.zarr", "features", "objects", "cog", "stac", "checksums", DAMAGED):
                store.remove(folder)
        earlier = None if fresh else read_manifest(store)
        started, start_s = now(), time.perf_counter()
        known = {entry["scene_id"]: entry for entry in earlier["scenes"]} if earlier else {}
        plans = plan_scenes(prepared, known, workers)
        _withdraw_outside(prepared, plans, known)
        manifest = _manifest(prepared, plans, run_id, earlier, started)
        write_manifest(store, manifest)
        store.remove(REPORT)  # of an earlier end: until this one ends, nothing has an end to report
        digest = manifest["history"][-1]["spec_digest"]
        tolerance = _tolerance(prepared.spec, plans)
        context = RunContext(store, prepared.spec, run_id, digest, device, retry_failed, tolerance)
        try:
            outcomes = conduct(plans, context, stages, workers, progress, at_once=scenes_at_once)
            return conclude(prepared, manifest, outcomes, start_s, rates=rates)
        except Exception as error:
            fail(prepared, manifest, plans, error, start_s)
            raise


def _withdraw_outside(prepared: Prepared, plans: Sequence[ScenePlan], known: Mapping[str, Mapping[str, Any]]) -> None:
    """Take back what was published of scenes that the area of interest leaves out now. `known`: by id, as run.json has.

    Before run.json forgets them, so that an interrupted run does so the next time.
    """
    if prepared.aoi is None:
        return
    planned = {plan.scene.scene_id for plan in plans}
    gone = [Scene.from_json(dict(entry)) for scene_id, entry in known.items() if scene_id not in planned]
    withdraw_scenes(prepared.store, place(prepared.aoi, gone).missed)


def _tolerance(spec: RunSpec, plans: Sequence[ScenePlan]) -> Tolerance:
    if spec.max_failed is None:
        return Tolerance(None, 0)  # counting tiles goes through all of an area of interest
    return Tolerance(spec.max_failed, len(spec.queries) * sum(sum(plan.counts().values()) for plan in plans))


def fail(
    prepared: Prepared, manifest: dict[str, Any], plans: Sequence[ScenePlan], error: Exception, start_s: float
) -> None:
    """Say in run.json what an invocation died of and how far it came. `start_s`: `time.perf_counter()` at its start."""
    store, queries = prepared.store, prepared.spec.queries
    try:
        store.remove(REPORT)  # where run.json alone could not be written
        _add_tallies(manifest, [committed(store, plan, queries).tally(plan.scene.scene_id) for plan in plans])
    except store_errors():  # perhaps what it died of; `t2s status` counts once the storage is back
        manifest["counts"] = {}
    _end(manifest, RunStatus.FAILED, start_s, error=redacted(f"{type(error).__name__}: {error}"))
    write_manifest(store, manifest)


def conclude(
    prepared: Prepared,
    manifest: dict[str, Any],
    outcomes: Sequence[SceneOutcome],
    start_s: float,
    *,
    rates: Rates | None = None,
) -> Outcome:
    """What follows when all stages of all scenes are done: what spans scenes, the report, and run.json last.

    `rates`: by which what was computed could have been predicted; run.json says how far off that is.
    """
    receipts = [receipt for outcome in outcomes for receipt in outcome.receipts]
    _add_outcome(manifest, prepared, outcomes, receipts)
    manifest["timings"] = timings(receipts, prepared.scenes, time.perf_counter() - start_s)
    objects_start_s = time.perf_counter()
    manifest["objects"] = {
        q.query_id: write_objects(prepared.store, prepared.scenes, q, prepared.spec.rules_of(q).mode)
        for q in prepared.spec.queries
    }
    manifest["timings"]["stages_s"]["objects"] = round(time.perf_counter() - objects_start_s, 3)
    _end(manifest, status_of(manifest["counts"], prepared), start_s)
    _compare(manifest, rates)
    publish_run(prepared.store, manifest, receipts)
    signed = {scene.scene_id: scene.signed for scene in prepared.scenes if scene.signed}
    write_report(prepared.store, manifest, signed=signed)  # says how the run ended: nothing but run.json may follow
    write_manifest(prepared.store, manifest)  # last: a run that says SUCCESS has everything
    computed = sum(r.computed for r in receipts if r.stage == "segment")
    return Outcome(RunStatus(manifest["status"]), manifest, computed)


def query_entries(spec: RunSpec) -> list[dict[str, Any]]:
    """What run.json says of each query."""
    return [
        {
            "query_id": q.query_id,
            "query": q.text,
            "label": q.label,
            "threshold": spec.threshold_of(q),
            **asdict(spec.rules_of(q)),
        }
        for q in spec.queries
    ]


def status_of(counts: dict[str, int], prepared: Prepared) -> RunStatus:
    """SUCCESS, PARTIAL or FAILED, by what the tile-queries came to."""
    answered = counts["total"] - counts["failed"] - counts["pending"]
    if counts["total"] and not answered:
        return RunStatus.FAILED
    if counts["failed"] or counts["pending"] or prepared.skipped:
        return RunStatus.PARTIAL
    asked = counts["total"] - counts["skipped_nodata"]
    if asked and counts["unparsable"] / asked > prepared.spec.max_unparsable:
        return RunStatus.PARTIAL
    return RunStatus.SUCCESS


def _manifest(
    prepared: Prepared, plans: Sequence[ScenePlan], run_id: str, earlier: dict[str, Any] | None, started: str
) -> dict[str, Any]:
    asked = prepared.spec
    # What the user left open is said: whoever reads this needs no defaults of ours.
    spec = {**asked.model_dump(mode="json"), "tile_px": prepared.tile_px, "overlap_px": prepared.overlap_px}
    models = {
        "prompter": {"name": asked.models.prompter, "version": prepared.versions.prompter},
        "segmenter": {"name": asked.models.segmenter, "version": prepared.versions.segmenter},
    }
    digest = spec_digest(spec)
    invocation = {"run_id": run_id, "started": started, "spec_digest": digest, "models": models}
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "status": RunStatus.RUNNING.value,
        "started": started,
        "scenes": [
            {
                **p.scene.to_json(),
                "stretch": p.stretch.to_json(),
                "fault": p.fault,
                "levels": sorted(p.grids),
                **({} if p.sample is None else {"sample": sorted(p.sample)}),
            }
            for p in plans
        ],
        "queries": query_entries(asked),
        "models": models,
        "spec": spec,
        "specs": {**(earlier.get("specs", {}) if earlier else {}), digest: spec},
        "aoi": None
        if prepared.aoi is None
        # full precision: the plan is rebuilt from this, and its keys hash the area
        else {"href": prepared.aoi.href, "crs": prepared.aoi.crs, "wkt": prepared.aoi.geometry.wkt},
        "notes": list(prepared.notes),
        "skipped_scenes": [{"href": p.href, "problem": p.problem} for p in prepared.skipped],
        "versions": software_versions(),
        "timings": {},
        "counts": {},
        "failures": [],
        "unparsable": [],
        "history": [*(earlier["history"] if earlier else []), invocation],
    }


def _add_outcome(
    manifest: dict[str, Any],
    prepared: Prepared,
    outcomes: Sequence[SceneOutcome],
    receipts: Sequence[StageReceipt],
) -> None:
    _add_tallies(manifest, [outcome.tally for outcome in outcomes])
    features: Counter[str] = Counter({q.query_id: 0 for q in prepared.spec.queries})
    for receipt in receipts:
        features.update(receipt.details.get("features", {}))
    manifest["features"] = dict(features)
    manifest["seams"] = [
        {"scene_id": r.scene_id, "query_id": query_id, **check}
        for r in receipts
        for query_id, check in r.details.get("seams", {}).items()
    ]
    segmented = [r for r in receipts if r.stage == "segment"]
    manifest["history"][-1] |= {
        "computed": sum(r.computed for r in segmented),
        "n_tokens": sum(r.details["n_tokens"] for r in segmented),
        "damaged": sorted(name for outcome in outcomes for name in outcome.damaged),
    }


def _add_tallies(manifest: dict[str, Any], tallies: Sequence[Tally]) -> None:
    manifest["counts"] = total_counts(tallies)
    manifest["failures"] = [dict(f) for tally in tallies for f in tally.failures]
    manifest["unparsable"] = [dict(f) for tally in tallies for f in tally.unparsable]


def _compare(manifest: dict[str, Any], rates: Rates | None) -> None:
    timings, computed = manifest["timings"], manifest["history"][-1]["computed"]
    if rates is None or not computed or not timings["n_workers"]:
        return
    seconds = rates.predict(tile_queries=computed, mpx_queries=timings["stitched_mpx"], n_workers=timings["n_workers"])
    tokens = round(rates.tokens * computed)
    manifest["estimate"] = {"seconds": round(seconds, 1), "tokens": tokens, "measured_by": rates.run_id}


def _end(manifest: dict[str, Any], status: RunStatus, start_s: float, *, error: str | None = None) -> None:
    seconds = round(time.perf_counter() - start_s, 3)
    manifest["status"] = status.value
    manifest["timings"] = {**manifest["timings"], "wall_s": seconds}
    manifest["history"][-1] |= {"ended": now(), "status": status.value, "seconds": seconds}
    if error is not None:
        manifest["error"] = error
