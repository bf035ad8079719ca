"""Static STAC catalogs and collections stand for the rasters of all items below them."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pystac import Asset, Catalog, CatalogType, Collection, Extent, Item, SpatialExtent, TemporalExtent
from pystac.utils import datetime_to_str, now_in_utc
from shapely.geometry import box, mapping
from stac_items import COG, item_of
from tiffs import draw_tiff, noise

from pipeline import catalogs
from pipeline.areas import Area
from pipeline.inputs import Wanted, expand
from pipeline.items import NotAnItem
from pipeline.scenes import resolve


def catalog(*links: tuple[str, str], kind: str = "Catalog") -> dict[str, Any]:
    return {
        "type": kind, "stac_version": "1.1.0", "id": "c", "description": "c",
        "links": [{"rel": rel, "href": href} for rel, href in links],
    }  # fmt: skip


def put(folder: Path, **documents: Any) -> Path:
    for name, document in documents.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    return folder / f"{next(iter(documents))}.json"


def item(name: str, **changes: Any) -> dict[str, Any]:
    return item_of(name, {"a": {"href": f"./{name}.tif", "type": COG}}, **changes)


def test_a_catalog_as_pystac_writes_it_stands_for_its_items(tmp_path: Path) -> None:
    """Catalog, collections and items in folders of their own, with links relative to themselves."""
    root = Catalog("root", "all")
    for name in ("north", "south"):
        extent = Extent(SpatialExtent([[0, 0, 1, 1]]), TemporalExtent([[now_in_utc(), None]]))
        child = Collection(name, "one", extent)
        root.add_child(child)
        for i in range(2):
            made = Item(f"{name}-{i}", mapping(box(0, 0, 1, 1)), [0, 0, 1, 1], now_in_utc(), {})
            made.add_asset("data", Asset(f"./{name}-{i}.tif", media_type=COG, roles=["data"]))
            child.add_item(made)
    root.normalize_and_save(str(tmp_path), CatalogType.SELF_CONTAINED)
    for path in tmp_path.rglob("*-*.json"):
        draw_tiff(path.with_suffix(".tif"), noise(3, 8, 8))
    found = resolve([str(tmp_path / "catalog.json")])
    assert found.problems == []
    assert [scene.scene_id for scene in found.scenes] == ["north-0", "north-1", "south-0", "south-1"]
    one = resolve([str(tmp_path / "south" / "collection.json")])
    assert [scene.scene_id for scene in one.scenes] == ["south-0", "south-1"]
    assert all(datetime_to_str(now_in_utc())[:4] == str(scene.datetime)[:4] for scene in one.scenes)


def test_links_in_a_circle_end_and_nothing_is_there_twice(tmp_path: Path) -> None:
    up = catalog(("child", "../catalog.json"), ("child", "./b.json"), ("item", "../i.json"), ("parent", "../gone.json"))
    given = put(
        tmp_path,
        catalog=catalog(("self", "https://elsewhere.org/catalog.json"), ("item", "./i.json"), ("child", "d/b.json")),
        i=item("i"),
        d__b=up,
    )
    found = expand(str(given))
    assert ([source.name for source in found.sources], found.problems) == (["i"], [])


def test_one_bad_link_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    given = put(
        tmp_path,
        catalog=catalog(("item", "gone.json"), ("item", "text.json"), ("child", "i.json"), ("item", "odd.json")),
        i=item("i"),
        odd={"type": "Feature"},
    )
    (tmp_path / "text.json").write_text("{")
    found = expand(str(given))
    assert [source.name for source in found.sources] == ["i"]
    assert [(Path(href).name, problem.split(":")[0].split(" (")[0]) for href, problem in found.problems] == [
        ("gone.json", "cannot be read"), ("text.json", "is no JSON"),
        ("odd.json", "is no STAC item; give a GeoTIFF or a STAC item."),
    ]  # fmt: skip
    assert all("\n" not in problem for _, problem in found.problems)


def test_a_catalog_sends_nobody_to_hosts_that_the_user_did_not_name(tmp_path: Path) -> None:
    given = put(tmp_path, catalog=catalog(("item", "http://169.254.169.254/x.json"), ("child", "zip://a::b")))
    found = expand(str(given))
    assert found.sources == []
    problems = dict(reversed(problem) for problem in found.problems)
    assert any("its link is on 169.254.169.254, which you did not name; add --allow-hosts" in p for p in problems)
    assert any("zip:// is not opened" in p for p in problems)


def test_a_catalog_in_a_store_leads_to_files_of_its_store() -> None:
    memory = fsspec.filesystem("memory")
    for name, document in {
        "c/collection": catalog(("item", "../i/one.json"), kind="Collection"),
        "i/one": item("one"),
    }.items():
        memory.pipe_file(f"/cats/{name}.json", json.dumps(document).encode())
    found = expand("memory://cats/c/collection.json")
    assert ([source.href for source in found.sources], found.problems) == (["memory://cats/i/one.tif"], [])


def test_there_is_an_end_to_depth_and_to_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {f"c{i}": catalog(("child", f"c{i + 1}.json"), ("item", "i.json")) for i in range(20)}
    given = put(tmp_path, **deep, i=item("i"))
    found = expand(str(given))
    assert [source.name for source in found.sources] == ["i"]
    assert found.problems == [(str(given), "nests more than 16 deep; name a catalog below it.")]
    monkeypatch.setattr(catalogs, "MAX_FILES", 3)
    many = put(tmp_path, many=catalog(*(("item", f"{i}.json") for i in range(3))))
    assert expand(str(many)).problems == [(str(many), "links to more than 3 files; name a catalog below it.")]


def test_an_area_leaves_items_out(tmp_path: Path) -> None:
    given = put(
        tmp_path,
        collection=catalog(("item", "here.json"), ("item", "far.json"), kind="Collection"),
        here=item("here", bbox=[10.2, 50.2, 10.3, 50.3]),
        far=item("far", bbox=[20, 50, 21, 51]),
    )
    found = expand(str(given), wanted=Wanted(area=Area(box(10, 50, 11, 51))))
    assert ([source.name for source in found.sources], found.n_outside) == (["here"], 1)


@pytest.mark.parametrize(
    "links",
    [None, 7, [], [None, 3, {}], [{"rel": "item"}], [{"rel": "item", "href": 3}], [{"rel": {}, "href": "a"}], {"a": 1}],
)
def test_whatever_links_are_it_is_a_problem(tmp_path: Path, links: Any) -> None:
    given = put(tmp_path, collection={"type": "Collection", "links": links})
    ((_, problem),) = expand(str(given)).problems
    assert problem.startswith("is a STAC collection that links to no item; search its API")


def test_an_impossible_address_is_a_problem_of_its_catalog() -> None:
    def read(_: str) -> Any:
        raise NotAnItem("is not asked for")

    (linked,) = catalogs.items_below("https://h/c.json", catalog(("item", "//[")), [], read)
    assert (linked.href, linked.problem) == (
        "https://h/c.json",
        "names //[, which is no address (Invalid IPv6 URL).",
    )
