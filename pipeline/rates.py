"""What a pair of models was measured to take, kept from run to run, so that the next one can be predicted."""

import hashlib
import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.plan import ModelVersions
from pipeline.storage import Store

_FULL_MEASURE = 200
"""Tile-queries from which a run's rates replace those of any earlier run, however long that was."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one run's last invocation."""

    run_id: str
    n_tile_queries: int
    """That were computed; what was there before was not measured."""
    n_workers: int
    tokens: float
    """Generated, per tile-query."""
    segment_s: float
    """Seconds of a worker per tile-query: reading, models, writing."""
    load_s: float
    """Seconds in which a worker loads its models, once."""
    finish_s: float
    """Seconds of a worker per megapixel and query: stitching, vectorising, publishing."""
    fixed_s: float
    """Seconds in which no worker was needed: starting them, the report."""

    def predict(self, *, tile_queries: int, mpx_queries: float, n_workers: int) -> float:
        """Seconds on the clock, for workers like those that were measured."""
        at_work_s = tile_queries * self.segment_s + mpx_queries * self.finish_s
        return self.fixed_s + (self.load_s if tile_queries else 0.0) + at_work_s / n_workers


def rates_of(manifest: Mapping[str, Any]) -> Rates | None:
    """What a finished run's manifest tells; None where its last invocation computed nothing or left no timings."""
    last, timings = manifest["history"][-1], manifest["timings"]
    n, n_workers = last.get("computed", 0), timings.get("n_workers", 0)
    if not n or not n_workers or not timings["stitched_mpx"]:
        return None
    workers_s = timings["workers_s"]
    finish_s = sum(workers_s[name] for name in ("stitching", "vectorising", "publishing"))
    segment_s = timings["busy_s"]["segment"] - workers_s["loading"]
    load_s = workers_s["loading"] / n_workers
    return Rates(
        run_id=manifest["run_id"],
        n_tile_queries=n,
        n_workers=n_workers,
        tokens=last["n_tokens"] / n,
        segment_s=segment_s / n,
        load_s=load_s,
        finish_s=finish_s / timings["stitched_mpx"],
        fixed_s=max(0.0, timings["wall_s"] - load_s - (segment_s + finish_s) / n_workers),
    )


@dataclass(frozen=True, slots=True)
class RateBook:
    """Rates by models and by where they ran."""

    store: Store
    cluster: str
    """As a run is told it: `local` and `local-gpu` mean this machine, an address means whatever works there."""
    device: str

    def read(self, versions: ModelVersions) -> Rates | None:
        """Of the latest run worth measuring; None where these models have not run here."""
        try:
            return Rates(**json.loads(self.store.read(self._name(versions)))["rates"])
        except FileNotFoundError:
            return None

    def write(self, versions: ModelVersions, rates: Rates) -> None:
        """Keep the rates of a run, unless an earlier one measured much more."""
        before = self.read(versions)
        if before is not None and rates.n_tile_queries < min(before.n_tile_queries, _FULL_MEASURE):
            return
        self.store.write(self._name(versions), json.dumps({**self._key(versions), "rates": asdict(rates)}).encode())

    def _key(self, versions: ModelVersions) -> dict[str, str]:
        here = {"local": "", "local-gpu": " local-gpu"}
        where = socket.gethostname() + here[self.cluster] if self.cluster in here else self.cluster
        return {
            "prompter": versions.prompter, "segmenter": versions.segmenter, "where": where, "device": self.device
        }  # fmt: skip

    def _name(self, versions: ModelVersions) -> str:
        text = json.dumps({"version": 1, **self._key(versions)}, sort_keys=True)
        return f"rates/{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
