"""The report: one offline file, everything escaped, nothing hidden, small at any size."""

import json
import re
import shlex
import shutil
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from fakes import reply_text
from regions import NORTH_UP, WATER, draw_scene, make_models, run, spec_of
from shapely.geometry import Polygon, box
from tiffs import draw_tiff, noise

from pipeline import report
from pipeline.features import partition_name
from pipeline.manifest import read_manifest
from pipeline.normalise import IDENTITY
from pipeline.prepare import prepare
from pipeline.queries import Query, parse_queries
from pipeline.quicklook import quicklook
from pipeline.report import write_report
from pipeline.reporting import preview
from pipeline.reporting.budget import MAX_PAGE_BYTES, Budget
from pipeline.reporting.command import command_of
from pipeline.reporting.pictures import _within
from pipeline.scenes import Scene, resolve
from pipeline.spec import RunSpec
from pipeline.storage import Store
from t2s_core.prompts import InstancePrompt

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"
BOX = InstancePrompt((6, 8, 44, 50), ((20, 20), (30, 30)))
Run = tuple[Store, dict[str, Any]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two scenes of two zones, one with a hole; a query and what the model says of it are markup."""
    folder = tmp_path_factory.mktemp("report")
    replies = [("*", WATER, reply_text([BOX], "Blue means water.")), ("*", EVIL, reply_text([BOX], f"I think. {EVIL}"))]
    models = make_models(folder, [*replies, ("*", "nothing at all", reply_text([]))])
    hole = np.zeros((120, 150), np.bool_)
    hole[:40, 100:] = True
    scenes = draw_scene(folder / "harbour.tif"), draw_scene(folder / "zone.tif", hole=hole, crs="EPSG:32634", seed=3)
    run(spec_of(models, *scenes, queries=(WATER, EVIL, "nothing at all"), tile_px=64), folder / "out")
    store = Store.at(str(folder / "out"))
    manifest = read_manifest(store)
    assert manifest is not None
    return store, manifest


@pytest.fixture
def manifest(finished: Run) -> dict[str, Any]:
    """One's own, to be changed."""
    return deepcopy(finished[1])


class _Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.data: dict[str, Any] = {}
        self._code: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._code = (dict(attrs).get("id") or tag) if tag in {"script", "style"} else None

    def handle_endtag(self, tag: str) -> None:
        self._code = None

    def handle_data(self, data: str) -> None:
        if self._code == "t2s-data":
            self.data = json.loads(data)
        elif self._code is None:
            self.text += data


def written(store: Store) -> tuple[str, _Page]:
    html = store.read("report.html").decode()
    page = _Page()
    page.feed(html)
    return html, page


def test_the_report_says_what_matters(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    manifest["timings"]["wall_s"] = 83.2
    write_report(store, manifest)
    _, page = written(store)
    for fact in (
        "SUCCESS",
        "0.144 km²",
        "83.2 s",
        WATER,
        "nothing at all",
        "Seam check",
        "Where the time went",
        "idle",
    ):
        assert fact in page.text, fact
    assert manifest["models"]["segmenter"]["version"] in page.text
    assert page.data["scenes"][0]["id"] in {"harbour", "zone"}


def test_every_feature_says_why_it_is_there(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    write_report(store, manifest)
    data = written(store)[1].data
    features, n = data["features"], sum(manifest["features"].values())
    assert len(features["id"]) == n
    of_water = [i for i, q in enumerate(features["query"]) if data["queries"][q]["text"] == WATER]
    assert of_water
    assert all(features["texts"][features["why"][i]] == "Blue means water." for i in of_water)
    assert all(features["prompts"][i] for i in range(n))
    assert all(len(data["prompts"]["points"][p]) == 4 for i in of_water for p in features["prompts"][i])


def test_boxes_lie_on_the_map_where_the_tile_lay(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    manifest["scenes"] = manifest["scenes"][:1]
    write_report(store, manifest)
    data = written(store)[1].data
    x0, y0, x1, y1 = data["scenes"][0]["box"]
    boxes = np.array(data["prompts"]["boxes"]).reshape(-1, 4, 2)
    assert (x1 - x0, y1 - y0) == (150 * NORTH_UP.a, 120 * NORTH_UP.a)
    # Of the tile at the scene's corner: 6 and 8 pixels of 2 m. A map is rounded to a tenth of a pixel.
    assert np.abs(boxes[:, 0] - [x0 + 12, y1 - 16]).max(axis=1).min() <= 0.1
    assert np.ptp(boxes, axis=1) == pytest.approx(np.full((len(boxes), 2), [2 * 38, 2 * 42]), abs=0.11)


def test_what_is_missing_is_said_first(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    failure = {"scene_id": "zone", "tile": "zone/1/1/1", "query_id": "the-water", "reason": f"CUDA error {EVIL}"}
    manifest.update(status="PARTIAL", failures=[failure], counts={**manifest["counts"], "failed": 1})
    write_report(store, manifest)
    _, page = written(store)
    assert page.text.index("1 tile-query failed") < page.text.index("What was asked")
    assert "not the same as nothing there" in page.text
    assert "Failed: 1" in page.text
    assert "zone/1/1/1" in page.text
    assert page.data["scenes"][0]["id"] == "zone"  # what failed is looked at first


def test_it_loads_nothing_from_anywhere(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    write_report(store, manifest)
    html, page = written(store)
    loaded = [a.get("src") or a.get("href") for tag, a in page.tags if tag in {"script", "link", "img", "iframe"}]
    assert not any(loaded)
    assert all(a["href"].startswith("data:image/webp") for tag, a in page.tags if tag == "image" and a["href"])
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]
    assert "unsafe-eval" not in policy
    assert "<link" not in html


def test_what_users_and_models_wrote_is_only_text(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    write_report(store, manifest)
    html, page = written(store)
    assert "<script>alert" not in html
    assert "<img" not in html.split("</style>")[1].split("<script type")[0]
    assert not any(tag == "img" for tag, _ in page.tags)
    assert EVIL in page.text
    assert any(EVIL in text for text in page.data["features"]["texts"])


def test_so_is_what_a_strange_manifest_has_for_numbers(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    queries = [{**query, "threshold": EVIL, "label": EVIL} for query in manifest["queries"]]
    write_report(store, {**manifest, "queries": queries, "started": EVIL, "run_id": EVIL})
    assert "<img src=x" not in written(store)[0]


def test_pictures_are_small_and_transparent_outside_the_data(finished: Run) -> None:
    scene = Scene.from_json(finished[1]["scenes"][1])
    picture = quicklook(scene, IDENTITY, longest_px=75)
    assert picture.shape == (60, 75, 4)
    assert picture[0, -1, 3] == 0
    assert picture[40, 60, 3] == 255


def test_large_scenes_without_overviews_cost_a_run_no_time(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(report, "Budget", lambda: replace(Budget(), decode_mpx=0.0))
        manifest["timings"]["wall_s"] = 0.001
        write_report(store, manifest)
        assert "t2s report draws it, gdaladdo makes overviews" in written(store)[1].text
        write_report(store, manifest, all_pictures=True)
        assert "it has no overviews" not in written(store)[1].text


def test_many_of_everything_is_sampled_and_it_is_said(
    finished: Run, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished[0]
    few = replace(Budget(), features=5, scenes=1, batches=1, tiles=0, crops=2, listed=1)
    monkeypatch.setattr(report, "Budget", lambda: few)
    write_report(store, manifest)
    _, page = written(store)
    assert re.search(r"\d+ features; the map and the table show \d+ of them, evenly sampled", page.text)
    assert "2 scenes, of which 1 are drawn" in page.text
    assert "too many tiles to draw one by one" in page.text
    assert "Boxes and points are shown for a part" in page.text
    assert "2 queries found something; the first 1 are shown" in page.text
    assert "2 more; run.json has them all" in page.text
    assert len(page.data["scenes"]) == 1


def test_a_feature_has_its_own_boxes_or_none(
    finished: Run, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest of those that were read may be of another object, where not all were."""
    store = finished[0]
    for few in (replace(Budget(), batches=2), replace(Budget(), prompts=3)):
        monkeypatch.setattr(report, "Budget", lambda few=few: few)
        write_report(store, manifest)
        page = written(store)[1]
        data = page.data
        assert "Boxes and points are shown for a part of the features" in page.text
        boxes = [Polygon(np.reshape(box, (4, 2))) for box in data["prompts"]["boxes"]]
        shown = {row: i for i, shapes in enumerate(data["shapes"]) for row in shapes["row"]}
        assert 0 < sum(map(bool, data["features"]["prompts"])) < len(shown)
        for row, linked in enumerate(data["features"]["prompts"]):
            around = box(*data["features"]["box"][row]).buffer(0.2)
            assert few.batches > 2 or all(boxes[i].intersects(around) for i in linked)
        assert {i for linked in data["features"]["prompts"] for i in linked} == set(range(len(boxes)))
        assert len(boxes) <= few.prompts


def test_a_page_that_came_out_too_large_is_made_smaller(
    finished: Run, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished[0]
    write_report(store, manifest)
    size, all_of_them = len(store.read("report.html")), written(store)[1].data["features"]["id"]
    monkeypatch.setattr(report, "Budget", lambda: replace(Budget(), features=len(all_of_them)))
    monkeypatch.setattr(report, "MAX_PAGE_BYTES", size - 1)
    write_report(store, manifest)
    assert len(store.read("report.html")) < size
    assert len(written(store)[1].data["features"]["id"]) < len(all_of_them)
    assert MAX_PAGE_BYTES == 15_000_000


def test_a_large_region_makes_a_page_that_can_be_mailed(finished: Run, manifest: dict[str, Any]) -> None:
    """A dozen scenes of noise, and of each query more, longer and more winding than anybody would draw."""
    source, store = finished[0], Store.at(f"{finished[0].url}-large")
    shutil.copytree(source.url, store.url)
    entry, scenes = manifest["scenes"][0], []
    path = draw_tiff(Path(f"{store.url}/noise.tif"), noise(3, 120, 150), transform=NORTH_UP)
    (scene,) = resolve([str(path)]).scenes
    table = pq.read_table(source.path(partition_name("harbour", "the-water")), partitioning=None)
    for number in range(12):
        name = f"noise-{number}"
        scenes.append({**entry, **replace(scene, scene_id=name).to_json()})
        shutil.copytree(f"{store.url}/masks.zarr/harbour", f"{store.url}/masks.zarr/{name}")
        for query in manifest["queries"]:
            target = Path(store.path(partition_name(name, query["query_id"])))
            target.parent.mkdir(parents=True)
            pq.write_table(_many(table, 150, seed=number), target)
    write_report(store, {**manifest, "scenes": scenes})
    assert 4_000_000 < len(store.read("report.html")) <= MAX_PAGE_BYTES
    assert len(written(store)[1].data["features"]["id"]) > 1000


def test_a_picture_keeps_its_share_of_the_page() -> None:
    rgba = np.moveaxis(noise(4, 600, 800), 0, -1)
    assert len(_within(rgba, 60_000)) <= 60_000


def _many(table: pa.Table, n: int, *, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, 300)
    radii = 3e-4 * rng.uniform(0.4, 1, (n, len(turn)))
    winding = [Polygon(np.column_stack([15 + r * np.cos(turn), 36.14 + r * np.sin(turn)])) for r in radii]
    rows = table.take([0] * n).to_pydict()
    texts = [rng.bytes(750).hex() for _ in range(n)]
    rows |= {"geometry": shapely.to_wkb(winding).tolist(), "reasoning": texts, "score": rng.uniform(0.5, 1, n).tolist()}
    return pa.table(rows, schema=table.schema)


def test_a_scene_that_is_gone_costs_its_picture_only(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    scene = Scene.from_json(manifest["scenes"][0])
    manifest["scenes"][0] |= replace(scene, href="/nowhere/harbour.tif").to_json()
    write_report(store, manifest)
    assert "No picture of harbour: cannot be opened" in written(store)[1].text


def test_truth_is_a_layer_and_its_scores_a_column(finished: Run, manifest: dict[str, Any]) -> None:
    store = finished[0]
    truth = {"harbour": gpd.GeoDataFrame({"query_id": ["x"]}, geometry=[box(500_010, 3_999_900, 500_050, 3_999_950)],
                                         crs="EPSG:32633")}  # fmt: skip
    write_report(store, manifest, truth, scores={"the-water": 0.375})
    _, page = written(store)
    assert len(page.data["truth"]["xs"]) == 1
    assert "IoU with the truth" in page.text
    assert "0.38" in page.text


def test_no_scene_at_all_is_a_report_too(finished: Run, manifest: dict[str, Any]) -> None:
    empty = Store.at(f"{finished[0].url}-empty")
    write_report(empty, {**manifest, "scenes": [], "failures": [], "status": "FAILED"})
    assert "FAILED" in written(empty)[1].text


def test_the_command_asks_the_same_again(tmp_path: Path) -> None:
    evil = "what's here?\" END_OF_QUERIES $(touch x) `y`"
    queries = (
        Query(query_id="one", text=evil, label="a label", threshold=0.25, mode="instance"),
        Query(query_id="two", text="größer als 3 m"),
    )
    spec = RunSpec(
        scenes=("/a b/*.tif", "s3://bucket/x.tif"), queries=queries, levels=(1, 4), bands=(3, 2, 1), nodata=0.0,
        tile_px=256, overlap_px=0, cog=True, allow_hosts=("a.example.org", "b"), max_failed="5%", gsd_m=0.5,
    )  # fmt: skip
    document, _, line = command_of(spec.model_dump(mode="json"), "out dir").partition("\nEND_OF_QUERIES\n")
    file = tmp_path / "queries.json"
    file.write_text(document.partition("\n")[2])
    assert parse_queries([], file) == queries
    words = shlex.split(line)
    assert words[:4] == ["t2s", "segment", "/a b/*.tif", "s3://bucket/x.tif"]
    assert given(words) == {
        "--queries": ["queries.json"], "--out": ["out dir"], "--prompter": ["bundled"], "--segmenter": ["bundled"],
        "--allow-hosts": ["a.example.org", "b"], "--bands": ["3,2,1"], "--nodata": ["0.0"], "--tile-px": ["256"],
        "--overlap-px": ["0"], "--levels": ["1,4"], "--gsd": ["0.5"], "--cog": [], "--max-failed": ["5%"],
    }  # fmt: skip


def given(words: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for i, word in enumerate(words):
        if word.startswith("--"):
            values = found.setdefault(word, [])
            if i + 1 < len(words) and not words[i + 1].startswith("--"):
                values.append(words[i + 1])
    return found


def test_the_ground_of_too_many_tiles_is_on_a_preview(
    finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RunSpec(**finished[1]["spec"])
    prepared = prepare(spec.model_copy(update={"scenes": spec.scenes[:1]}), str(tmp_path / "out"))
    expected = {"seconds": None, "tokens": None, "scenes": 1, "tiles": 9, "tile_queries": 27, "pixels": 9 * 64 * 64}
    for most, said, n in ((9, False, 9), (8, True, 1)):
        monkeypatch.setattr(preview, "Budget", lambda most=most: replace(Budget(), tiles=most))
        page = _Page()
        page.feed(preview.preview(prepared, expected, []))
        assert ("too many to draw one by one" in page.text) is said
        assert len(page.data["tiles"]["tile"]) == n
        assert set(page.data["tiles"]["status"]) == {"planned"}
