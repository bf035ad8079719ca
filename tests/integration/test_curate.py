"""Curated tiles from scenes and labels: chips, masks, absence, splits."""

import hashlib
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from curations import TILE_PX, curate, ground, pixels, window_of, write_labels
from PIL import Image
from pyproj import Transformer
from rasterio.features import rasterize
from regions import NORTH_UP, draw_scene
from tiffs import draw_tiff, noise

from pipeline.demo import demo_queries, draw_scenes
from pipeline.normalise import scene_stretch
from pipeline.read import open_scene, read_window
from pipeline.scenes import resolve
from pipeline.storage import Store
from pipeline.tiling import Window
from t2s_core.errors import BadInput
from t2s_core.training.datasets.curated import open_curated

LAKE, ROAD = ground(10, 12, 50, 40), ground(70, 5, 75, 119)
"""In the 120 x 150 px scene of `regions.draw_scene`; chips start at x 0, 64, 86 and y 0, 56."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return draw_scene(tmp_path / "alpha.tif")


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rows = [{"class": "lake", "geometry": LAKE}, {"class": "road", "geometry": ROAD}]
    # corners, so that the layer's bounds are the scene's: it is complete there
    rows += [{"class": None, "geometry": ground(*b)} for b in ((0, 0, 1, 1), (149, 119, 150, 120))]
    return write_labels(tmp_path / "labels.gpkg", rows)


def options(scene_file: Path, labels_file: Path, **changes: Any) -> dict[str, Any]:
    return {"scenes": (str(scene_file),), "labels": (str(labels_file),), "query_template": "the {class}", **changes}


def by_query(rows: list[dict[str, Any]], query: str, *, absent: bool) -> set[tuple[int, int]]:
    return {(r["x0"], r["y0"]) for r in rows if r["query"] == query and r["absent"] == absent}


def test_chips_masks_and_absence_of_a_labelled_scene(scene: Path, labels: Path, tmp_path: Path) -> None:
    document, rows = curate(tmp_path / "out", **options(scene, labels, absent_rate=10.0))
    everywhere = {(x, y) for x in (0, 64, 86) for y in (0, 56)}
    assert by_query(rows, "the lake", absent=False) == {(0, 0)}
    assert by_query(rows, "the lake", absent=True) == everywhere - {(0, 0)}
    assert by_query(rows, "the road", absent=False) == {(64, 0), (64, 56)}
    assert by_query(rows, "the road", absent=True) == everywhere - {(64, 0), (64, 56)}
    truth = {"the lake": np.zeros((120, 150)), "the road": np.zeros((120, 150))}
    truth["the lake"][12:40, 10:50] = 1
    truth["the road"][5:119, 70:75] = 1
    scene_pixels = pixels(scene)
    for row in rows:
        np.testing.assert_array_equal(pixels(tmp_path / "out" / row["image"]), scene_pixels[:, *window_of(row)])
        if row["absent"]:
            assert row["mask"] is None
        else:
            mask = pixels(tmp_path / "out" / row["mask"])[0]
            np.testing.assert_array_equal(mask, truth[row["query"]][window_of(row)])
    assert document["counts"]["samples"] == len(rows) == document["splits"]["train"]["samples"]
    assert document["counts"]["windows"] == {"windows": 6, "usable": 6}
    assert {row["category"] for row in rows} == {"lake", "road"}
    assert len({row["sample_id"] for row in rows}) == len(rows)
    assert [n for n in document["notes"] if "have no query" in n], "the corners"


def test_chips_lie_where_the_scene_does_and_pillow_reads_them(scene: Path, labels: Path, tmp_path: Path) -> None:
    _, rows = curate(tmp_path / "out", **options(scene, labels))
    for row in rows:
        with rasterio.open(tmp_path / "out" / row["image"]) as chip:
            assert chip.crs.to_epsg() == 32633
            assert chip.transform == NORTH_UP @ Affine.translation(row["x0"], row["y0"]) == Affine(*row["transform"])
            assert (chip.count, chip.dtypes[0], chip.compression.value) == (3, "uint8", "DEFLATE")
            as_rasterio = chip.read().transpose(1, 2, 0)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / row["image"])), as_rasterio)
        if row["mask"]:
            with rasterio.open(tmp_path / "out" / row["mask"]) as mask:
                assert (mask.transform, mask.nodata, mask.count) == (Affine(*row["transform"]), 255, 1)


def test_a_coarser_level_shows_more_ground(scene: Path, labels: Path, tmp_path: Path) -> None:
    document, rows = curate(tmp_path / "out", **options(scene, labels, levels=(2,), min_target_px=8))
    (lake,) = (r for r in rows if r["query"] == "the lake" and (r["x0"], r["y0"]) == (0, 0))
    assert (lake["x1"], lake["y1"]) == (128, 128)
    assert Affine(*lake["transform"]) == NORTH_UP @ Affine.scale(2)
    mask = pixels(tmp_path / "out" / lake["mask"])[0]
    assert mask.shape == (TILE_PX, TILE_PX)
    assert mask[6:20, 5:25].all()
    assert (mask == 1).sum() == 14 * 20
    assert (mask[60:] == 255).all(), "the scene ends after 120 rows"
    assert document["levels"] == [2]


def test_absence_is_claimed_only_where_the_labels_are_complete(scene: Path, tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "l.gpkg", [{"class": "lake", "geometry": LAKE}])
    _, rows = curate(tmp_path / "bounds", **options(scene, labels, absent_rate=10.0, min_target_px=1))
    assert rows == [], "the lake's own bounds hold no whole chip, and too little of one is known"
    cover = write_labels(tmp_path / "cover.geojson", [{"geometry": ground(0, 0, 150, 63)}], to="EPSG:4326")
    document, rows = curate(
        tmp_path / "cover", **options(scene, labels, absent_rate=10.0, labels_cover=str(cover)), overlap_px=0
    )
    assert by_query(rows, "the lake", absent=False) == {(0, 0)}
    assert by_query(rows, "the lake", absent=True) == set(), "every chip has a row that nobody looked at"
    mask = pixels(tmp_path / "cover" / rows[0]["mask"])[0]
    assert (mask[63] == 255).all()
    assert not (mask[:62] == 255).any()
    assert document["counts"]["left_out"]["not_covered"] > 0


def test_a_sliver_is_neither_present_nor_absent(scene: Path, tmp_path: Path) -> None:
    corners = [{"class": "road", "geometry": ground(*b)} for b in ((0, 0, 1, 1), (149, 119, 150, 120))]
    labels = write_labels(tmp_path / "l.gpkg", [{"class": "lake", "geometry": ground(20, 20, 25, 23)}, *corners])
    document, rows = curate(tmp_path / "16", **options(scene, labels, absent_rate=99.0))
    assert rows == [], "15 px are too few, and without a present target nothing absent is asked for"
    assert document["counts"]["left_out"]["sliver"] == 3, "the lake, and the two corners of the road"
    _, rows = curate(tmp_path / "15", **options(scene, labels, min_target_px=15))
    assert by_query(rows, "the lake", absent=False) == {(0, 0)}


def test_nodata_is_neither_target_nor_background_and_chips_mostly_of_it_are_left_out(tmp_path: Path) -> None:
    hole = np.zeros((64, 256), np.bool_)
    hole[:, :16], hole[:, 128:168] = True, True
    path = draw_scene(tmp_path / "holed.tif", 64, 256, hole=hole)
    rows = [{"class": "lake", "geometry": ground(0, 0, 64, 32)}, {"class": "sea", "geometry": ground(0, 0, 256, 64)}]
    labels = write_labels(tmp_path / "l.gpkg", rows)
    document, samples = curate(tmp_path / "out", **options(path, labels, absent_rate=10.0))
    (lake,) = (r for r in samples if r["query"] == "the lake" and not r["absent"])
    mask = pixels(tmp_path / "out" / lake["mask"])[0]
    assert (mask[:, :16] == 255).all()
    assert (mask[:32, 16:] == 1).all()
    assert (mask[32:, 16:] == 0).all()
    assert document["counts"]["windows"]["mostly_nodata"] == 1, "that from x=128 to 192, with 40 of 64 columns"
    assert by_query(samples, "the lake", absent=True) == {(64, 0), (192, 0)}


def test_an_absent_target_in_a_chip_with_a_hole_has_a_mask_that_says_where(tmp_path: Path) -> None:
    hole = np.zeros((64, 128), np.bool_)
    hole[:, 70:80] = True
    path = draw_scene(tmp_path / "holed.tif", 64, 128, hole=hole)
    rows = [{"class": "lake", "geometry": ground(0, 0, 64, 64)}, {"class": "x", "geometry": ground(127, 0, 128, 1)}]
    labels = write_labels(tmp_path / "l.gpkg", rows)
    _, samples = curate(tmp_path / "out", **options(path, labels, absent_rate=2.0))
    (absent,) = (r for r in samples if r["absent"] and r["query"] == "the lake")
    assert set(np.unique(pixels(tmp_path / "out" / absent["mask"])).tolist()) == {0, 255}
    examples = open_curated(tmp_path / "out", "train")
    assert {examples[i].has_target for i in range(len(examples))} == {True, False}


@pytest.mark.parametrize("suffix", [".geojson", ".parquet", ".shp"])
def test_labels_in_another_crs_and_format_give_the_same_masks(scene: Path, tmp_path: Path, suffix: str) -> None:
    rows = [{"class": "lake", "geometry": LAKE}, {"class": "road", "geometry": ground(0, 0, 150, 120)}]
    here = write_labels(tmp_path / "here.gpkg", rows)
    there = write_labels(tmp_path / f"there{suffix}", rows, to="EPSG:4326")
    found = []
    for name, file in (("here", here), ("there", there)):
        _, samples = curate(tmp_path / f"out-{name}", **options(scene, file))
        (lake,) = (r for r in samples if r["query"] == "the lake" and not r["absent"])
        found.append(pixels(tmp_path / f"out-{name}" / lake["mask"])[0] == 1)
    assert (found[0] & found[1]).sum() / (found[0] | found[1]).sum() > 0.99


def test_a_mask_raster_of_class_values_on_the_scenes_own_grid(scene: Path, tmp_path: Path) -> None:
    values = np.zeros((1, 120, 150), np.uint8)
    values[0, 12:40, 10:50], values[0, 60:100, 90:140], values[0, :, 148:] = 1, 2, 9
    raster = draw_tiff(tmp_path / "classes.tif", values, transform=NORTH_UP, nodata=9)
    (tmp_path / "v.json").write_text(json.dumps({"1": "the lake", "2": "the wood", "3": "the moor"}))
    document, rows = curate(
        tmp_path / "out",
        scenes=(str(scene),), labels=(str(raster),), class_values=str(tmp_path / "v.json"), absent_rate=99.0,
    )  # fmt: skip
    for row in rows:
        truth = {"the lake": values[0] == 1, "the wood": values[0] == 2, "the moor": values[0] == 3}[row["query"]]
        if row["absent"]:
            assert not truth[window_of(row)].any()
            assert not (values[0] == 9)[window_of(row)].any(), "where nobody knows, nothing is absent"
        else:
            expected = np.where(values[0] == 9, 255, truth)[window_of(row)]
            np.testing.assert_array_equal(pixels(tmp_path / "out" / row["mask"])[0], expected)
    assert by_query(rows, "the lake", absent=False) == {(0, 0)}
    assert by_query(rows, "the moor", absent=True) == {(x, y) for x in (0, 64) for y in (0, 56)}
    assert document["counts"]["left_out"]["not_covered"] > 0


def test_a_mask_raster_on_another_grid_is_taken_by_the_nearest_pixel(scene: Path, tmp_path: Path) -> None:
    to_coarse = Transformer.from_crs("EPSG:32633", "EPSG:3857", always_xy=True)
    left, top = to_coarse.transform(*(NORTH_UP @ (-25, -25)))
    transform = Affine(7.3, 0.4, left, 0.2, -6.9, top)
    values = np.random.default_rng(5).integers(0, 2, (1, 60, 80)).astype(np.uint8)
    raster = draw_tiff(tmp_path / "coarse.tif", values, crs="EPSG:3857", transform=transform)
    _, rows = curate(tmp_path / "out", scenes=(str(scene),), labels=(str(raster),), query="the lake")
    assert {(r["x0"], r["y0"]) for r in rows} == {(x, y) for x in (0, 64, 86) for y in (0, 56)}
    for row in rows:
        px, py = np.meshgrid(np.arange(row["x0"], row["x1"]) + 0.5, np.arange(row["y0"], row["y1"]) + 0.5)
        x, y = to_coarse.transform(*(NORTH_UP @ (px, py)))
        col, line = (np.floor(v).astype(int) for v in ~transform @ (x, y))
        assert min(line.min(), col.min()) >= 0
        np.testing.assert_array_equal(pixels(tmp_path / "out" / row["mask"])[0], values[0][line, col])


def test_phrasings_are_rows_on_the_same_mask(scene: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("the lake: [open water, 'where can I swim?']\n")
    plain, _ = curate(tmp_path / "plain", **options(scene, labels))
    document, rows = curate(tmp_path / "out", **options(scene, labels, phrasings=str(tmp_path / "p.yaml")))
    lakes = [r for r in rows if r["query_id"] == "the-lake" and not r["absent"]]
    assert {r["query"] for r in lakes} == {"the lake", "open water", "where can I swim?"}
    assert len({r["mask"] for r in lakes}) == len({r["chip_id"] for r in lakes}) == 1
    assert len({r["sample_id"] for r in rows}) == len(rows)
    assert document["fingerprint"] != plain["fingerprint"]


def test_what_the_model_sees_in_training_is_what_it_sees_in_a_run(labels: Path, tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "deep.tif", noise(4, 120, 150, dtype="uint16", low=200, high=3000), transform=NORTH_UP)
    _, rows = curate(tmp_path / "out", **options(path, labels, bands=(3, 2, 1)))
    (found,) = resolve([str(path)], bands=(3, 2, 1)).scenes
    stretch = scene_stretch(found)
    with open_scene(found) as dataset:
        for row in rows:
            seen = read_window(dataset, found, Window(*(row[k] for k in ("x0", "y0", "x1", "y1"))), TILE_PX, stretch)
            np.testing.assert_array_equal(pixels(tmp_path / "out" / row["image"]).transpose(1, 2, 0), seen.image)


def test_splits_of_overlapping_scenes_share_no_ground(tmp_path: Path) -> None:
    draw_scene(tmp_path / "one.tif", 400, 400)
    x, y = Transformer.from_crs("EPSG:32633", "EPSG:3857", always_xy=True).transform(500_100.0, 3_999_900.0)
    turned = Affine.translation(x, y) @ Affine.rotation(20) @ Affine.scale(2.2, -2.2)
    draw_scene(tmp_path / "two.tif", 400, 400, seed=1, crs="EPSG:3857", transform=turned)
    labels = write_labels(tmp_path / "l.gpkg", [{"geometry": ground(-500, -500, 900, 900)}])
    document, rows = curate(
        tmp_path / "out", scenes=(str(tmp_path / "*.tif"),), labels=(str(labels),), query="the ground",
        block_m=300.0, val=0.3, test=0.3, overlap_px=32,
    )  # fmt: skip
    assert all(document["splits"][s]["samples"] for s in ("train", "val", "test"))
    assert document["counts"]["windows"]["crossing_blocks"] > 0
    assert {r["scene_id"] for r in rows} == {"one", "two"}
    split_of_block = {r["block"]: r["split"] for r in rows}
    assert all(r["split"] == split_of_block[r["block"]] for r in rows)
    footprints = []
    for row in rows:
        outline = shapely.segmentize(ground(0, 0, TILE_PX, TILE_PX, transform=Affine(*row["transform"])), 10)
        to_utm = Transformer.from_crs(row["crs"], "EPSG:32633", always_xy=True)
        footprints.append(
            shapely.transform(outline, lambda xy, to_utm=to_utm: np.column_stack(to_utm.transform(*xy.T)))
        )
    shared = [
        (a["split"], b["split"])
        for (a, here), (b, there) in combinations(zip(rows, footprints, strict=True), 2)
        if here.intersects(there)
    ]
    assert shared, "the scenes overlap, and so do neighbours"
    assert all(one == other for one, other in shared)


def test_adding_a_scene_moves_no_block(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        draw_scene(
            tmp_path / f"{name}.tif", 300, 300, seed=seed, transform=NORTH_UP @ Affine.translation(150 * seed, 0)
        )
    labels = write_labels(tmp_path / "l.gpkg", [{"geometry": ground(-500, -500, 900, 900)}])
    common = {"labels": (str(labels),), "query": "the ground", "block_m": 200.0, "val": 0.3, "test": 0.3}
    _, alone = curate(tmp_path / "a", scenes=(str(tmp_path / "one.tif"),), **common)
    _, both = curate(tmp_path / "b", scenes=(str(tmp_path / "one.tif"), str(tmp_path / "two.tif")), **common)
    places = {r["sample_id"]: (r["block"], r["split"]) for r in both}
    assert alone
    assert all(places[r["sample_id"]] == (r["block"], r["split"]) for r in alone)


def contents(out: Path) -> dict[str, str]:
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.name != "dataset.json"]
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_inputs_give_the_same_data_set(scene: Path, labels: Path, tmp_path: Path) -> None:
    first, _ = curate(tmp_path / "a", **options(scene, labels))
    before = contents(tmp_path / "a")
    again, _ = curate(tmp_path / "a", **options(scene, labels))
    elsewhere, _ = curate(tmp_path / "b", **options(scene, labels))
    assert first["fingerprint"] == again["fingerprint"] == elsewhere["fingerprint"]
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == before
    assert not (tmp_path / "a" / "curating.json").exists()
    other, _ = curate(tmp_path / "c", **options(scene, labels, min_target_px=600))
    assert other["fingerprint"] != first["fingerprint"]


def test_a_directory_that_holds_something_else_is_refused(scene: Path, labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, _ = curate(out, **options(scene, labels, absent_rate=0.0))
    with pytest.raises(BadInput, match=r"holds another data set.*--fresh"):
        curate(out, **options(scene, labels, min_target_px=600))
    assert json.loads((out / "dataset.json").read_text()) == first
    second, rows = curate(out, fresh=True, **options(scene, labels, min_target_px=600))
    assert second["fingerprint"] != first["fingerprint"]
    assert {str(p.relative_to(out)) for p in (out / "chips").iterdir()} == {r["image"] for r in rows}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match="is not empty"):
        curate(tmp_path / "photos", **options(scene, labels))


def test_an_interrupted_curation_is_finished_by_the_same_command(
    scene: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unplugged(*_: Any) -> None:
        raise ConnectionError("the plug was pulled")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.curate.write_samples", unplugged)
        with pytest.raises(ConnectionError):
            curate(tmp_path / "out", **options(scene, labels))
    assert not (tmp_path / "out" / "dataset.json").exists()
    with pytest.raises(BadInput, match="holds another data set"):
        curate(tmp_path / "out", **options(scene, labels, seed=9))
    whole, _ = curate(tmp_path / "whole", **options(scene, labels))
    finished, _ = curate(tmp_path / "out", **options(scene, labels))
    assert finished["fingerprint"] == whole["fingerprint"]


def test_all_problems_are_said_at_once_and_nothing_is_written(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    labels = write_labels(tmp_path / "l.gpkg", [{"class": "lake", "geometry": LAKE}])
    with pytest.raises(BadInput) as caught:
        curate(
            tmp_path / "out",
            scenes=(str(scene), str(tmp_path / "gone.tif")), labels=(str(labels),), query_column="kind",
            phrasings=str(tmp_path / "bad.json"), hard_from=str(tmp_path / "norun"), val=0.9, test=0.9, overlap_px=40,
        )  # fmt: skip
    text = str(caught.value)
    for part in ("gone.tif", "no column 'kind'", "no mapping", "no run.json", "more than all blocks", "overlap_px=40"):
        assert part in text
    assert all(len(p.splitlines()) == 1 for p in caught.value.problems)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"scenes": ()}, "lies over no scene"),
        ({"labels": ()}, "add --labels"),
        ({"query_template": None}, "what are these called"),
        ({"query": "the lake"}, "given together with"),
        ({"features": "f.gpkg"}, "needs --from-run"),
        ({"reviewed": ("x",)}, "names a part of no run"),
        ({"block_m": 10.0}, "less than a chip's"),
        ({"block_m": -1.0}, "is no length"),
        ({"absent_rate": -1.0}, "negative"),
        ({"min_target_px": 0}, "less than a pixel"),
        ({"tile_px": 8}, "tile_px=8"),
        ({"query_template": "the {kind}"}, "no column 'kind'"),
        ({"labels_cover": "nowhere.gpkg"}, "nowhere.gpkg"),
    ],
)
def test_bad_input(scene: Path, labels: Path, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        curate(tmp_path / "out", **options(scene, labels, **changes))
    assert not (tmp_path / "out").exists()


def test_labels_that_cannot_be_used(scene: Path, tmp_path: Path) -> None:
    far = write_labels(tmp_path / "far.gpkg", [{"class": "lake", "geometry": ground(9000, 9000, 9100, 9100)}])
    points = write_labels(tmp_path / "points.gpkg", [{"class": "lake", "geometry": LAKE.centroid}])
    nowhere = write_labels(tmp_path / "nowhere.gpkg", [{"class": "lake", "geometry": LAKE}], crs="")
    binary = draw_tiff(tmp_path / "binary.tif", np.ones((1, 9, 9), np.uint8), transform=NORTH_UP, nodata=0)
    floats = draw_tiff(tmp_path / "floats.tif", np.ones((2, 9, 9), np.float32), transform=NORTH_UP)
    for file, problem in (
        (far, "lies over none"), (points, "is a Point"), (nowhere, "no coordinate reference system"),
        (binary, "nothing in it is background"), (floats, "holds no class values"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=problem):
            curate(tmp_path / "out", scenes=(str(scene),), labels=(str(file),), query="the lake")


def test_a_scene_that_no_label_lies_over_is_said_and_left_out(scene: Path, labels: Path, tmp_path: Path) -> None:
    other = draw_scene(tmp_path / "far.tif", transform=NORTH_UP @ Affine.translation(5000, 0))
    document, rows = curate(tmp_path / "out", **options(scene, labels, scenes=(str(scene), str(other))))
    assert {r["scene_id"] for r in rows} == {"alpha"}
    assert any("far.tif" in note for note in document["notes"])


def test_the_drawn_region_against_its_truth(tmp_path: Path) -> None:
    size = 384
    hrefs = draw_scenes(Store.at(str(tmp_path)), seed=11, size_px=size)
    names = [Path(h).stem for h in hrefs]
    (tmp_path / "v.json").write_text(json.dumps({q.query_id: q.text for q in demo_queries()}))
    document, rows = curate(
        tmp_path / "out",
        scenes=tuple(hrefs), labels=tuple(str(tmp_path / "truth" / f"{n}.parquet") for n in names),
        query_column="query_id", class_values=str(tmp_path / "v.json"), block_m=60.0, val=0.2, test=0.2, overlap_px=32,
    )  # fmt: skip
    import geopandas as gpd

    ids = {q.text: q.query_id for q in demo_queries()}
    checked = 0
    for name, href in zip(names, hrefs, strict=True):
        frame = gpd.read_parquet(tmp_path / "truth" / f"{name}.parquet")
        with rasterio.open(href) as dataset:
            transform, valid = dataset.transform, dataset.dataset_mask() > 0
        for row in (r for r in rows if r["scene_id"] == name):
            shapes = list(frame.geometry[frame["query_id"] == ids[row["query"]]])
            truth = np.zeros((size, size), np.uint8)
            if shapes:
                truth = rasterize(shapes, out_shape=(size, size), transform=transform)
            if row["absent"]:
                assert not truth[window_of(row)].any()
                continue
            mask = pixels(tmp_path / "out" / row["mask"])[0]
            known = mask != 255
            np.testing.assert_array_equal(mask[known], truth[window_of(row)][known])
            assert not known[~valid[window_of(row)]].any()
            checked += 1
    assert checked > 20
    present = sum(not r["absent"] for r in rows)
    assert len(rows) - present == sum(round(0.5 * document["splits"][s]["present"]) for s in document["splits"])
    assert {len(open_curated(tmp_path / "out", s)) for s in ("train",)} == {document["splits"]["train"]["samples"]}
