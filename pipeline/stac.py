"""A run as STAC 1.1: `stac/collection.json` and `stac/items/<scene_id>.json`, with hrefs relative to themselves.

Plain dicts of a format that is a page long: pystac reads and validates them in the tests, and need not be installed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from shapely.geometry import box, mapping, shape

from pipeline import cog, mosaics
from pipeline.areas import bbox_of
from pipeline.features import FOLDER as FEATURES
from pipeline.features import partition_name
from pipeline.geodesy import to_geographic
from pipeline.georef import proj_crs
from pipeline.manifest import NAME as MANIFEST
from pipeline.scenes import Scene
from pipeline.storage import Store

FOLDER = "stac"
COLLECTION = f"{FOLDER}/collection.json"
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
)
MEDIA_TYPES = {
    "zarr": "application/vnd.zarr; version=3",
    "parquet": "application/vnd.apache.parquet",
    "cog": "image/tiff; application=geotiff; profile=cloud-optimized",
}
_VERSION = "1.1.0"
_ANY_TIME = "1970-01-01T00:00:00Z"
_UP = "../.."  # from stac/items/ to the run's directory

Traces = Mapping[str, Mapping[str, str]]
"""By query id: the values of `provenance.TRACE`."""


def item_name(scene_id: str) -> str:
    """The object that holds a scene's item."""
    return f"{FOLDER}/items/{scene_id}.json"


def collection_id(manifest: Mapping[str, Any]) -> str:
    """The first invocation's run id: a catalogue that took the collection in must know it again after later ones."""
    return str(manifest["history"][0]["run_id"])


def write_stac(store: Store, manifest: Mapping[str, Any], traces_by_scene: Mapping[str, Traces]) -> None:
    """Put the collection and one item per scene; items of scenes that the run has no more are removed.

    `manifest`: the content of run.json. Zarr groups, features and, where the spec asks for them, COGs are there.
    """
    scenes = [Scene.from_json(dict(entry)) for entry in manifest["scenes"]]
    items = [item(scene, manifest, traces_by_scene[scene.scene_id]) for scene in scenes]
    names = {item_name(entry["id"]) for entry in items}
    for entry in items:
        store.write(item_name(entry["id"]), _json(entry))
    store.write(COLLECTION, _json(collection(manifest, items)))
    for stale in set(store.names(f"{FOLDER}/items")) - names:
        store.remove(stale)


def item(scene: Scene, manifest: Mapping[str, Any], traces: Traces) -> dict[str, Any]:
    """The item of a scene: its footprint, its grid, and an asset per query and format."""
    height, width = scene.shape
    footprint = to_geographic([box(0, 0, width, height)], scene.geobox)[0]
    return {
        "type": "Feature",
        "stac_version": _VERSION,
        "stac_extensions": list(EXTENSIONS),
        "id": scene.scene_id,
        "geometry": mapping(footprint),
        "bbox": bbox_of([footprint]),
        "properties": {
            **_time(scene, manifest),
            **_projection(scene),
            **_processing(manifest),
            "t2s:scene_href": scene.href,
            "t2s:scene_etag": scene.etag,
            **({"t2s:scene_parts": [part._asdict() for part in scene.parts]} if scene.parts else {}),
        },
        "links": [
            {"rel": rel, "href": "../collection.json", "type": "application/json"}
            for rel in ("root", "parent", "collection")
        ],
        "assets": _assets(scene, manifest, traces),
        "collection": collection_id(manifest),
    }


def collection(manifest: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The collection of a run: what was asked, where and when the scenes are, and the datasets that span all scenes."""
    footprints = [shape(entry["geometry"]) for entry in items]
    times = sorted(time for entry in items for time in _interval(entry["properties"]))
    spatial = [bbox_of(footprints), *(entry["bbox"] for entry in items)] if len(items) > 1 else [bbox_of(footprints)]
    asked = "; ".join(query["query"] for query in manifest["queries"])
    link = {"href": "./collection.json", "type": "application/json"}
    return {
        "type": "Collection",
        "stac_version": _VERSION,
        "stac_extensions": [EXTENSIONS[1]],
        "id": collection_id(manifest),
        "title": f"t2s {collection_id(manifest)}",
        "description": f"Where t2s found what was asked for: {asked}",
        "license": "other",  # it follows from the imagery's, which nobody told us
        "providers": [{"name": "t2s", "roles": ["processor"], **_processing(manifest)}],
        "extent": {"spatial": {"bbox": spatial}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": [
            {"rel": "root", **link},
            *(
                {"rel": "item", "href": f"./items/{entry['id']}.json", "type": "application/geo+json"}
                for entry in items
            ),
        ],
        "assets": {
            "masks": {"href": f"../{mosaics.FOLDER}", "type": MEDIA_TYPES["zarr"], "roles": ["data"]},
            "features": {"href": f"../{FEATURES}", "type": MEDIA_TYPES["parquet"], "roles": ["data"]},
            "manifest": {"href": f"../{MANIFEST}", "type": "application/json", "roles": ["metadata"]},
            "report": {"href": "../report.html", "type": "text/html", "roles": ["overview"]},
        },
    }


def _assets(scene: Scene, manifest: Mapping[str, Any], traces: Traces) -> dict[str, dict[str, Any]]:
    assets: dict[str, dict[str, Any]] = {}
    for query in manifest["queries"]:
        query_id = query["query_id"]
        common = {"title": query["query"], "roles": ["data"], "t2s:query_id": query_id, **traces[query_id]}
        hrefs = {
            "zarr": (f"{mosaics.FOLDER}/{mosaics.group_path(scene.scene_id, query_id)}", "zarr"),
            "features": (partition_name(scene.scene_id, query_id), "parquet"),
        }
        if manifest["spec"]["cog"]:
            hrefs |= {
                f"cog-{raster}": (cog.cog_name(scene.scene_id, query_id, raster), "cog") for raster in cog.RASTERS
            }
        for kind, (name, media) in hrefs.items():
            assets[f"{query_id}-{kind}"] = {"href": f"{_UP}/{name}", "type": MEDIA_TYPES[media], **common}
    assets["report"] = {"href": f"{_UP}/report.html", "type": "text/html", "roles": ["overview"]}
    return assets


def _time(scene: Scene, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """STAC wants an interval where the time is not known: that of the run's other scenes, else up to the run itself."""
    if scene.datetime is not None:
        return {"datetime": scene.datetime}
    known = sorted(entry["datetime"] for entry in manifest["scenes"] if entry["datetime"] is not None)
    start, end = (known[0], known[-1]) if known else (_ANY_TIME, manifest["started"].replace("+00:00", "Z"))
    return {"datetime": None, "start_datetime": start, "end_datetime": end, "t2s:datetime_is_known": False}


def _interval(properties: Mapping[str, Any]) -> tuple[str, ...]:
    if properties["datetime"] is not None:
        return (properties["datetime"],)
    return properties["start_datetime"], properties["end_datetime"]


def _projection(scene: Scene) -> dict[str, Any]:
    crs = proj_crs(scene.geobox)
    authority = crs.to_authority(min_confidence=100)
    named = {"proj:code": None if authority is None else ":".join(authority)}
    spelt = {} if authority is not None else {"proj:wkt2": crs.to_wkt()}
    grid = {"proj:transform": [float(v) for v in scene.geobox.affine[:6]], "proj:shape": list(scene.shape)}
    return {**named, **spelt, **grid}


def _processing(manifest: Mapping[str, Any]) -> dict[str, Any]:
    models = manifest["models"]
    return {
        "processing:lineage": f"run {manifest['run_id']}: prompts by {models['prompter']['version']}, masks by "
        f"{models['segmenter']['version']}, tiles stitched and vectorised by t2s",
        "processing:software": dict(manifest["versions"]),
    }


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()
