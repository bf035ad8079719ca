"""What is really there, where a run's directory says so: the demo's does."""

import io
import json
from collections.abc import Mapping
from typing import Any

import geopandas as gpd

from pipeline.storage import Store


def truth_of(store: Store, manifest: Mapping[str, Any]) -> dict[str, gpd.GeoDataFrame]:
    """By scene: scene_id, query_id and geometry of what is really there. Raises `FileNotFoundError`."""
    names = [entry["scene_id"] for entry in manifest["scenes"]]
    return {name: gpd.read_parquet(io.BytesIO(store.read(f"truth/{name}.parquet"))) for name in names}


def truth_and_scores(
    store: Store, manifest: Mapping[str, Any]
) -> tuple[dict[str, gpd.GeoDataFrame] | None, dict[str, float] | None]:
    """The truth, and by query the IoU with it; None for what the directory does not hold."""
    known = manifest["scenes"] and all(store.exists(f"truth/{s['scene_id']}.parquet") for s in manifest["scenes"])
    truth = truth_of(store, manifest) if known else None
    try:
        document = json.loads(store.read("demo.json"))
    except FileNotFoundError:
        return truth, None
    return truth, {query["query_id"]: query["iou"] for query in document["queries"]}
