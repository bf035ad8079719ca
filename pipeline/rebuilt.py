"""A run as it was prepared and planned, rebuilt from its manifest alone: the scenes themselves are not opened."""

from collections.abc import Mapping
from typing import Any

import shapely

from pipeline.aoi import Aoi
from pipeline.normalise import Stretch
from pipeline.plan import ModelVersions, ScenePlan
from pipeline.prepare import Prepared, scene_plan
from pipeline.scenes import Problem, Scene
from pipeline.spec import RunSpec
from pipeline.storage import Store


def prepared_of(manifest: Mapping[str, Any], store: Store) -> Prepared:
    """What `prepare` gave."""
    spec = RunSpec(**manifest["spec"])
    versions = ModelVersions(
        spec.models, manifest["models"]["prompter"]["version"], manifest["models"]["segmenter"]["version"]
    )
    assert spec.tile_px is not None  # the manifest's spec holds what was resolved
    assert spec.overlap_px is not None
    aoi = None
    if manifest["aoi"] is not None:
        aoi = Aoi(manifest["aoi"]["href"], shapely.from_wkt(manifest["aoi"]["wkt"]), manifest["aoi"]["crs"])
    scenes = [Scene.from_json(entry) for entry in manifest["scenes"]]
    skipped = [Problem(s["href"], s["problem"]) for s in manifest["skipped_scenes"]]
    samples = None
    if spec.sample_tiles is not None:
        samples = {s["scene_id"]: frozenset((f, row, col) for f, row, col in s["sample"]) for s in manifest["scenes"]}
    return Prepared(spec, store, scenes, skipped, aoi, versions, spec.tile_px, spec.overlap_px, samples)


def plans_of(manifest: Mapping[str, Any], store: Store) -> list[ScenePlan]:
    """The plans of all scenes, in their order."""
    prepared = prepared_of(manifest, store)
    return [
        scene_plan(prepared, scene, Stretch.from_json(entry["stretch"]), entry["fault"])
        for scene, entry in zip(prepared.scenes, manifest["scenes"], strict=True)
    ]
