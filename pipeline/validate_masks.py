"""Laws of mosaics and COGs, looked at block by block."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import zarr
import zarr_cm
from numpy.typing import NDArray
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from rasterio.windows import Window as RasterioWindow
from shapely.geometry.base import BaseGeometry

from pipeline import cog, mosaics
from pipeline.blocks import blocks
from pipeline.findings import Findings, Published
from pipeline.georef import YX, overview_geobox, proj_crs, pyramid, shape_yx
from pipeline.mosaics import COVERAGE, group_path, read_window
from pipeline.overviews import factors_of, halve_by_maximum, halve_by_mean
from pipeline.pixels import UnreadablePixels, native_valid, open_scene
from pipeline.plan import ScenePlan
from pipeline.rasters import open_raster
from pipeline.scenes import Scene
from pipeline.stitch import NOBODY_LOOKED, threshold_mask
from pipeline.stitching import coverage_codes, planned_tiles
from pipeline.storage import Store
from pipeline.tiling import Window

BLOCK_PX = 2048
"""Side of what is in memory at a time."""
_CONVENTIONS = frozenset({"proj", "spatial", "multiscales"})
_TARGET = 1


def windows_of(shape: tuple[int, int]) -> Iterator[Window]:
    """Blocks that a raster of (height, width) is looked at in."""
    return blocks(shape, cog.TILE_PX, BLOCK_PX)


def check_groups(run: Published, found: Findings) -> None:
    """Every group is complete, and its arrays and conventions are what the scene's grid demands."""
    for plan, query in run.mosaics():
        path = group_path(plan.scene.scene_id, query.query_id)
        with found.reading(path):
            group = mosaics.open_group(run.store, path)
            found.expect(path, "t2s:state", found=group.attrs.get("t2s:state"), expected="complete")
            _check_conventions(dict(group.attrs), plan.scene, path, found)
            _check_arrays(group, shape_yx(plan.scene.geobox), YX, path, found)
            for factor in factors_of(dict(group.attrs)):
                overview = mosaics.open_group(run.store, f"{path}/{factor}")
                zarr_cm.validate_all(dict(overview.attrs))
                shape, dims = shape_yx(overview_geobox(plan.scene.geobox, factor)), (f"y_{factor}", f"x_{factor}")
                _check_arrays(overview, shape, dims, f"{path}/{factor}", found)
            _check_consolidated(run.store, path, found)


def _check_conventions(attributes: dict[str, Any], scene: Scene, path: str, found: Findings) -> None:
    zarr_cm.validate_all(attributes)
    missing = _CONVENTIONS - set(zarr_cm.detect_revisions(attributes))
    if missing:
        found.problem(path, f"lacks the conventions {', '.join(sorted(missing))}")
    # What the scene's own grid gives, key by key: a moved grid is a moved mask.
    expected = pyramid(scene.geobox, factors_of(attributes))
    for key in (k for k in expected if k.startswith(("proj:", "spatial:"))):
        found.expect(path, key, found=attributes.get(key), expected=expected[key])


def _check_arrays(group: zarr.Group, shape: tuple[int, int], dims: tuple[str, str], path: str, found: Findings) -> None:
    for raster in cog.RASTERS:
        array = group[raster]
        metadata: dict[str, Any] = array.metadata.to_dict()
        where = f"{path}/{raster}"
        found.expect(where, "shape", found=tuple(metadata["shape"]), expected=shape)
        found.expect(where, "dtype", found=metadata["data_type"], expected="uint8")
        found.expect(where, "fill_value", found=int(metadata["fill_value"]), expected=NOBODY_LOOKED)
        found.expect(where, "dimension_names", found=tuple(metadata["dimension_names"]), expected=dims)
        if "_FillValue" in metadata["attributes"]:
            found.problem(where, "has a _FillValue, so that readers take 255 for missing and the mask for float")


def _check_consolidated(store: Store, path: str, found: Findings) -> None:
    folder = f"{mosaics.FOLDER}/{path}"
    group = json.loads(store.read(f"{folder}/zarr.json"))
    if "consolidated_metadata" not in group:
        found.problem(path, "has no consolidated metadata, which xarray opens it by")
        return
    for name, stated in group["consolidated_metadata"]["metadata"].items():
        own = json.loads(store.read(f"{folder}/{name}/zarr.json"))
        if any(own[key] != stated[key] for key in own if key != "consolidated_metadata"):
            found.problem(f"{path}/{name}", "the consolidated metadata say something else than its own")


def check_coverage(run: Published, found: Findings) -> None:
    """Every tile of the plan has the code of what is committed of it, and no other tile has one."""
    for plan, query in run.mosaics():
        path = group_path(plan.scene.scene_id, query.query_id)
        with found.reading(path):
            group = mosaics.open_group(run.store, path)
            planned = planned_tiles(plan.grids, (tile.key for tile in plan.tiles()))
            index = run.committed[plan.scene.scene_id].of_query(query)
            for level, expected in coverage_codes(index, planned).items():
                if f"coverage_l{level}" not in group:
                    found.problem(path, f"has no coverage of level {level}, which is written last")
                    continue
                stored = np.asarray(group[f"coverage_l{level}"])
                if stored.shape != expected.shape:
                    found.problem(
                        f"{path}/coverage_l{level}", f"is {stored.shape}, the plan has {expected.shape} tiles"
                    )
                    continue
                for row, col in np.argwhere(stored != expected).tolist():
                    says, is_ = _status(stored[row, col]), _status(expected[row, col])
                    found.problem(f"{path} tile {level}/{row}/{col}", f"coverage says {says}, by the plan it is {is_}")
                if expected.size and (expected == COVERAGE.index("pending")).any():
                    found.problem(path, f"tiles of level {level} are pending: the run is not finished")


def _status(code: int) -> str:
    return COVERAGE[code] if code < len(COVERAGE) else f"the unknown code {code}"


def check_masks(run: Published, found: Findings) -> None:
    """Every chunk can be read, mask = threshold of probability, and the counts in the attributes are true."""
    for plan, query in run.mosaics():
        path = group_path(plan.scene.scene_id, query.query_id)
        with found.reading(path):
            attributes = run.attributes(plan.scene.scene_id, query.query_id)
            asked = run.query_entry(query.query_id)["threshold"]
            found.expect(path, "threshold", found=attributes["t2s:threshold"], expected=asked)
            counts = np.zeros(256, np.int64)
            for window in windows_of(plan.scene.shape):
                probability, mask = read_window(run.store, path, window)
                counts += np.bincount(mask.ravel(), minlength=256)
                wrong = mask != threshold_mask(probability, attributes["t2s:threshold"])
                say_pixels(wrong, window, path, "mask is not the threshold of the probability", found)
            stated = attributes["t2s:pixels"]
            counted = {"target_px": counts[1], "background_px": counts[0], "unseen_px": counts[NOBODY_LOOKED]}
            for name, count in counted.items():
                found.expect(path, name, found=stated[name], expected=int(count))


def check_overviews(run: Published, found: Findings) -> None:
    """Each overview is made of the next finer one: means of probability, maxima of the mask."""
    for plan, query in run.mosaics():
        path = group_path(plan.scene.scene_id, query.query_id)
        with found.reading(path):
            finer, shape = path, plan.scene.shape
            for factor in factors_of(run.attributes(plan.scene.scene_id, query.query_id)):
                target = f"{path}/{factor}"
                height, width = shape
                shape = shape_yx(overview_geobox(plan.scene.geobox, factor))
                for window in windows_of(shape):
                    x0, y0, x1, y1 = (2 * v for v in window)
                    source = read_window(run.store, finer, Window(x0, y0, min(x1, width), min(y1, height)))
                    made = halve_by_mean(source[0]), halve_by_maximum(source[1])
                    for raster, stored, expected in zip(
                        cog.RASTERS, read_window(run.store, target, window), made, strict=True
                    ):
                        say_pixels(stored != expected, window, f"{target}/{raster}", "not made of the finer", found)
                finer = target


def check_valid_data(run: Published, found: Findings) -> None:
    """No target where the scene has no data, nor outside the area of interest."""
    for plan in run.plans:
        paths = [group_path(plan.scene.scene_id, query.query_id) for query in run.queries]
        try:
            with open_scene(plan.scene) as dataset:
                for window in windows_of(plan.scene.shape):
                    allowed = native_valid(dataset, plan.scene, window) & _inside(plan.aoi_scene_px, window)
                    last = (window.y1, window.x1) == plan.scene.shape
                    _check_window(run.store, paths, window, ~allowed, found, last=last)
        except UnreadablePixels as error:
            found.note(f"not compared with {plan.scene.scene_id}: {error}")


def _check_window(
    store: Store, paths: Sequence[str], window: Window, forbidden: NDArray[np.bool_], found: Findings, *, last: bool
) -> None:
    for path in paths:
        with found.reading(path, last=last):
            _, mask = read_window(store, path, window)
            say_pixels((mask == _TARGET) & forbidden, window, path, "target where there is no data", found)


def _inside(area_scene_px: BaseGeometry | None, window: Window) -> NDArray[np.bool_]:
    shape = (window.height, window.width)
    if area_scene_px is None:
        return np.ones(shape, np.bool_)
    corner = Affine.translation(window.x0, window.y0)
    inside: NDArray[np.bool_] = geometry_mask([area_scene_px], out_shape=shape, transform=corner, invert=True)
    return inside


def check_cogs(run: Published, found: Findings) -> None:
    """COGs are there where the spec asks for them, are valid, and hold what the Zarr group holds."""
    wanted = bool(run.manifest["spec"]["cog"])
    for plan, query in run.mosaics():
        scene_id, query_id = plan.scene.scene_id, query.query_id
        for raster in cog.RASTERS:
            name = cog.cog_name(scene_id, query_id, raster)
            if wanted or run.store.exists(name):
                with found.reading(name):
                    _check_cog(run, plan, query_id, raster, found)


def _check_cog(run: Published, plan: ScenePlan, query_id: str, raster: str, found: Findings) -> None:
    scene_id = plan.scene.scene_id
    attributes, path = run.attributes(scene_id, query_id), group_path(scene_id, query_id)
    name, band = cog.cog_name(scene_id, query_id, raster), cog.RASTERS.index(raster)
    href = run.store.href(name)
    _check_layout(href, name, found)
    with open_raster(href) as dataset:
        found.expect(name, "nodata", found=dataset.nodata, expected=NOBODY_LOOKED)
        found.expect(name, "shape", found=dataset.shape, expected=plan.scene.shape)
        found.expect(
            name, "T2S_FINGERPRINT", found=dataset.tags().get("T2S_FINGERPRINT"), expected=attributes["t2s:fingerprint"]
        )
        if not dataset.transform.almost_equals(plan.scene.geobox.affine, precision=1e-9):
            found.problem(name, f"lies at {dataset.transform[:6]}, the scene at {plan.scene.geobox.affine[:6]}")
        if proj_crs(plan.scene.geobox) != dataset.crs:
            found.note(f"{name} spells its CRS in another way than the scene")
        factors = factors_of(attributes)
        found.expect(name, "overviews", found=tuple(dataset.overviews(1)), expected=factors)
    for level, factor in enumerate((None, *factors)):
        source = path if factor is None else f"{path}/{factor}"
        with open_raster(href, overview_level=None if factor is None else level - 1) as dataset:
            for window in windows_of(dataset.shape):
                expected = read_window(run.store, source, window)[band]
                values = dataset.read(1, window=RasterioWindow(window.x0, window.y0, window.width, window.height))
                say_pixels(values != expected, window, name, f"differs from {source}", found)


def _check_layout(href: str, name: str, found: Findings) -> None:
    """By rio-cogeo where it is installed; it opens local files only as we would have it."""
    try:
        from rio_cogeo.cogeo import cog_validate
    except ModuleNotFoundError:
        found.note("rio-cogeo is not installed, so the layout was not looked at (pip install t2s[validate])")
        return
    if "://" in href:
        found.note("rio-cogeo looks at local files only")
        return
    valid, errors, _ = cog_validate(href, quiet=True)
    if not valid:
        found.problem(name, f"is no valid COG: {'; '.join(errors)}")


def say_pixels(wrong: NDArray[np.bool_], window: Window, where: str, what: str, found: Findings) -> None:
    """One problem for all the `wrong` pixels of a window."""
    if not wrong.any():
        return
    row, col = np.argwhere(wrong)[0].tolist()
    first = f"the first at row {window.y0 + row}, column {window.x0 + col}"
    found.problem(where, f"{what}: {int(wrong.sum())} px, {first}")
