"""Small copies of the layouts that `t2s_core.training.datasets` reads: two good images each, questions on both."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from PIL import Image as PillowImage

HEIGHT_PX, WIDTH_PX = 24, 32


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)


def mask(seed: int) -> np.ndarray:
    """A rectangle of its own for each seed below 8."""
    found = np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_)
    found[2 + seed : 10 + seed, 4 : 12 + 2 * seed] = True
    return found


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)
    return path


def save_mask(path: Path, truth: np.ndarray, target: int = 255) -> Path:
    return save(path, truth.astype(np.uint8) * target)


def earthreason(root: Path) -> Path:
    for split in ("train", "val", "test"):
        for seed, name in enumerate(("golf_course_3", "lake_12")):
            save(root / split / f"images/{name}.png", image(seed))
            save_mask(root / split / f"labels/{name}.png", mask(seed))
            questions(root, split, name, ["Where is it?", f"And {name}?"], ["There.", "Over there.", "It is there."])
    return root


def questions(root: Path, split: str, name: str, asked: Any, answer: Any) -> None:
    path = root / split / f"QAs/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"questions": asked, "answer": answer}), encoding="utf-8")


def run_lengths(truth: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed notation, made the slow way."""
    counts, value = [0], False
    for pixel in truth.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(truth.shape), "counts": counts}


def rrsisd_parts() -> tuple[list[Any], dict[str, Any]]:
    """What `refs(unc).p` and `instances.json` hold; annotation 1 is run lengths, annotation 2 a polygon."""
    ring = [4.0, 3.0, 14.0, 3.0, 14.0, 11.0, 4.0, 11.0]  # mask(1)
    refs = [
        {
            "ref_id": 10 * number + seed,
            "image_id": seed,
            "ann_id": seed,
            "category_id": seed,
            "split": split,
            "file_name": f"0000{seed}.png",
            "sent_ids": [seed],
            "sentences": [{"raw": f"The {what} on the top", "sent": f"the {what}", "sent_id": seed, "tokens": [what]}],
        }
        for number, split in enumerate(("train", "val", "test"))
        for seed, what in enumerate(("dam", "ship"))
    ]
    size = {"height": HEIGHT_PX, "width": WIDTH_PX}
    instances = {
        "images": [{"id": seed, "file_name": f"0000{seed}.png", **size} for seed in range(2)],
        "annotations": [
            {"id": 0, "image_id": 0, "categories_id": 0, "segmentation": [run_lengths(mask(0))]},
            {"id": 1, "image_id": 1, "categories_id": 1, "segmentation": [ring]},
        ],
        "categories": [{"id": 0, "name": "dam"}, {"id": 1, "name": "ship"}],
    }
    return refs, instances


def write_rrsisd(root: Path, refs: Any, instances: Any) -> Path:
    (root / "rrsisd").mkdir(parents=True, exist_ok=True)
    (root / "rrsisd/refs(unc).p").write_bytes(pickle.dumps(refs))
    (root / "rrsisd/instances.json").write_text(json.dumps(instances), encoding="utf-8")
    for seed in range(2):
        save(root / f"images/rrsisd/JPEGImages/0000{seed}.png", image(seed))
    return root


def rrsisd(root: Path) -> Path:
    return write_rrsisd(root, *rrsisd_parts())


def refsegrs(root: Path) -> Path:
    for seed in range(2):
        save(root / f"images/area_{seed}.tif", image(seed))
        save(root / f"masks/area_{seed}.tif", np.dstack([mask(seed) * np.uint8(255), image(seed)[..., :2]]))
    _phrases(root, "area_0 a road\narea_1 a long road\narea_1 the van\n")
    return root


def risbench(root: Path) -> Path:
    for seed in range(2):
        save(root / f"img_rgb/0000{seed}.png", image(seed))
        save_mask(root / f"mask/0000{seed}.png", mask(seed), target=1)
    _phrases(root, "00000.png a dam\n00001.png the ship on the left\n")
    return root


def _phrases(root: Path, text: str) -> None:
    for split in ("train", "val", "test"):
        (root / f"output_phrase_{split}.txt").write_text(text, encoding="utf-8")


def save_geotiff(path: Path, bands: np.ndarray, **options: Any) -> None:
    """`bands`: (bands, height, width) uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    transform = rasterio.Affine(0.5, 0, 300_000, 0, -0.5, 5_000_000)
    shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32633", transform=transform, **shape, **options) as out:
        out.write(bands)


def curated_row(**other: Any) -> dict[str, Any]:
    row = {
        "sample_id": "s0",
        "chip_id": "c0",
        "split": "train",
        "query": "where is a lake?",
        "query_id": "lake",
        "category": "water",
        "absent": False,
        "image": "chips/c0.tif",
        "mask": "masks/s0.tif",
        "scene_id": "north",
    }
    return row | other


def curated_mask() -> np.ndarray:
    """uint8 with a target, background and a corner that is not valid."""
    found = mask(0).astype(np.uint8)
    found[-4:, -4:] = 255
    return found


def write_curated(root: Path, rows: list[dict[str, Any]], **about: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(key, pa.bool_() if key == "absent" else pa.string()) for key in curated_row()])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), root / "samples.parquet")
    declared = {"format": "t2s-curated/1", "fingerprint": "0123456789abcdef"} | about
    (root / "dataset.json").write_text(json.dumps(declared), encoding="utf-8")
    for seed in range(2):
        save_geotiff(root / f"chips/c{seed}.tif", np.moveaxis(image(seed), 2, 0), compress="deflate")
    save_geotiff(root / "masks/s0.tif", curated_mask()[None], compress="deflate")
    return root


def curated(root: Path) -> Path:
    rows = [
        row
        for split in ("train", "val", "test")
        for row in (
            curated_row(sample_id=f"{split}-0", split=split),
            curated_row(sample_id=f"{split}-1", split=split, query="a dam", chip_id="c1", image="chips/c1.tif")
            | {"mask": None, "absent": True},
        )
    ]
    return write_curated(root, rows)


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "earthreason": earthreason,
    "rrsisd": rrsisd,
    "refsegrs": refsegrs,
    "risbench": risbench,
    "curated": curated,
}
"""Each writes a whole dataset with all three splits below a directory and gives that back."""
