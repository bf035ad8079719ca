"""A STAC item stands for its raster, and says more of the scene than the file does."""

import json
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import fsspec
import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from tiffs import draw_tiff, noise

from pipeline import addresses, items
from pipeline.inputs import Expanded, Source, expand
from pipeline.scenes import resolve

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
BARE_ITEM = '{"type": "Feature", "stac_version": "1.0.0", "id": "i", "assets": %s}'


def item(path: Path, assets: dict[str, Any], **changes: Any) -> Path:
    properties = {"datetime": "2024-05-01T10:20:30.5+02:00"}
    entry = {"type": "Feature", "stac_version": "1.1.0", "id": "S2A 33 UUU", "properties": properties, "assets": assets}
    path.write_text(json.dumps(entry | changes))
    return path


def test_an_item_gives_its_raster_a_name_and_a_time(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    tif = draw_tiff(tmp_path / "data" / "visual.tif", noise(3, 8, 8), tags={"TIFFTAG_DATETIME": "1999:01:01 00:00:00"})
    assets = {"thumbnail": {"href": "small.tif", "roles": ["thumbnail"]}, "image": {"href": "./data/visual.tif"}}
    given = item(tmp_path / "item.json", assets)
    (scene,) = resolve([str(given)]).scenes
    assert (scene.scene_id, scene.href, scene.datetime) == ("s2a-33-uuu", str(tif), "2024-05-01T08:20:30.500000Z")
    assert resolve([str(tif)]).scenes[0].datetime == "1999-01-01T00:00:00Z"
    assert len(resolve([str(given), str(tif)]).scenes) == 1, "one file is one scene, however it is named"
    assert [s.scene_id for s in resolve([str(tmp_path / "*.json")]).scenes] == ["s2a-33-uuu"]


def test_a_span_of_time_counts_from_its_start(tmp_path: Path) -> None:
    span = {"datetime": None, "start_datetime": "2024-05-01T00:00:00Z", "end_datetime": "2024-05-31T00:00:00Z"}
    given = item(tmp_path / "item.json", {"a": {"href": "a.tif"}}, properties=span)
    assert expand(str(given)).sources[0].datetime == "2024-05-01T00:00:00Z"


@pytest.mark.parametrize(
    ("assets", "asset", "chosen"),
    [
        ({"a": {"href": "a.tif", "type": COG}, "b": {"href": "b.tif", "type": COG, "roles": ["visual"]}}, "", "b.tif"),
        ({"a": {"href": "a.tif", "type": COG}, "visual": {"href": "b.tif", "type": COG}}, "", "b.tif"),
        ({"a": {"href": "a.tif", "roles": ["data"]}, "b": {"href": "b.tif"}}, "", "a.tif"),
        ({"a": {"href": "a.tif"}, "b": {"href": "b.tif"}}, "#b", "b.tif"),
        ({"a": {"href": "a.xml", "type": "application/xml"}, "b": {"href": "b", "type": COG}}, "", "b"),
    ],
)
def test_one_asset_is_chosen(tmp_path: Path, assets: dict[str, Any], asset: str, chosen: str) -> None:
    found = expand(f"{item(tmp_path / 'item.json', assets)}{asset}")
    assert found.problems == []
    assert [source.href for source in found.sources] == [str(tmp_path / chosen)]


def test_assets_elsewhere_keep_their_address_and_relative_ones_are_beside_the_item(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for href, expected in (
        ("s3://bucket/a.tif", "s3://bucket/a.tif"),
        ("https://host/a.tif?key=1", "https://host/a.tif?key=1"),
        ("./a.tif", "memory://items/a.tif"),
        ("../../b/./a.tif", "memory://items/b/a.tif"),
    ):
        memory.pipe_file("/items/x.json", item(tmp_path / "x.json", {"a": {"href": href}}).read_bytes())
        assert expand("memory://items/x.json", ["bucket", "host"]).sources == [
            Source(expected, "S2A 33 UUU", "2024-05-01T08:20:30.500000Z")
        ]


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("https://169.254.169.254/latest/meta-data", "on 169.254.169.254, which you did not name; add --allow-hosts"),
        ("http://localhost:8080/a.tif", "on localhost:8080, which you did not name"),
        ("s3://other/a.tif", "on other, which you did not name"),
        ("https://example.org@evil.net/a.tif", "holds a user's name"),
        ("https://example.org\\@evil.net/a.tif", "readers of addresses"),
        ("https://example.org/a.tif\n", "readers of addresses"),
        ("zip://a.tif::https://example.org/a.zip", "zip:// is not opened"),
        ("ssh://example.org/a.tif", "ssh:// is not opened"),
        ("https://[/a.tif", "is no address"),
        ("s3:///other/a.tif", "names no host"),
        ("file://file:///etc/a.tif", "names no host"),
        ("https://xample.org/a.tif", "did not name"),
        ("https://data.example.org.evil.net/a.tif", "did not name"),
    ],
)
def test_an_item_sends_nobody_to_hosts_that_the_user_did_not_name(tmp_path: Path, href: str, why: str) -> None:
    given = item(tmp_path / "item.json", {"a": {"href": href, "type": COG}})
    found = expand(str(given), ["example.org", "*.example.org"])
    assert found.sources == []
    ((_, problem),) = found.problems
    assert why in problem
    assert "\n" not in problem


def test_hosts_are_allowed_by_name_by_pattern_and_by_being_asked_for(tmp_path: Path) -> None:
    for href, hosts in (
        ("https://example.org/a.tif", ["example.org"]),
        ("https://EXAMPLE.org/a.tif", ["Example.org"]),
        ("https://x.example.org/a.tif", ["*.example.org"]),
        ("s3://anywhere/a.tif", ["*"]),
    ):
        given = item(tmp_path / "item.json", {"a": {"href": href, "type": COG}})
        assert [source.href for source in expand(str(given), hosts).sources] == [href]
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/named/a.tif", draw_tiff(tmp_path / "a.tif", noise(3, 8, 8)).read_bytes())
    given = item(tmp_path / "item.json", {"a": {"href": "memory://named/a.tif", "type": COG}})
    assert len(resolve([str(given)]).problems) == 1
    assert resolve([str(given)], allow_hosts=["named"]).problems == []
    assert resolve([str(given), "memory://named/a.tif"]).problems == [], "the user named it elsewhere"


@pytest.mark.parametrize(
    "given", ["github://a:b@/c.tif", "zip://a.tif::s3://b/c.zip", "dask::file://x", "nonsense://a"]
)
def test_schemes_that_nobody_needs_are_not_opened(given: str) -> None:
    ((_, problem),) = expand(given).problems
    assert "is not opened" in problem or "readers of addresses" in problem


def test_an_item_without_end_is_a_problem(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(2**30)
    assert "more than 16 MB" in expand(str(tmp_path / "x.json")).problems[0][1]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is no JSON"),
        ('{"type": {}}', "is no STAC item"),
        ('{"type": "FeatureCollection", "features": []}', "is no STAC item"),
        ('{"type": "Collection", "id": "c"}', "is a STAC collection that links to no item; search its API"),
        (BARE_ITEM % "{}", "no raster asset (it has none at all)"),
        (
            BARE_ITEM % '{"B04": {"href": "4.tif"}, "B03": {"href": "3.tif"}}',
            "several raster assets (B04, B03); name one:",
        ),
    ],
)
def test_what_names_no_raster_is_a_problem_in_one_line(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "x.json").write_text(content)
    found = expand(str(tmp_path / "x.json"))
    assert found.sources == []
    ((href, problem),) = found.problems
    assert href == str(tmp_path / "x.json")
    assert why in problem
    assert "\n" not in problem


def test_one_bad_item_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    item(tmp_path / "a.json", {"a": {"href": "a.tif"}}, id="one")
    (tmp_path / "b.json").write_text("{")
    item(tmp_path / "c.json", {"a": {"href": "c.tif"}}, id="two")
    found = expand(str(tmp_path / "*.json"))
    assert [source.name for source in found.sources] == ["one", "two"]
    assert [href for href, _ in found.problems] == [str(tmp_path / "b.json")]
    assert expand(f"{tmp_path / 'a.json'}#c").problems == [(str(tmp_path / "a.json"), "has no asset c; it has a.")]


def test_items_come_from_servers_with_signatures_in_their_addresses(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http through it")
    item(tmp_path / "item.json", {"a": {"href": "./a.tif"}})
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        found = expand(f"{address}/item.json?signature=1#a")
        gone = expand(f"{address}/gone.json")
        server.shutdown()
    assert [source.href for source in found.sources] == [f"{address}/a.tif"]
    assert "cannot be read" in gone.problems[0][1]


class FaultyFileSystem(MemoryFileSystem):
    """Every look at it raises what the test says."""

    protocol = "faulty"
    cachable = False
    error: Exception

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        raise self.error

    def _open(self, path: str, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> type[FaultyFileSystem]:
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    monkeypatch.setattr(addresses, "SCHEMES", (*addresses.SCHEMES, "faulty"))
    return FaultyFileSystem


STORES_FAULTS = [
    PermissionError("no right to look"),
    TimeoutError("too slow"),
    NoCredentialsError(),
    EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
    ClientError({"Error": {"Code": "SlowDown", "Message": "less, please"}}, "ListObjectsV2"),
    ClientPayloadError("cut short"),
]


@pytest.mark.parametrize("error", STORES_FAULTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("address", ["faulty://bucket/scenes", "faulty://bucket/item.json"])
def test_what_is_the_stores_fault_is_a_problem_in_one_line(
    faulty: type[FaultyFileSystem], monkeypatch: pytest.MonkeyPatch, error: Exception, address: str
) -> None:
    monkeypatch.setattr(faulty, "error", error, raising=False)
    ((href, problem),) = expand(address).problems
    assert href == address
    assert problem.startswith("cannot be listed: ")
    assert problem.endswith("; check the address and the credentials.")
    assert "\n" not in problem


def test_an_item_that_is_listed_and_cannot_be_read(
    faulty: type[FaultyFileSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faulty, "info", lambda *_, **__: {"type": "file", "size": 2})
    monkeypatch.setattr(faulty, "error", NoCredentialsError(), raising=False)
    ((_, problem),) = expand("faulty://bucket/item.json").problems
    assert problem.startswith("cannot be read: Unable to locate credentials")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("gcsfs.retry", "HttpError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("azure.core.exceptions", "AzureError"),
        ("paramiko.ssh_exception", "SSHException"),
    ],
)
def test_clients_that_are_not_installed_here(
    faulty: type[FaultyFileSystem], monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    """A class of this name in a module of that name: this shows that it is looked up, not that the client has it."""
    kind = type(name, (Exception,), {})
    there = ModuleType(module)
    setattr(there, name, kind)
    monkeypatch.setattr(faulty, "error", type("Narrower", (kind,), {})("no way in"), raising=False)
    with pytest.raises(Exception, match="no way in"):
        expand("faulty://bucket/scenes")
    monkeypatch.setitem(sys.modules, module, there)
    assert "cannot be listed: no way in" in expand("faulty://bucket/scenes").problems[0][1]


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError("bug"), AttributeError("bug"), ZeroDivisionError()])
def test_a_bug_is_not_taken_for_a_problem_of_the_listing(
    faulty: type[FaultyFileSystem], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(faulty, "error", error, raising=False)
    with pytest.raises(type(error)):
        expand("faulty://bucket/scenes")


def test_an_address_that_nothing_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nonsense:// is not opened; use a path" in expand("nonsense://host/a.tif").problems[0][1]
    monkeypatch.setattr(addresses, "SCHEMES", (*addresses.SCHEMES, "nonsense"))
    assert "cannot be opened: Protocol not known: nonsense" in expand("nonsense://host/a.tif").problems[0][1]
    assert "is no JSON" in expand_of("[" * 100_000).problems[0][1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    properties=JSON | st.fixed_dictionaries({"datetime": JSON, "start_datetime": JSON}),
    assets=JSON
    | st.dictionaries(st.text(max_size=3), JSON | st.fixed_dictionaries({"href": JSON, "roles": JSON, "type": JSON})),
    identity=JSON,
)
def test_whatever_an_item_holds_it_is_a_source_or_a_problem(properties: Any, assets: Any, identity: Any) -> None:
    entry = {"type": "Feature", "stac_version": "1.1.0", "id": identity, "properties": properties, "assets": assets}
    found = expand_of(json.dumps(entry))
    assert len(found.sources) + len(found.problems) == 1


def expand_of(content: str) -> Expanded:
    fsspec.filesystem("memory").pipe_file("/fuzzed/x.json", content.encode())
    return expand("memory://fuzzed/x.json")


def test_an_impossible_address_is_a_problem_of_its_item() -> None:
    with pytest.raises(items.NotAnItem, match=r"names //\[, which is no address"):
        items.beside("https://host/item.json", "//[")
