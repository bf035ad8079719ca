"""STAC items of tiny GeoTIFFs, in the spellings of STAC 1.0 and 1.1."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rasterio.warp import transform_bounds
from tiffs import draw_tiff, noise

COG = "image/tiff; application=geotiff; profile=cloud-optimized"
COLOURS = {"B04": "red", "B03": "green", "B02": "blue"}


def band_asset(href: str, *commons: str, name: str = "", spelling: str = "1.1", **more: Any) -> dict[str, Any]:
    """An asset that says what its bands are."""
    named = {"name": name} if name else {}
    if spelling == "1.1":
        return {"href": href, "type": COG, "bands": [{**named, "eo:common_name": c} for c in commons], **more}
    return {"href": href, "type": COG, "eo:bands": [{**named, "common_name": c} for c in commons], **more}


def item_of(name: str, assets: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "properties": {"datetime": "2024-05-01T00:00:00Z"},
        "links": [], "assets": dict(assets), **changes,
    }  # fmt: skip


def write_item(path: Path, assets: Mapping[str, Any], **changes: Any) -> Path:
    path.write_text(json.dumps(item_of(path.stem, assets, **changes)))
    return path


def bbox_of_scene(scene: Any) -> list[float]:
    """Of a `pipeline.scenes.Scene`, in degrees."""
    return list(transform_bounds(str(scene.geobox.crs), "EPSG:4326", *scene.geobox.boundingbox.bbox))


def draw_bands(
    folder: Path, *shape: int, dtype: str = "uint8", keys: Sequence[str] = tuple(COLOURS), **profile: Any
) -> Any:
    """One file per band, and one of all of them; (3, height, width) as drawn."""
    pixels = noise(3, *shape, dtype=dtype)
    draw_tiff(folder / "all.tif", pixels, **profile)
    for key, band in zip(keys, pixels, strict=True):
        draw_tiff(folder / f"{key}.tif", band[None], **profile)
    return pixels


def sentinel(folder: Path, **changes: Any) -> Path:
    """An item of three assets, one band each."""
    assets = {key: band_asset(f"./{key}.tif", common, name=key) for key, common in COLOURS.items()}
    assets["B08"] = band_asset("./B08.tif", "nir", name="B08")
    return write_item(folder / "item.json", assets, **changes)
