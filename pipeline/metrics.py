"""Counters in Prometheus' way. Dask's endpoint, `/metrics` of a worker or scheduler, shows those of its process."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

_TILE_QUERIES = Counter("t2s_tile_queries", "Tile-queries that this worker committed.", ["status"])
_TOKENS = Counter("t2s_tokens", "Tokens that the prompter wrote for them.")
_BATCHES = Counter("t2s_batches_committed", "Batches of tile-queries that this worker committed.")
_SECONDS = Counter("t2s_stage_seconds", "Seconds that this worker was at work, by stage; stages overlap.", ["stage"])
_STEPS = Gauge("t2s_run_steps", "Steps of the run that this process drives.", ["stage", "scene", "state"])


def count_batch(statuses: Mapping[str, int], n_tokens: int, seconds: Mapping[str, float]) -> None:
    """A batch was committed. `statuses`: tile-queries by status; `seconds`: by stage."""
    _BATCHES.inc()
    _TOKENS.inc(n_tokens)
    for status, n in statuses.items():
        _TILE_QUERIES.labels(status).inc(n)
    for stage, spent in seconds.items():
        _SECONDS.labels(stage).inc(spent)


def show_steps(stage: str, scene_id: str, *, wanted: int, done: int) -> None:
    """How far a stage of a scene is."""
    _STEPS.labels(stage, scene_id, "wanted").set(wanted)
    _STEPS.labels(stage, scene_id, "done").set(done)
