"""What surrounds masks and features: STAC, COGs, checksums, provenance, and that nothing is done twice."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import zarr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from outputs import finished_run, outputs_spec
from pystac import Item
from pystac.errors import STACValidationError
from regions import ROADS, WATER, draw_scene, make_models, run, spec_of
from rio_cogeo.cogeo import cog_validate
from stac_schemas import OfflineValidator, validated

from pipeline import checksums, cog, stac, validate_features, validate_masks
from pipeline.cog import cog_name
from pipeline.mosaics import read_window
from pipeline.provenance import TRACE, spec_digest
from pipeline.scenes import NodataRule, Scene
from pipeline.storage import Store
from pipeline.tiling import Window
from pipeline.validate import validate_run
from pipeline.work import InProcess


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


def sums(out: Path, name: str) -> dict[str, str]:
    return checksums.read_sums(Store.at(str(out)), name)


def stamps(out: Path, *folders: str) -> dict[str, int]:
    found = (p for folder in folders for p in sorted((out / folder).rglob("*")) if p.is_file())
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in found}


def document(out: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((out / name).read_text()))


def test_every_output_says_run_spec_models_and_scene(out: Path) -> None:
    manifest = document(out, "run.json")
    invocation = manifest["history"][0]
    scene = next(s for s in manifest["scenes"] if s["scene_id"] == "alpha")
    assert manifest["specs"][invocation["spec_digest"]] == manifest["spec"]
    assert spec_digest(manifest["spec"]) == invocation["spec_digest"]
    expected = {
        "t2s:run_id": manifest["run_id"],
        "t2s:spec_digest": invocation["spec_digest"],
        "t2s:prompter": manifest["models"]["prompter"]["version"],
        "t2s:segmenter": manifest["models"]["segmenter"]["version"],
        "t2s:scene_href": scene["href"],
        "t2s:scene_etag": scene["etag"],
    }
    group = dict(zarr.open_group(out / "masks.zarr/alpha/the-water", mode="r").attrs)
    metadata = pq.read_schema(out / "features/query_id=the-water/scene_id=alpha/part-0.parquet").metadata
    with rasterio.open(out / cog_name("alpha", "the-water", "mask")) as file:
        tags = file.tags()
    asset = document(out, "stac/items/alpha.json")["assets"]["the-water-features"]
    assert {key: group[key] for key in TRACE} == expected
    assert {key: metadata[key.encode()].decode() for key in TRACE} == expected
    assert {key: tags[key.upper().replace(":", "_")] for key in TRACE} == expected
    assert {key: asset[key] for key in TRACE} == expected


def test_sha256sum_checks_a_run(out: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum (GNU coreutils) is not on this machine")
    lists = [str(p.relative_to(out)) for p in sorted((out / "checksums").rglob("*.sha256"))]
    assert lists == ["checksums/run.sha256", "checksums/scenes/alpha.sha256", "checksums/scenes/beta.sha256"]
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", *lists], cwd=out, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": OK") == sum(len(sums(out, name)) for name in lists)


def test_every_published_object_is_listed(out: Path) -> None:
    listed = {name for path in (out / "checksums").rglob("*.sha256") for name in sums(out, str(path.relative_to(out)))}
    there = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    unlisted = {name for name in there - listed if not name.startswith("tiles/")}
    assert unlisted == {"report.html", "checksums/run.sha256"}
    assert listed <= there


def test_a_second_run_publishes_nothing_anew_and_does_not_bless_what_was_damaged_since(tmp_path: Path) -> None:
    spec = outputs_spec(tmp_path)
    out = tmp_path / "out"
    run(spec, out)
    before = stamps(out, "cog", "checksums/scenes", "masks.zarr", "features")
    chunk = out / "masks.zarr/alpha/the-water/mask/c/0/0"
    good = chunk.read_bytes()
    run(spec, out)
    assert stamps(out, "cog", "checksums/scenes", "masks.zarr", "features") == before
    assert validate_run(str(out))["ok"]
    chunk.write_bytes(b"rust")
    run(spec, out)
    failed = {check["name"] for check in validate_run(str(out))["checks"] if not check["ok"]}
    assert {"checksums", "mask"} <= failed
    chunk.write_bytes(good)
    assert validate_run(str(out))["ok"]


def test_a_query_more_is_published_beside_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(outputs_spec(tmp_path, queries=[WATER]), out)
    first = document(out, "run.json")
    before = stamps(out, "cog", "masks.zarr", "features")
    earlier = sums(out, "checksums/scenes/alpha.sha256")
    run(outputs_spec(tmp_path, queries=[WATER, ROADS]), out)
    after = stamps(out, "cog", "masks.zarr", "features")
    assert {name: after[name] for name in before} == before
    assert sums(out, "checksums/scenes/alpha.sha256").items() > earlier.items()
    manifest = document(out, "run.json")
    assert len(manifest["specs"]) == 2
    assert document(out, "stac/collection.json")["id"] == first["run_id"] != manifest["run_id"]
    assets = document(out, "stac/items/alpha.json")["assets"]
    assert assets["the-water-zarr"]["t2s:run_id"] == first["run_id"]
    assert assets["the-roads-zarr"]["t2s:run_id"] == manifest["run_id"]
    assert validate_run(str(out))["ok"]


def test_cogs_can_be_had_later_and_are_dropped_when_they_are_not_true_any_more(tmp_path: Path) -> None:
    out, changed = tmp_path / "out", {"queries": [WATER]}
    spec = outputs_spec(tmp_path, cog=False, **changed)
    run(spec, out)
    assert not (out / "cog").exists()
    mosaics = stamps(out, "masks.zarr", "features")
    run(spec.model_copy(update={"cog": True}), out)
    assert stamps(out, "masks.zarr", "features") == mosaics
    assert len(list((out / "cog").rglob("*.tif"))) == 4
    assert validate_run(str(out))["ok"]
    run(spec, out)  # nobody asks for them now, but they are true
    assert len(list((out / "cog").rglob("*.tif"))) == 4
    run(spec.model_copy(update={"threshold": 0.6}), out)
    assert not list((out / "cog").rglob("*.tif"))
    assert validate_run(str(out))["ok"]


GRIDS = {
    "south up": ("EPSG:32719", Affine(3, 0, 5e5, 0, 3, 7e6)),
    "rotated": ("EPSG:32633", Affine(2, 0, 5e5, 0, -2, 4e6) @ Affine.rotation(33)),
    "sheared": ("EPSG:32633", Affine(2, 0, 5e5, 0, -2, 4e6) @ Affine.shear(11, 0)),
    "degrees across the antimeridian": ("EPSG:4326", Affine(1e-3, 0, 179.8, 0, -1e-3, -16.0)),
    "zone 60 across the antimeridian": ("EPSG:32760", Affine(60, 0, 815_000, 0, -60, 8_100_000)),
    "around the pole": ("EPSG:3031", Affine(900, 0, -250_000, 0, -900, 240_000)),
    "mars": ("IAU_2015:49910", Affine(100, 0, 0, 0, -100, 0)),
    "unnamed": ("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84", Affine(30, 0, 1e5, 0, -30, 2e5)),
}


@pytest.mark.parametrize("case", GRIDS)
def test_a_run_on_any_grid_is_whole_in_every_format(tmp_path: Path, case: str) -> None:
    crs, transform = GRIDS[case]
    scene = draw_scene(tmp_path / "odd.tif", 530, 540, crs=crs, transform=transform)
    out = tmp_path / "out"
    run(spec_of(make_models(tmp_path), scene, tile_px=256, cog=True), out)
    checks = validate_run(str(out))
    assert checks["ok"], [check for check in checks["checks"] if not check["ok"]]
    validated(out)


def test_a_cog_is_one_by_an_independent_check_and_its_overviews_are_ours(out: Path) -> None:
    for raster in ("mask", "probability"):
        path = out / cog_name("alpha", "the-water", raster)
        valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
        assert (valid, errors, warnings) == (True, [], [])
        group = zarr.open_group(out / "masks.zarr/alpha/the-water", mode="r")
        with rasterio.open(path) as file:
            assert (file.nodata, file.overviews(1), file.block_shapes) == (255, [2], [(512, 512)])
            np.testing.assert_array_equal(file.read(1), group[raster][:])
        with rasterio.open(path, overview_level=0) as file:
            np.testing.assert_array_equal(file.read(1), group[f"2/{raster}"][:])


def test_pystac_reads_and_validates_everything(out: Path) -> None:
    items = {item.id: item for item in validated(out).get_items(recursive=True)}
    assert set(items) == {"alpha", "beta"}
    assert items["alpha"].datetime is not None
    assert items["alpha"].ext.proj.code == "EPSG:32633"
    assert items["beta"].ext.proj.shape == [120, 150]
    for item in items.values():
        assert len(item.assets) == 3 * 4 + 1
        assert all(Path(asset.get_absolute_href() or "").exists() for asset in item.assets.values())


@pytest.mark.parametrize(
    "change", [{"proj:epsg": 32633}, {"proj:shape": [1]}, {"proj:code": None}, {"processing:software": {"t2s": 1}}]
)
def test_our_reading_of_the_extensions_refuses_what_they_do(out: Path, change: dict[str, Any]) -> None:
    item = document(out, "stac/items/alpha.json")
    item["properties"] |= change
    with pytest.raises(STACValidationError):
        Item.from_dict(item, migrate=False).validate(validator=OfflineValidator())


def scene_at(scene_id: str, west: float, when: str | None = None) -> Scene:
    geobox = GeoBox((100, 100), Affine(0.01, 0, west, 0, -0.01, 10), CRS("EPSG:4326"))
    return Scene(
        scene_id, f"/{scene_id}.tif", "etag", geobox, (1, 2, 3), "uint8", NodataRule("none"), when, warped=False
    )


def manifest_of(*scenes: Scene) -> dict[str, Any]:
    return {
        "run_id": "r2", "started": "2026-01-02T03:04:05+00:00", "history": [{"run_id": "r1"}], "queries": [],
        "models": {"prompter": {"version": "p@1"}, "segmenter": {"version": "s@1"}}, "versions": {"t2s": "0"},
        "spec": {"cog": False}, "scenes": [scene.to_json() for scene in scenes],
    }  # fmt: skip


def test_an_unknown_time_is_an_interval_and_says_so() -> None:
    unknown, first, last = (
        scene_at("a", 0), scene_at("b", 0, "2020-01-01T00:00:00Z"), scene_at("c", 0, "2021-01-01T00:00:00Z"),
    )  # fmt: skip
    properties = stac.item(unknown, manifest_of(last, unknown, first), {})["properties"]
    assert properties["datetime"] is None
    assert (properties["start_datetime"], properties["end_datetime"]) == (first.datetime, last.datetime)
    assert properties["t2s:datetime_is_known"] is False
    alone = stac.item(unknown, manifest_of(unknown), {})["properties"]
    assert (alone["start_datetime"], alone["end_datetime"]) == ("1970-01-01T00:00:00Z", "2026-01-02T03:04:05Z")
    assert stac.item(first, manifest_of(first), {})["properties"]["datetime"] == first.datetime


def test_boxes_go_the_short_way_around_the_globe() -> None:
    scenes = [scene_at("a", 178.5), scene_at("b", 179.5), scene_at("c", -178)]
    items = [stac.item(scene, manifest_of(*scenes), {}) for scene in scenes]
    assert items[0]["bbox"] == pytest.approx([178.5, 9, 179.5, 10])
    assert items[1]["bbox"] == pytest.approx([179.5, 9, -179.5, 10])
    assert items[1]["geometry"]["type"] == "MultiPolygon"
    assert stac.collection(manifest_of(*scenes), items)["extent"]["spatial"]["bbox"][0] == pytest.approx(
        [178.5, 9, -177, 10]
    )


def test_items_of_scenes_that_are_gone_are_removed(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    for scenes in ([scene_at("a", 0), scene_at("b", 0)], [scene_at("b", 0)]):
        stac.write_stac(store, manifest_of(*scenes), {"a": {}, "b": {}})
    assert store.names("stac") == ["stac/collection.json", "stac/items/b.json"]


def test_sums_of_many_and_large_objects(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    contents = {f"{i}.{'tif' if i % 2 else 'bin'}": bytes([i]) * (i * 1000) for i in range(70)}
    for name, data in contents.items():
        store.write(name, data)
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    assert checksums.sums_of(store, list(contents), InProcess()) == expected
    checksums.write_sums(store, "list", expected, version="v1")
    assert checksums.read_sums(store, "list") == expected
    assert (checksums.version_of_sums(store, "list"), checksums.version_of_sums(store, "none")) == ("v1", None)


def test_neither_cogs_nor_validation_ever_hold_more_than_a_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished_run(tmp_path)
    cog_bytes = (whole / cog_name("alpha", "the-water", "mask")).read_bytes()
    sides: list[int] = []

    def spying(store: Store, path: str, window: Window) -> Any:
        sides.append(max(window.width, window.height))
        return read_window(store, path, window)

    for module in (cog, validate_masks, validate_features):
        monkeypatch.setattr(module, "read_window", spying)
    monkeypatch.setattr(cog, "BLOCK_PX", 512)
    monkeypatch.setattr(cog, "TILE_PX", 256)
    monkeypatch.setattr(validate_masks, "BLOCK_PX", 256)
    assert validate_run(str(whole))["ok"]
    assert max(sides) == 512  # of the finer level, where overviews are compared
    sides.clear()
    monkeypatch.setattr(cog, "TILE_PX", 512)
    (whole / cog_name("alpha", "the-water", "mask")).unlink()
    run(outputs_spec(tmp_path), whole)
    assert max(sides) == 512
    assert (whole / cog_name("alpha", "the-water", "mask")).read_bytes() == cog_bytes
