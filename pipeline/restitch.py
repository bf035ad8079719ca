"""New thresholds and other features for a run, from its committed tile results: no pixel read, no model asked."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import lease
from pipeline.conduct import Stages, conduct
from pipeline.manifest import RunStatus, new_run_id, now, read_run, write_manifest
from pipeline.preflight import threshold_problems
from pipeline.prepare import linking_problems
from pipeline.progress import Progress
from pipeline.provenance import spec_digest
from pipeline.queries import Mode
from pipeline.rebuilt import plans_of, prepared_of
from pipeline.region import Outcome, conclude, fail, query_entries
from pipeline.report import NAME as REPORT
from pipeline.spec import RunSpec
from pipeline.stages import RunContext
from pipeline.storage import Store
from pipeline.work import Workers
from t2s_core.errors import BadInput


@dataclass(frozen=True)
class Changes:
    """What is to be different. None leaves a setting as it is; what is given holds for every query."""

    threshold: float | None = None
    mode: Mode | None = None
    min_area_m2: float | None = None
    simplify_m: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """By query id, for single queries; they go before `threshold`."""

    def to_json(self) -> dict[str, Any]:
        """What is given."""
        given = {name: getattr(self, name) for name in ("threshold", "mode", "min_area_m2", "simplify_m")}
        changes = {name: value for name, value in given.items() if value is not None}
        return {**changes, **({"thresholds": dict(self.thresholds)} if self.thresholds else {})}


_LATER = Stages(segment=None)


def restitch(
    out_url: str, changes: Changes, workers: Workers, progress: Progress, *, scenes_at_once: int = 1
) -> Outcome:
    """Make mosaics and features of a run anew where `changes` ask for it.

    The run's specification changes with them, and its history says so. What has its mosaic or features already is left
    alone, so that an interrupted restitch goes on where it was when it is repeated, with or without its changes.
    `scenes_at_once`: see `conduct`. Raises `BadInput` where no run is or another one is at work.
    """
    store, run_id = Store.at(out_url), new_run_id()
    with lease.held(store, run_id):
        manifest = read_run(store)
        spec = changed(RunSpec(**manifest["spec"]), changes)
        start_s = time.perf_counter()
        _begin(manifest, spec, changes, run_id)
        write_manifest(store, manifest)
        digest = manifest["history"][-1]["spec_digest"]
        prepared, context = prepared_of(manifest, store), RunContext(store, spec, run_id, digest)
        store.remove(REPORT)
        plans = plans_of(manifest, store)
        try:
            outcomes = conduct(plans, context, _LATER, workers, progress, at_once=scenes_at_once)
            return conclude(prepared, manifest, outcomes, start_s)
        except Exception as error:
            fail(prepared, manifest, plans, error, start_s)
            raise


def changed(spec: RunSpec, changes: Changes) -> RunSpec:
    """The specification with the changes. Raises `BadInput` with all that is wrong with them."""
    known = [query.query_id for query in spec.queries]
    problems = [
        f"--query {query_id}: the run has no such query; it has {', '.join(known)}"
        for query_id in changes.thresholds
        if query_id not in known
    ]
    thresholds = [value for value in (changes.threshold, *changes.thresholds.values()) if value is not None]
    problems += [str(problem) for value in thresholds for problem in threshold_problems(value)]
    given = {k: v for k, v in changes.to_json().items() if k != "thresholds"}
    # A query's own setting goes before the run's, so what holds for every query takes the place of both.
    queries = tuple(
        query.model_copy(
            update={
                **dict.fromkeys(given),
                **({"threshold": changes.thresholds[query.query_id]} if query.query_id in changes.thresholds else {}),
            }
        )
        for query in spec.queries
    )
    new = spec.model_copy(update={**given, "queries": queries})
    problems += [str(problem) for problem in linking_problems(new, new.overlap_px)]
    if problems:
        raise BadInput(*problems)
    return new


def _begin(manifest: dict[str, Any], spec: RunSpec, changes: Changes, run_id: str) -> None:
    started = now()
    document = spec.model_dump(mode="json")
    digest = spec_digest(document)
    manifest.pop("error", None)
    manifest.update(
        run_id=run_id,
        status=RunStatus.RUNNING.value,
        started=started,
        spec=document,
        specs={**manifest.get("specs", {}), digest: document},
        queries=query_entries(spec),
    )
    invocation = {"run_id": run_id, "started": started, "spec_digest": digest, "models": manifest["models"]}
    manifest["history"].append({**invocation, "restitch": changes.to_json()})
