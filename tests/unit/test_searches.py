"""A search of a STAC API stands for the rasters of all items on all its pages. The API answers on loopback."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import fsspec
import pytest
import shapely
from tiffs import draw_tiff, noise

from pipeline.areas import Area
from pipeline.inputs import Expanded, Source, Wanted, expand
from pipeline.scenes import resolve
from pipeline.searches import is_search

CONFORMS = ["core", "collections", "item-search", "ogcapi-features"]
PER_PAGE = 2


def stored_item(number: int, href: str) -> dict[str, Any]:
    west = 10.0 + number
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"scene-{number}", "collection": ("even", "odd")[number % 2],
        "bbox": [west, 50.0, west + 0.5, 50.5],
        "geometry": {"type": "Point", "coordinates": [west, 50.0]},
        "properties": {"datetime": f"2024-05-0{number + 1}T00:00:00Z"}, "links": [],
        "assets": {"visual": {"href": href, "type": "image/tiff; application=geotiff"},
                   "red": {"href": "red.tif", "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip


@contextmanager
def api(items: list[dict[str, Any]], next_host: str | None = None) -> Iterator[str]:
    """The root of an API: landing page, collections, and a search by GET with pages."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            root = f"http://{self.headers['Host']}"
            parts = urlsplit(self.path)
            answer = {"/": self.landing, "/collections": self.collections, "/search": self.search}.get(parts.path)
            body = None if answer is None else answer(root, {k: v[0] for k, v in parse_qs(parts.query).items()})
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def landing(self, root: str, _: dict[str, str]) -> dict[str, Any]:
            links = [{"rel": rel, "href": f"{root}{path}", "type": "application/json"} for rel, path in (
                ("self", "/"), ("root", "/"), ("data", "/collections"), ("search", "/search"))]  # fmt: skip
            conforms = [f"https://api.stacspec.org/v1.0.0/{name}" for name in CONFORMS]
            return {"type": "Catalog", "id": "a", "description": "a", "stac_version": "1.0.0", "links": links,
                    "conformsTo": conforms}  # fmt: skip

        def collections(self, root: str, _: dict[str, str]) -> dict[str, Any]:
            return {"collections": [], "links": [{"rel": "self", "href": f"{root}/collections"}]}

        def search(self, root: str, asked: dict[str, str]) -> dict[str, Any]:
            found = [
                i for i in items if "collections" not in asked or i["collection"] in asked["collections"].split(",")
            ]
            if "bbox" in asked:
                west, _, east, _ = map(float, asked["bbox"].split(","))
                found = [i for i in found if i["bbox"][0] <= east and i["bbox"][2] >= west]
            start = int(asked.get("page", 0)) * PER_PAGE
            links = []
            if start + PER_PAGE < len(found):
                query = urlencode(asked | {"page": start // PER_PAGE + 1})
                links = [{"rel": "next", "method": "GET", "href": f"{next_host or root}/search?{query}"}]
            return {"type": "FeatureCollection", "features": found[start : start + PER_PAGE], "links": links}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def items() -> list[dict[str, Any]]:
    return [stored_item(number, f"https://data.example.org/{number}.tif") for number in range(5)]


def test_all_items_of_all_pages_are_found_and_parameters_choose(items: list[dict[str, Any]]) -> None:
    with api(items) as root:

        def names(query: str) -> list[str | None]:
            found = expand(f"{root}/search{query}", ["data.example.org"])
            assert found.problems == []
            return [source.name for source in found.sources]

        assert names("") == [f"scene-{n}" for n in range(5)]
        assert names("?collections=even") == ["scene-0", "scene-2", "scene-4"]
        assert names("?bbox=11.6,49,13.1,51") == ["scene-2", "scene-3"]
        assert names("?collections=even,odd&limit=3") == ["scene-0", "scene-1", "scene-2"]
        (first, *_) = expand(f"{root}/search", ["data.example.org"]).sources
        assert first == Source(
            "https://data.example.org/0.tif", "scene-0", "2024-05-01T00:00:00Z", choice="visual of visual, red"
        )
        (red,) = expand(f"{root}/search?ids=scene-0&limit=1#red").sources
        assert red.href == f"{root}/red.tif"


def test_a_search_without_a_box_gets_that_of_the_area(items: list[dict[str, Any]]) -> None:
    area = Area(shapely.box(11.6, 49, 13.1, 51))
    with api(items) as root:

        def found(url: str) -> Expanded:
            return expand(url, ["data.example.org"], Wanted(area=area))

        asked = found(f"{root}/search")
        assert [source.name for source in asked.sources] == ["scene-2", "scene-3"]
        assert asked.n_outside == 0, "the API was told, so it sent nothing else"
        own = found(f"{root}/search?bbox=10,49,12.2,51")
        assert ([source.name for source in own.sources], own.n_outside) == (["scene-2"], 2)
        assert "#".join(found(f"{root}/search#red").sources[0].href.rsplit("/", 1)) == f"{root}#red.tif"
        named = found(f"{root}/search?ids=scene-0,scene-2")
        assert (len(named.sources), named.n_outside) == (2, 3), "this API knows no ids: it was not told of the box"
        ((_, problem),) = expand(f"{root}/search", wanted=Wanted(area=Area(shapely.box(50, 50, 51, 51)))).problems
        assert problem == (
            "finds no item around the area of interest (50, 50, 51, 51); check collections, bbox and datetime."
        )


def test_relative_assets_are_beside_the_item_itself(items: list[dict[str, Any]]) -> None:
    with api([]) as elsewhere, api(
        [{**items[0], "links": [{"rel": "self", "href": f"{elsewhere}/c/items/0.json"}]}]
    ) as root:  # fmt: skip
        hosts = [elsewhere.removeprefix("http://")]
        assert expand(f"{root}/search#red", hosts).sources[0].href == f"{elsewhere}/c/items/red.tif"
        ((_, problem),) = expand(f"{root}/search#red").problems
        assert f"its asset is on {hosts[0]}, which you did not name" in problem


def test_what_cannot_be_searched_is_one_line_and_nobody_sends_us_elsewhere(items: list[dict[str, Any]]) -> None:
    with api(items) as root, api(items) as other, api(items, next_host=other) as sending:
        for url, said in (
            (f"{root}/search?colections=x", "has the unknown parameter colections; a search has collections, ids"),
            (f"{root}/search?bbox=a,b", "bbox=a,b is not understood"),
            (f"{root}/search?collections=none", "finds no item; check collections, bbox and datetime."),
            (f"{root}/nowhere/search", "cannot be searched"),
            (
                f"{sending}/search",
                f"it sends us away: a page is on {other.removeprefix('http://')}, which you did not name",
            ),
        ):
            found = expand(url, ["data.example.org"])
            ((href, problem),) = found.problems
            assert (found.sources, href) == ([], url)
            assert said in problem
            assert "\n" not in problem
        found = expand(f"{root}/search?limit=2")
        assert found.sources == []
        assert len(found.problems) == 2
        assert all("--allow-hosts data.example.org" in problem for _, problem in found.problems)


def test_a_file_of_items_stands_for_all_of_them(tmp_path: Path) -> None:
    tifs = [draw_tiff(tmp_path / f"{n}.tif", noise(3, 8, 8)) for n in range(2)]
    features = [stored_item(n, f"./{n}.tif") for n in range(2)]
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = resolve([str(tmp_path / "items.json")])
    assert [(s.scene_id, s.href) for s in found.scenes] == [(f"scene-{n}", str(tif)) for n, tif in enumerate(tifs)]
    (tmp_path / "none.json").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    assert "a collection of none" in resolve([str(tmp_path / "none.json")]).problems[0].problem


def test_a_prefix_stands_for_all_below_it() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.tif", "deep/b.TIF", "deep/er/c.tiff", "deep/notes.txt"):
        memory.pipe_file(f"/prefixed/{name}", b"x")
    assert [s.href for s in expand("memory://prefixed/").sources] == [
        "memory:///prefixed/a.tif", "memory:///prefixed/deep/b.TIF", "memory:///prefixed/deep/er/c.tiff",
    ]  # fmt: skip
    assert "below it" in expand("memory://prefixed/deep/none/").problems[0][1]


def test_only_an_api_s_search_is_one() -> None:
    assert is_search("https://host/stac/v1/search?collections=a")
    assert not is_search("https://host/research.tif")
    assert not is_search("/data/search")
