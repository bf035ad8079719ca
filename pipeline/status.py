"""How a run stands, from what lies in its directory: nobody has to be running for it to be known."""

from typing import Any

from pipeline.committed import committed, total_counts
from pipeline.lease import read_lease
from pipeline.manifest import RunStatus, read_run
from pipeline.reasons import grouped
from pipeline.rebuilt import plans_of
from pipeline.spec import RunSpec
from pipeline.storage import Store


def run_status(out_url: str) -> dict[str, Any]:
    """The document of `t2s status --json`. Raises `BadInput` where there is no run."""
    store = Store.at(out_url)
    manifest = read_run(store)
    plans = plans_of(manifest, store)
    queries = RunSpec(**manifest["spec"]).queries
    states = [committed(store, plan, queries) for plan in plans]
    tallies = [state.tally(plan.scene.scene_id) for plan, state in zip(plans, states, strict=True)]
    failures = [f for tally in tallies for f in tally.failures]
    return {
        "status": _status(manifest, store).value,
        "run_id": manifest["run_id"],
        "tile_queries": total_counts(tallies),
        "failures": failures,
        "failure_reasons": grouped(failures),
        "unparsable": [f for tally in tallies for f in tally.unparsable],
        "skipped_scenes": manifest["skipped_scenes"],
        "damaged": sorted(name for state in states for name in state.damaged),
        "error": manifest.get("error"),
    }


def _status(manifest: dict[str, Any], store: Store) -> RunStatus:
    status = RunStatus(manifest["status"])
    if status is not RunStatus.RUNNING:
        return status
    lease = read_lease(store)
    return RunStatus.RUNNING if lease is not None and lease.alive else RunStatus.INTERRUPTED
