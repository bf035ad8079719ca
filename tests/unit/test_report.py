"""The report: one offline file, everything escaped, nothing hidden."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from pipeline import report, report_maps
from pipeline.features import Provenance, vectorise_scene_query
from pipeline.mosaics import Layout
from pipeline.normalise import IDENTITY
from pipeline.queries import Query
from pipeline.quicklook import quicklook
from pipeline.report import write_report
from pipeline.results import MaskRecord, TileResult, TileStatus, read_index, write_batch
from pipeline.scenes import Scene, resolve
from pipeline.stitching import planned_tiles, stitch_scene_query
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey
from pipeline.work import InProcess
from t2s_core.masks import quantise

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"
QUERIES = (
    Query(query_id="roofs", text="flat roofs that could carry solar panels", label="roof"),
    Query(query_id="evil", text=EVIL),
    Query(query_id="nothing", text="where is an iceberg?"),
)
TILE_PX, OVERLAP_PX = 96, 32


def draw_scene(folder: Path, name: str, epsg: int) -> Scene:
    """A GeoTIFF of soft blobs with a corner of no data."""
    rows, cols = np.mgrid[:220, :300]
    rng = np.random.default_rng(epsg)
    wave = [
        120 + 60 * np.sin(cols / a + rng.uniform(0, 6)) * np.cos(rows / b) for a, b in ((31, 23), (41, 37), (19, 29))
    ]
    image = np.clip(np.stack(wave) + rng.normal(0, 8, (3, 220, 300)), 1, 255).astype(np.uint8)
    image[:, (rows + cols) < 80] = 0
    path = folder / f"{name}.tif"
    transform = rasterio.transform.from_origin(391_000, 5_820_000, 0.5, 0.5)
    profile = {"driver": "GTiff", "width": 300, "height": 220, "count": 3, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", crs=f"EPSG:{epsg}", transform=transform, photometric="RGB", **profile) as dataset:
        dataset.write(image)
    (scene,) = resolve([str(path)]).scenes
    return scene


def answer(scene: Scene, query: Query, grid: TileGrid, row: int, col: int) -> TileResult:
    rng = np.random.default_rng((row, col, len(query.text)))
    status = TileStatus.NO_TARGET if query.query_id == "nothing" else TileStatus.OK
    status = TileStatus.FAILED if (row, col) == (1, 1) and query.query_id == "roofs" else status
    y, x = np.mgrid[:48, :48]
    blobs = [
        6 - np.hypot(y - rng.uniform(5, 43), x - rng.uniform(5, 43)).astype(np.float32) / rng.uniform(0.6, 1.6)
        for _ in range(3 if status is TileStatus.OK else 0)
    ]
    window = grid.window(row, col)
    rows, cols = np.mgrid[window.y0 : window.y1, window.x0 : window.x1]
    return TileResult(
        key=f"{query.query_id}-{row}-{col}",
        tile=TileKey(scene.scene_id, 1, row, col),
        window_scene_px=window,
        query_id=query.query_id,
        query=query.text,
        status=status,
        reason=f"CUDA error {EVIL}" if status is TileStatus.FAILED else "",
        reply="",
        reasoning=f"A flat bright surface near {row}/{col}. {EVIL}",
        n_tokens=9,
        prompts=(),
        masks=tuple(MaskRecord(quantise(b), 0.8) for b in blobs),
        valid=(rows + cols) >= 80,
        prompter="p@1",
        segmenter="s@1",
        run_id="run-1",
    )


def run_scene(store: Store, scene: Scene) -> None:
    grids = {1: TileGrid(300, 220, TILE_PX, OVERLAP_PX)}
    for query in QUERIES:
        tiles = [(r, c) for r in range(grids[1].rows) for c in range(grids[1].cols)]
        results = [answer(scene, query, grids[1], r, c) for r, c in tiles]
        name = f"tiles/{scene.scene_id}/1/{query.query_id}.parquet"
        write_batch(store, name, results)
        common: dict[str, Any] = {"index": read_index(store, [name])[0], "grids": grids, "workers": InProcess()}
        planned = planned_tiles(grids, [r.tile for r in results])
        stitch_scene_query(
            store, scene, query, threshold=0.5, planned=planned, fingerprint="f", layout=Layout(block_px=512), **common
        )
        by = Provenance("p@1", "s@1", "run-1")
        vectorise_scene_query(store, scene, query, provenance=by, fingerprint="f", **common)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("report")
    store = Store.at(str(folder / "out"))
    scenes = [draw_scene(folder, "harbour", 32633), draw_scene(folder, "next_zone", 32634)]
    for scene in scenes:
        run_scene(store, scene)
    failures = [
        {"scene_id": s.scene_id, "tile": f"{s.scene_id}/1/1/1", "query_id": "roofs", "reason": f"CUDA error {EVIL}"}
        for s in scenes
    ]
    return store, {
        "run_id": "r20260101T000000000000Z",
        "status": "PARTIAL",
        "started": "2026-01-01T00:00:00+00:00",
        "scenes": [{**s.to_json(), "stretch": IDENTITY.to_json()} for s in scenes],
        "queries": [{"query_id": q.query_id, "query": q.text, "label": q.label, "threshold": 0.5} for q in QUERIES],
        "models": {
            "prompter": {"name": "bundled", "version": "p@1"},
            "segmenter": {"name": "bundled", "version": "s@1"},
        },
        "spec": {"levels": [1], "tile_px": TILE_PX, "overlap_px": OVERLAP_PX, "note": EVIL},
        "versions": {"t2s": "0.1.0"},
        "timings": {"wall_s": 83.2},
        "counts": {"total": 60, "ok": 38, "no_target": 20, "failed": 2, "unparsable": 0},
        "failures": failures,
        "unparsable": [],
    }


class _Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._in_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_code = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._in_code = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_code else data


def written(store: Store) -> tuple[str, _Page]:
    html = store.read("report.html").decode()
    page = _Page()
    page.feed(html)
    return html, page


def test_the_report_says_what_matters(run: tuple[Store, dict[str, Any]]) -> None:
    store, manifest = run
    write_report(store, manifest)
    _, page = written(store)
    for fact in (
        "PARTIAL",
        "0.03",
        "83.2 s",
        "flat roofs that could carry solar panels",
        "where is an iceberg?",
        "harbour",
    ):
        assert fact in page.text
    assert "Failed: 2" in page.text
    assert "harbour/1/1/1" in page.text
    assert "p@1" in page.text


def test_it_loads_nothing_from_anywhere(run: tuple[Store, dict[str, Any]]) -> None:
    store, manifest = run
    write_report(store, manifest)
    _, page = written(store)
    loaded = [a.get("src") or a.get("href") for tag, a in page.tags if tag in {"script", "link", "img", "iframe"}]
    assert not any(loaded)


def test_what_users_and_models_wrote_is_only_text(run: tuple[Store, dict[str, Any]]) -> None:
    store, manifest = run
    write_report(store, manifest)
    html, page = written(store)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert not any(tag == "img" for tag, _ in page.tags)
    assert page.text.count(EVIL) == 1 + 2 + 1  # a query, two failures, the spec
    assert "{safe}" not in html.split("</head>")[1]


def test_so_is_what_a_strange_manifest_has_for_numbers(run: tuple[Store, dict[str, Any]]) -> None:
    store, manifest = run
    queries = [{**query, "threshold": EVIL, "label": EVIL} for query in manifest["queries"]]
    write_report(store, {**manifest, "queries": queries, "started": EVIL, "run_id": EVIL})
    assert "<img src=x" not in written(store)[0]


def test_pictures_are_small_and_transparent_outside_the_data(run: tuple[Store, dict[str, Any]]) -> None:
    scene = Scene.from_json(run[1]["scenes"][0])
    picture = quicklook(scene, IDENTITY, longest_px=100)
    assert picture.shape == (73, 100, 4)
    assert picture[0, 0, 3] == 0
    assert picture[40, 60, 3] == 255


def test_many_features_are_sampled_and_it_is_said(
    run: tuple[Store, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, manifest = run
    monkeypatch.setattr(report_maps, "MAX_FEATURES", 5)
    monkeypatch.setattr(report, "MAX_FEATURES", 5)
    monkeypatch.setattr(report, "MAX_MAPS", 1)
    write_report(store, manifest)
    _, page = written(store)
    assert re.search(r"\d+ features; the map shows 5 of them", page.text)
    assert "2 scenes, of which 1 are drawn" in page.text


def test_a_scene_that_is_gone_costs_its_picture_only(run: tuple[Store, dict[str, Any]]) -> None:
    store, manifest = run
    scene = Scene.from_json(manifest["scenes"][0])
    gone = {**manifest["scenes"][0], **replace(scene, href="/nowhere/harbour.tif").to_json()}
    write_report(store, {**manifest, "scenes": [gone, manifest["scenes"][1]]})
    _, page = written(store)
    assert "No picture: cannot be opened" in page.text


def test_truth_and_no_scene_at_all(run: tuple[Store, dict[str, Any]]) -> None:
    store, manifest = run
    shapes = [box(391_020, 5_819_900, 391_060, 5_819_950)]
    truth = {"harbour": gpd.GeoDataFrame({"query_id": ["roofs"]}, geometry=shapes, crs="EPSG:32633")}
    write_report(store, manifest, truth)
    assert '"truth' in written(store)[0]
    empty = {**manifest, "scenes": [], "failures": [], "status": "FAILED"}
    write_report(Store.at(f"{store.url}-empty"), empty)
    assert "FAILED" in written(Store.at(f"{store.url}-empty"))[1].text
