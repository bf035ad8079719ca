"""A long run whose pair finds nothing, while workers join, leave and die: nothing is lost, doubled or leaked."""

import io
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
from distributed import Client
from do_nothing import sparse_scene
from fakes import fake_profile
from processes import Cluster, cluster, kill, start
from regions import TILE_PX, make_models
from trials import FIRST_SEED, manifest, tiles

N_QUERIES = 8
N_TILE_QUERIES = int(os.environ.get("T2S_SOAK_TILE_QUERIES", "3200"))
LONG = 50_000
"""Tile-queries from which memory is judged: before that, processes still warm up."""
EVERY_S = 0.5


def test_workers_come_and_go_and_nothing_is_lost_doubled_or_leaked(tmp_path: Path) -> None:
    n_a_side = round((N_TILE_QUERIES / N_QUERIES) ** 0.5)
    expected = n_a_side**2 * N_QUERIES
    arguments = _arguments(tmp_path, n_a_side)
    with cluster(2) as dask, Client(dask.address, set_as_default=False) as client:
        command = start([*arguments, "--cluster", dask.address], tmp_path / "log")
        processes = {"scheduler": dask.scheduler, "command": command.process}
        with (
            _watched(processes, until=tmp_path / "out" / "masks.zarr") as watched,
            _coming_and_going(dask, client) as changes,
        ):
            code = command.wait(3600)
    assert code == 0, command.said
    document = manifest(tmp_path / "out")
    assert document["counts"] == {**dict.fromkeys(document["counts"], 0), "total": expected, "no_target": expected}
    assert document["history"][-1]["computed"] == expected
    asked = _tile_queries(tmp_path / "out")
    assert len(asked) == expected
    assert set(asked.values()) == {1}
    assert changes
    seconds = document["timings"]["wall_s"]
    print(f"{expected} tile-queries in {seconds:.0f} s, {dict(changes)}")
    for name, process in watched.items():
        print(f"{name}: {process.said()}")
    if expected >= LONG:
        assert max(process.growth() for process in watched.values()) < 0.02


def _arguments(folder: Path, n_a_side: int) -> list[object]:
    """Of a run of so many tiles a side: the pair answers every question at once."""
    scene = sparse_scene(folder / "scene.tif", (n_a_side + 1) * TILE_PX // 2)
    queries = [f"question {i}" for i in range(N_QUERIES)]
    header = {"profile": fake_profile(model_px=TILE_PX, tile_px=TILE_PX).model_dump()}
    replies = ({"tile": "*", "query": query, "reply": "<answer>[]</answer>"} for query in queries)
    segmenter = make_models(folder).segmenter
    (folder / "replies.jsonl").write_text("\n".join(map(json.dumps, [header, *replies])))
    asked = [argument for query in queries for argument in ("--query", query)]
    models = ["--prompter", f"recorded:{folder / 'replies.jsonl'}", "--segmenter", segmenter, "--device", "cpu"]
    layout = ["--overlap-px", TILE_PX // 2, "--batch-tiles", 16]
    return ["segment", scene, "--out", folder / "out", "--direct", *models, *layout, *asked]


def _tile_queries(out: Path) -> Counter[tuple[object, ...]]:
    """How often each was committed."""
    found: Counter[tuple[object, ...]] = Counter()
    for _, data in tiles(out).values():
        table = pq.read_table(io.BytesIO(data), columns=["row", "col", "query_id"])
        found.update(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return found


@contextmanager
def _coming_and_going(dask: Cluster, client: Client) -> Iterator[Counter[str]]:
    """One to three workers: every now and then one joins, is retired, or is killed."""
    draw, over, changes = random.Random(FIRST_SEED), threading.Event(), Counter[str]()

    def change() -> None:
        while not over.wait(draw.uniform(0.2, 1) * (5 if N_TILE_QUERIES >= LONG else 1)):
            what = draw.choice({1: ["join"], 2: ["join", "leave", "die"], 3: ["leave", "die"]}[len(dask.workers)])
            changes[what] += 1
            if what == "join":
                dask.add_worker()
                client.wait_for_workers(len(dask.workers))
                continue
            worker = dask.workers.pop(draw.randrange(len(dask.workers)))
            if what == "leave":
                client.retire_workers([address for address, pid in client.run(os.getpid).items() if pid == worker.pid])
                worker.join(60)
            kill(worker)

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        try:
            yield changes
        finally:
            over.set()
        changing.result()  # it raises what went wrong


@dataclass
class _Memory:
    """Of a process, over time."""

    pid: int
    mb: list[float] = field(default_factory=list)

    def look(self) -> None:
        try:
            self.mb.append(psutil.Process(self.pid).memory_info().rss / 1e6)
        except psutil.NoSuchProcess:
            return

    def growth(self) -> float:
        """From the sixth tenth to the last. In the first half Dask's logs of what happened fill up to their limits."""
        tenths = np.array_split(self.mb, 10)
        return float(np.median(tenths[-1]) / np.median(tenths[5]) - 1)

    def said(self) -> str:
        tenths = " ".join(f"{mb:.0f}" for mb in self.mb[:: max(1, len(self.mb) // 10)])
        return f"{tenths} MB, {max(self.mb):.0f} at most, grew {self.growth():+.1%}"


@contextmanager
def _watched(processes: Mapping[str, BaseProcess], until: Path) -> Iterator[dict[str, _Memory]]:
    """The memory of processes while tile-queries are answered: until a file is there that the next stage makes."""
    watched = {name: _Memory(process.pid) for name, process in processes.items() if process.pid is not None}
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY_S) and not until.exists():
            for process in watched.values():
                process.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watched
    finally:
        over.set()
        thread.join()
