"""Counters in Prometheus' way. Dask's endpoint, `/metrics` of a worker or scheduler, shows those of its process."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge


class _Batches:
    """Counters of batches that were committed."""

    def __init__(self, prefix: str, whose: str) -> None:
        self._tile_queries = Counter(f"{prefix}_tile_queries", f"Tile-queries that {whose} committed.", ["status"])
        self._tokens = Counter(f"{prefix}_tokens", "Tokens that the prompter wrote for them.")
        self._batches = Counter(f"{prefix}_batches_committed", f"Batches of tile-queries that {whose} committed.")
        self._seconds = Counter(
            f"{prefix}_stage_seconds", f"Seconds that {whose} spent, by stage; stages overlap.", ["stage"]
        )

    def count(self, statuses: Mapping[str, int], n_tokens: int, seconds: Mapping[str, float]) -> None:
        """A batch was committed. `statuses`: tile-queries by status; `seconds`: by stage."""
        self._batches.inc()
        self._tokens.inc(n_tokens)
        for status, n in statuses.items():
            self._tile_queries.labels(status).inc(n)
        for stage, spent in seconds.items():
            self._seconds.labels(stage).inc(spent)


OF_WORKER = _Batches("t2s", "this worker")
OF_RUN = _Batches("t2s_run", "all workers of this run")
"""Counted where the run is driven, by what workers say: some workers have no endpoint of their own."""
_STEPS = Gauge("t2s_run_steps", "Steps of the run that this process drives.", ["stage", "scene", "state"])


def show_steps(stage: str, scene_id: str, *, wanted: int, done: int) -> None:
    """How far a stage of a scene is."""
    _STEPS.labels(stage, scene_id, "wanted").set(wanted)
    _STEPS.labels(stage, scene_id, "done").set(done)
