"""Runs over STAC items: three assets as one scene, an area that selects scenes, and what the command says of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from range_server import serving
from regions import NORTH_UP, draw_scene, features_of, make_models, mask_of, run, spec_of, work_here
from stac_items import COG, COLOURS, band_asset, bbox_of_scene, item_of, sentinel, write_item
from tiffs import draw_tiff, scene_of

from pipeline.demo import draw_scenes
from pipeline.manifest import RunStatus, read_manifest
from pipeline.queries import parse_queries
from pipeline.spec import Models, RunSpec
from pipeline.storage import Store
from pipeline.validate import validate_run

NAMES = tuple(COLOURS.values())
SECRET = "cafe0123456789abcdef"  # noqa: S105 -- of this test


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


def split(scene: Path, folder: Path) -> Path:
    """The item of a scene whose bands lie in files of their own."""
    with rasterio.open(scene) as whole:
        pixels, profile = whole.read(), {"crs": whole.crs, "transform": whole.transform, "nodata": whole.nodata}
    for key, band in zip(COLOURS, pixels, strict=True):
        draw_tiff(folder / f"{key}.tif", band[None], tiled=True, blockxsize=64, blockysize=64, **profile)
    return sentinel(folder)


def test_three_assets_give_the_masks_and_polygons_of_one_file(tmp_path: Path) -> None:
    """With the bundled models, on ground that they know."""
    drawn = Store.at(str(tmp_path / "drawn"))
    draw_scenes(drawn, seed=1, size_px=256)
    whole = Path(drawn.path("scenes/harbour_town.tif"))
    asked = RunSpec(scenes=(str(whole),), queries=parse_queries(["the lake", "the roofs"]))
    item = split(whole, tmp_path)
    one = run(asked, tmp_path / "one")
    three = run(asked.model_copy(update={"scenes": (str(item),), "bands": NAMES}), tmp_path / "three")
    assert (one.status, three.status) == (RunStatus.SUCCESS, RunStatus.SUCCESS)
    (entry,) = three.manifest["scenes"]
    assert [Path(part["href"]).name for part in entry["parts"]] == ["B04.tif", "B03.tif", "B02.tif"]
    published = json.loads((tmp_path / "three/stac/items/item.json").read_text())
    assert published["properties"]["t2s:scene_parts"] == entry["parts"]
    assert features_of(tmp_path / "one").area_m2.sum() > 0, "else there is nothing to compare"
    for query in ("the-lake", "the-roofs"):
        np.testing.assert_array_equal(
            mask_of(tmp_path / "one", "harbour_town", query), mask_of(tmp_path / "three", "item", query)
        )
    outlines = [
        features_of(tmp_path / out).sort_values(["query_id", "area_m2"]).geometry.normalize().tolist()
        for out in ("one", "three")
    ]
    assert outlines[0] == outlines[1]
    assert validate_run(str(tmp_path / "three"))["ok"]
    assert run(asked.model_copy(update={"scenes": (str(item),), "bands": NAMES}), tmp_path / "three").computed == 0


def test_three_signed_assets_are_read_and_the_signature_is_nowhere(
    models: Models, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    split(draw_scene(tmp_path / "alpha.tif"), served)
    with serving(served, SECRET) as server:

        def asked(more: str = "") -> RunSpec:
            assets = {
                key: band_asset(f"{server.url}/{key}.tif?sig={SECRET}{more}", common) for key, common in COLOURS.items()
            }
            item = write_item(tmp_path / "signed.json", assets)
            hosts = (server.url.removeprefix("http://"),)
            return spec_of(models, item, bands=NAMES, allow_hosts=hosts)

        out = tmp_path / "out"
        assert run(asked(), out).status is RunStatus.SUCCESS
        manifest = read_manifest(Store.at(str(out)))
        assert manifest is not None
        assert [p["href"] for p in manifest["scenes"][0]["parts"]] == [f"{server.url}/{key}.tif" for key in COLOURS]
        assert run(asked("&se=2031"), out).computed == 0
        (served / "B02.tif").touch()
        assert run(asked(), out).computed == 9, "one file of the three has changed"
    written = [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert written == []
    assert SECRET not in caplog.text


def two_scenes(folder: Path) -> tuple[Path, Path, Path]:
    """Two scenes a kilometre apart, and an area that holds the first."""
    here = draw_scene(folder / "here.tif")
    far = draw_scene(folder / "far.tif", transform=Affine.translation(1000, 0) @ NORTH_UP)
    west, north = NORTH_UP @ (-5, -5)
    east, south = NORTH_UP @ (155, 125)
    area = folder / "area.wkt"
    area.write_text(f"SRID=32633;{shapely.box(west, south, east, north).wkt}")
    return here, far, area


def test_what_an_area_leaves_out_leaves_the_run_and_comes_back_without_models(models: Models, tmp_path: Path) -> None:
    here, far, area = two_scenes(tmp_path)
    out = tmp_path / "out"
    asked = spec_of(models, here, far)
    assert run(asked, out).status is RunStatus.SUCCESS
    before = features_of(out)
    assert set(before.scene_id) == {"here", "far"}
    narrowed = run(asked.model_copy(update={"aoi": str(area)}), out)
    assert (narrowed.status, narrowed.computed) == (RunStatus.SUCCESS, 0)
    assert [scene["scene_id"] for scene in narrowed.manifest["scenes"]] == ["here"]
    assert narrowed.manifest["notes"] == ["1 scene outside of the area of interest is left out"]
    assert set(gpd.read_parquet(out / "features").scene_id) == {"here"}, "readers see nothing that was left out"
    assert not (out / "masks.zarr/far").exists()
    assert {path.stem for path in (out / "stac/items").iterdir()} == {"here"}
    checks = validate_run(str(out))["checks"]
    assert [check for check in checks if not check["ok"]] == []
    assert not any("knows nothing of" in check["detail"] for check in checks)
    widened = run(asked, out)
    assert (widened.status, widened.computed) == (RunStatus.SUCCESS, 0)
    assert set(features_of(out).feature_id) == set(before.feature_id)


def test_a_scene_that_is_no_longer_named_keeps_what_was_published(models: Models, tmp_path: Path) -> None:
    """Only the area takes back: a bucket that is emptied of old scenes shall not empty the results."""
    here, far, _ = two_scenes(tmp_path)
    out = tmp_path / "out"
    run(spec_of(models, here, far), out)
    run(spec_of(models, far), out)
    assert set(features_of(out).scene_id) == {"here", "far"}


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process: exit code, stdout, stderr."""
    from flows.cli.app import main

    work_here(monkeypatch)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["t2s", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out, captured.err

    return command


def collection(folder: Path) -> Path:
    """A static collection of two items a kilometre apart, each with a picture and three bands."""
    links = []
    for name, path in zip(("here", "far"), two_scenes(folder)[:2], strict=True):
        (folder / name).mkdir()
        split(path, folder / name)
        assets: dict[str, Any] = {"visual": {"href": f"../{name}.tif", "type": COG, "roles": ["visual"]}}
        assets |= {key: band_asset(f"{key}.tif", common, name=key) for key, common in COLOURS.items()}
        document = item_of(name, assets, bbox=bbox_of_scene(scene_of(path)))
        (folder / name / f"{name}.json").write_text(json.dumps(document))
        links.append({"rel": "item", "href": f"./{name}/{name}.json"})
    made = {"type": "Collection", "stac_version": "1.1.0", "id": "two", "links": links}
    (folder / "collection.json").write_text(json.dumps(made))
    return folder / "collection.json"


def test_the_plan_says_what_was_chosen_and_what_is_left_out(here: Command, models: Models, tmp_path: Path) -> None:
    given = collection(tmp_path)
    common = (
        given, "--query", "the water", "--prompter", models.prompter, "--segmenter", models.segmenter,
        "--out", tmp_path / "out", "--direct",
    )  # fmt: skip
    plan = common[:-1]
    code, said, _ = here("plan", *plan, "--aoi", tmp_path / "area.wkt")
    assert code == 0
    assert said.startswith("1 scene, ")
    assert "1 scene outside of the area of interest is left out\n" in said
    assert "asset visual of visual, B04, B03, B02 is taken for 1 scene; --asset names another\n" in said
    code, said, _ = here("plan", *plan, "--asset", "B04,B03,B02", "--json")
    assert (code, json.loads(said)["scenes"], json.loads(said)["notes"]) == (0, 2, [])
    code, _, said = here("segment", *common, "--aoi", tmp_path / "area.wkt", "--bands", "B04,B03,B02")
    assert code == 0
    assert "assets" not in said
    assert "asset B04, B03, B02 of visual, B04, B03, B02 is taken for 1 scene; --asset names another\n" in said


def test_what_cannot_be_is_a_line_and_exit_code_2(here: Command, tmp_path: Path) -> None:
    given = collection(tmp_path)
    (tmp_path / "off.wkt").write_text("SRID=4326;POLYGON ((0 0, 1 0, 1 1, 0 0))")
    draw_tiff(tmp_path / "here" / "B02.tif", np.ones((1, 9, 9), np.uint8), transform=NORTH_UP)
    for options, said in (
        (("--asset", "TCI"), "has no asset TCI; it has visual, B04, B03, B02."),
        (("--asset", "B04,B03,B02"), "has another grid than"),
        (("--bands", "nir"), "no band is called nir; it has"),
        (("--bands", "red,2,1"), "--bands: 'red,2,1' mixes numbers and names"),
        (("--aoi", tmp_path / "off.wkt"), "misses all 2 scenes; check its CRS"),
        (("--aoi", tmp_path / "gone.gpkg"), "gone.gpkg: cannot be read"),
    ):
        code, _, errors = here("segment", given, "--query", "the water", "--out", tmp_path / "out", *options)
        assert code == 2, options
        assert said in errors
        assert all(line.startswith("error: ") for line in errors.splitlines()), errors
    assert not (tmp_path / "out").exists()


def test_a_search_is_not_asked_without_the_area_that_bounds_it(here: Command, tmp_path: Path) -> None:
    code, _, errors = here("plan", "http://127.0.0.1:1/search", "--query", "the lake", "--aoi", tmp_path / "gone.gpkg")
    assert code == 2
    assert len(errors.splitlines()) == 1, "nobody called the API, which is not there"
