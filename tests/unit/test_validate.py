"""A finished run is found whole; each way of breaking it is found by the laws that it breaks, and by no other."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import zarr
from breaking import described, failing, rows_of
from odc.geo.geobox import GeoBox
from outputs import ROTATED, finished_run
from shapely.affinity import translate

from pipeline.geodesy import to_geographic
from pipeline.progress import Advance, Silent
from pipeline.storage import Store
from pipeline.validate import CHECKS, validate_run
from t2s_core.errors import BadInput

WATER = "features/query_id=the-water/scene_id=alpha/part-0.parquet"
OBJECTS = "objects/query_id=the-water/part-0.parquet"
ALPHA, BETA = "masks.zarr/alpha/the-water", "masks.zarr/beta/the-water"
ITEM = "stac/items/beta.json"
COG = "cog/alpha/the-water/mask.tif"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return shutil.copytree(whole, tmp_path / "out")


def largest(out: Path, change: Callable[[shapely.Geometry], shapely.Geometry]) -> None:
    """Change the largest feature's geometry, and its bbox and area with it."""

    def edit(rows: list[dict[str, Any]]) -> None:
        row = max(rows, key=lambda row: row["area_m2"])
        row |= described(change(shapely.from_wkb(row["geometry"])))

    rows_of(out, WATER, edit)


def metadata_of(out: Path, name: str, key: bytes, value: bytes) -> None:
    table = pq.read_table(out / name, partitioning=None)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: value}), out / name)


def json_of(out: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((out / name).read_text())
    change(document)
    (out / name).write_text(json.dumps(document))


def array(out: Path, name: str) -> Any:
    return zarr.open_array(out / name, mode="r+")


def flip(out: Path, name: str, row: int = 300, col: int = 300) -> None:
    mask = array(out, name)
    mask[row, col] = 1 - mask[row, col]


def move_geometry(out: Path) -> None:
    largest(out, lambda geometry: translate(geometry, xoff=4 * 2.2e-5))


def wrong_bbox(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows[2]["bbox"].update(xmax=rows[2]["bbox"]["xmax"] + 1e-7))


def bow_tie(out: Path) -> None:
    def twist(geometry: shapely.Geometry) -> shapely.Geometry:
        x0, y0, x1, y1 = geometry.bounds
        return shapely.Polygon([(x0, y0), (x1, y1), (x1, y0), (x0, y1)])

    largest(out, twist)


def wrong_area(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows[0].update(area_m2=rows[0]["area_m2"] * 1.001))


def duplicated_id(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows[0].update(feature_id=rows[1]["feature_id"]))


def malformed_id(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows[0].update(feature_id="7"))


def lost_feature(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows.pop())


def foreign_feature(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows[0].update(run_id="r19700101T000000000000Z"))


def other_query(out: Path) -> None:
    rows_of(out, WATER, lambda rows: rows[0].update(query="the sea"))


def old_schema(out: Path) -> None:
    metadata_of(out, WATER, b"t2s:schema_version", b"0")


def other_scene_version(out: Path) -> None:
    metadata_of(out, WATER, b"t2s:scene_etag", b"0" * 32)


def missing_partition(out: Path) -> None:
    (out / WATER).unlink()


def truncated_partition(out: Path) -> None:
    (out / WATER).write_bytes((out / WATER).read_bytes()[:-300])


def flipped_pixel(out: Path) -> None:
    flip(out, f"{ALPHA}/mask")


def target_in_nodata(out: Path) -> None:
    array(out, f"{BETA}/probability")[10:20, 120:130] = 254
    array(out, f"{BETA}/mask")[10:20, 120:130] = 1


def feature_in_nodata(out: Path) -> None:
    """The copy of a row of beta, moved into its hole."""

    def add(rows: list[dict[str, Any]]) -> None:
        beta = GeoBox((120, 150), ROTATED, "EPSG:32634")
        (square,) = to_geographic([shapely.box(115, 5, 119, 9)], beta)
        rows.append(rows[0] | {"feature_id": "0" * 16} | described(square))

    rows_of(out, WATER.replace("alpha", "beta"), add)


def truncated_chunk(out: Path) -> None:
    chunk = out / f"{ALPHA}/mask/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:40])


def missing_chunk(out: Path) -> None:
    (out / f"{ALPHA}/mask/c/0/0").unlink()


def half_written_group(out: Path) -> None:
    zarr.open_group(out / ALPHA, mode="r+").attrs.update({"t2s:state": "writing"})


def missing_group(out: Path) -> None:
    shutil.rmtree(out / ALPHA)


def moved_grid(out: Path) -> None:
    group = zarr.open_group(out / ALPHA, mode="r+")
    a, b, c, d, e, f = group.attrs["spatial:transform"]
    group.attrs.update({"spatial:transform": [a, b, c + 1, d, e, f]})


def stale_consolidated(out: Path) -> None:
    json_of(out, f"{ALPHA}/mask/zarr.json", lambda d: d["attributes"].update(long_name="another"))


def other_fill_value(out: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["fill_value"] = 0

    json_of(out, f"{ALPHA}/mask/zarr.json", change)


def coverage_of_nothing(out: Path) -> None:
    array(out, f"{ALPHA}/coverage_l1")[1, 1] = 7  # pending


def wrong_overview(out: Path) -> None:
    flip(out, f"{ALPHA}/2/mask", 100, 100)


def missing_objects(out: Path) -> None:
    (out / OBJECTS).unlink()


def objects_of_another_query(out: Path) -> None:
    shutil.copyfile(out / OBJECTS.replace("water", "roads"), out / OBJECTS)


def cog_pixel(out: Path) -> None:
    with rasterio.open(out / COG, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        values = file.read(1)
        file.write(np.where(values == 255, 255, 1 - values).astype(np.uint8), 1)


def cog_of_another_mosaic(out: Path) -> None:
    shutil.copyfile(out / "cog/alpha/the-roads/mask.tif", out / COG)


def missing_cog(out: Path) -> None:
    (out / COG).unlink()


def missing_item(out: Path) -> None:
    (out / ITEM).unlink()


def moved_item(out: Path) -> None:
    json_of(out, ITEM, lambda d: d["properties"]["proj:transform"].__setitem__(2, 0.0))


def item_of_nothing(out: Path) -> None:
    json_of(out, ITEM, lambda d: d["assets"]["the-water-zarr"].update(href="../../masks.zarr/gamma/the-water"))


def item_without_time(out: Path) -> None:
    json_of(out, ITEM, lambda d: d["properties"].pop("end_datetime"))


def edited_counts(out: Path) -> None:
    json_of(out, "run.json", lambda d: d["counts"].update(failed=1))


def edited_threshold(out: Path) -> None:
    json_of(out, "run.json", lambda d: d["queries"][0].update(threshold=0.4))


def edited_spec(out: Path) -> None:
    json_of(out, "run.json", lambda d: next(iter(d["specs"].values())).update(threshold=0.4))


def forgotten_history(out: Path) -> None:
    json_of(out, "run.json", lambda d: d["history"][0].update(run_id="r19700101T000000000000Z"))


def interrupted(out: Path) -> None:
    json_of(out, "run.json", lambda d: d.update(status="RUNNING"))


def ended_by_error(out: Path) -> None:
    json_of(out, "run.json", lambda d: d.update(status="FAILED", error="OSError: no space left"))


def lost_tiles(out: Path) -> None:
    for batch in (out / "tiles/beta").rglob("*.parquet"):
        batch.unlink()


def no_checksums(out: Path) -> None:
    (out / "checksums/run.sha256").unlink()


def added_object(out: Path) -> None:
    (out / ALPHA / "mask/c/9").mkdir()
    (out / ALPHA / "mask/c/9/9").write_bytes(b"?")


@dataclass(frozen=True)
class Break:
    """A way to break a run, the checks that must fail beside `checksums`, and what one of them must say."""

    do: Callable[[Path], None]
    checks: frozenset[str]
    said: str
    signed: bool = True
    """Whether `checksums` must fail too."""


def by(do: Callable[[Path], None], checks: str, said: str, *, signed: bool = True) -> Break:
    return Break(do, frozenset(checks.split()), said, signed)


ALL_OF_FEATURES = "geoparquet bbox geometry feature-ids features-mask objects"
BROKEN = [
    by(move_geometry, "features-mask geoparquet objects", "no feature where the mask has one"),  # beyond the bbox
    by(wrong_bbox, "bbox", "bbox is not the geometry's bounds"),
    by(bow_tie, "geometry features-mask objects", "geometry is not valid"),
    by(wrong_area, "geometry", "area_m2 is not the geodesic area"),
    by(duplicated_id, "feature-ids objects", "2 rows have this id"),
    by(malformed_id, "feature-ids objects", "feature_id is not 16 hex digits"),
    by(lost_feature, "features-mask run objects", "features.the-water"),
    by(foreign_feature, "provenance objects", "r19700101T000000000000Z"),
    by(other_query, "geoparquet objects", "query is 'the sea' in some rows"),
    by(old_schema, "geoparquet", "schema version is 0, not 1"),
    by(other_scene_version, "provenance", "scene is"),
    by(missing_partition, f"run provenance stac {ALL_OF_FEATURES}", "part-0.parquet"),
    by(truncated_partition, f"run provenance {ALL_OF_FEATURES}", "cannot be checked"),
    by(flipped_pixel, "mask features-mask overviews cog", "1 px, the first at row 300, column 300"),
    by(target_in_nodata, "valid-data mask features-mask cog", "target where there is no data: 100 px"),
    by(feature_in_nodata, "features-mask run objects", "a feature where the mask has none: 16 px"),
    by(truncated_chunk, "mask overviews valid-data features-mask cog", "cannot be checked"),
    by(missing_chunk, "mask overviews features-mask cog", "mask is not the threshold of the probability"),
    by(half_written_group, "zarr provenance mask overviews cog stac", "t2s:state is writing, not complete"),
    by(missing_group, "zarr coverage provenance mask overviews valid-data features-mask cog stac", "is missing"),
    by(moved_grid, "zarr", "spatial:transform is"),
    by(stale_consolidated, "zarr", "the consolidated metadata say something else"),
    by(other_fill_value, "zarr", "fill_value is 0, not 255"),
    by(coverage_of_nothing, "coverage", "coverage says pending, by the plan it is ok"),
    by(wrong_overview, "overviews cog", "not made of the finer"),
    by(missing_objects, "objects", "FileNotFoundError"),
    by(objects_of_another_query, "objects", "t2s:fingerprint is"),
    by(cog_pixel, "cog", "differs from alpha/the-water"),
    by(cog_of_another_mosaic, "cog", "T2S_FINGERPRINT is"),
    by(missing_cog, "cog stac", "which is not there"),
    by(missing_item, "stac", "beta.json"),
    by(moved_item, "stac", "properties.proj:transform is"),
    by(item_of_nothing, "stac", "points at ../../masks.zarr/gamma/the-water, which is not there"),
    by(item_without_time, "stac", "properties.end_datetime is None, not 2024-05-06T07:08:09Z"),
    by(edited_counts, "run", "counts.failed is 1, not 0"),
    by(edited_threshold, "mask", "threshold is 0.5, not 0.4"),
    by(edited_spec, "provenance", "digest of a spec"),
    by(forgotten_history, "provenance stac", "which run.json knows nothing of"),
    by(interrupted, "run", "the run was interrupted; resume it"),
    by(ended_by_error, "run", "the run ended by OSError: no space left"),
    by(lost_tiles, "run coverage", "is pending", signed=False),
    by(no_checksums, "", "checksums/run.sha256: cannot be checked"),
    by(added_object, "", "is not listed in checksums/scenes/alpha.sha256"),
]


def test_a_finished_run_is_found_whole(whole: Path) -> None:
    document = validate_run(str(whole))
    assert document["ok"], document
    details = {check["name"]: check["detail"] for check in document["checks"]}
    assert details["features-mask"] == "6 partitions"
    assert details["objects"] == "3 tables"
    assert details["cog"] == "12 files"
    assert details["valid-data"] == "6 groups"
    assert details["run"] == "1 invocations; status SUCCESS"


class Heard(Silent):
    """What a progress is told."""

    def __init__(self) -> None:
        self.total, self.steps = 0, list[int]()

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        self.total += total - done
        return self.steps.append


def test_a_long_look_says_how_far_it_is(out: Path) -> None:
    for break_it in (lambda _: None, missing_group, truncated_partition, missing_item):
        break_it(out)
        heard = Heard()
        validate_run(str(out), heard)
        assert sum(heard.steps) == heard.total == 6 * len(CHECKS), "two scenes and three queries"
        assert heard.steps.count(1) > heard.total / 2, "and not in leaps"


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.do.__name__)
def test_each_break_is_found_by_the_laws_that_it_breaks(out: Path, broken: Break) -> None:
    broken.do(out)
    found = failing(out)
    assert set(found) == broken.checks | ({"checksums"} if broken.signed else set())
    assert broken.said in " ".join(found.values())


def test_what_is_no_output_may_change(out: Path) -> None:
    (out / "report.html").write_text("drawn anew")
    (out / "notes.txt").write_text("mine")
    assert failing(out) == {}


def test_problems_beyond_the_first_are_counted(out: Path) -> None:
    changed: list[None] = []
    rows_of(out, WATER, lambda rows: changed.extend([row.update(score=2.0) for row in rows]))
    assert f"score is not within 0 to 1 (and {len(changed) - 3} more)" in failing(out)["geometry"]


def test_what_rules_leave_out_or_simplify_is_no_problem_but_what_is_too_much_is(out: Path) -> None:
    lost_feature(out)
    assert "features-mask" in failing(out)
    json_of(out, "run.json", lambda document: document["queries"][0].update(min_area_m2=1e4))
    assert "features-mask" not in failing(out)
    move_geometry(out)
    assert "a feature where the mask has none" in failing(out)["features-mask"]
    json_of(out, "run.json", lambda document: document["queries"][0].update(simplify_m=5.0))
    assert "features-mask" not in failing(out)
    details = {check["name"]: check["detail"] for check in validate_run(str(out))["checks"]}
    assert "the-water is simplified" in details["features-mask"]


def test_scenes_that_are_gone_or_new_are_not_compared_and_that_is_said(tmp_path: Path) -> None:
    out = finished_run(tmp_path)
    (tmp_path / "alpha.tif").unlink()
    (tmp_path / "beta.tif").touch()
    document = validate_run(str(out))
    assert document["ok"]
    detail = next(check["detail"] for check in document["checks"] if check["name"] == "valid-data")
    assert "not compared with alpha: cannot be opened" in detail
    assert "not compared with beta: the file has changed" in detail


def test_a_run_json_that_makes_no_sense_is_a_failed_check_and_none_at_all_is_bad_input(out: Path) -> None:
    json_of(out, "run.json", lambda document: document.pop("spec"))
    document = validate_run(str(out))
    assert not document["ok"]
    assert "run.json lacks or twists" in document["checks"][0]["detail"]
    (out / "run.json").write_text("{")
    with pytest.raises(BadInput, match=r"is not a run's manifest"):
        validate_run(str(out))
    (out / "run.json").unlink()
    with pytest.raises(BadInput, match=r"no run\.json is here"):
        validate_run(str(out))


def test_a_run_on_another_filesystem(whole: Path) -> None:
    store = Store.at("memory://validate-test/run")
    for path in (p for p in whole.rglob("*") if p.is_file()):
        store.write(str(path.relative_to(whole)), path.read_bytes())
    assert failing(store.url) == {}
    store.remove(COG)
    assert set(failing(store.url)) == {"checksums", "cog", "stac"}


def test_without_the_third_party_validators_our_own_laws_hold_and_that_is_said(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("geoparquet_validator", "rio_cogeo.cogeo", "pystac.validation.stac_validator"):
        monkeypatch.setitem(sys.modules, name, None)
    document = validate_run(str(whole))
    assert document["ok"]
    assert sum("is not installed" in check["detail"] for check in document["checks"]) == 4
