"""A segmenter on real scenes: given the box and two points of an object outlined by hand, how well is its mask drawn?

`real_objects.json` beside this file holds the outlines. The imagery is not in the repository: the environment variable
T2S_REAL_IMAGERY names the folder of its GeoTIFFs, and T2S_SEGMENTER another segmenter than the bundled one.
`python benchmarks/bench_real_objects.py --sheet FILE.png` draws every object for people to look at.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.transform import Affine
from rasterio.windows import Window
from shapely.geometry import Polygon

from t2s_core.errors import BadInput
from t2s_core.masks import upsample
from t2s_core.metrics import count_pixels, mean, paired_bootstrap
from t2s_core.ports import Image
from t2s_core.prompts import InstancePrompt
from t2s_core.registry import load_segmenter
from t2s_core.world.tiles import bounding_box, two_points

HERE = Path(__file__).resolve().parent
SIDE_PX = 256
"""Every window is shown to the segmenter at this size, as tiles are."""
Mask = NDArray[np.bool_]
_TRUTH, _PREDICTED, _COLUMNS, _ZOOM, _CAPTION_PX = (255, 255, 255), (255, 60, 200), 4, 2, 18


@dataclass(frozen=True, slots=True)
class RealObject:
    """One object of a real scene, outlined by hand."""

    id: str
    what: str
    source: str
    """File name of the GeoTIFF."""
    bands: tuple[int, int, int]
    """Red, green, blue; 8 bits, shown as they are (the `identity` stretch)."""
    window_source_px: tuple[int, int, int]
    """Left, top, side of the square that is judged."""
    gsd_m: float
    """Of the window at `SIDE_PX`."""
    polygon_source_px: Polygon
    """x to the right, y down, from the upper left corner of the raster's upper left pixel."""

    def truth(self) -> Mask:
        """(256, 256). True where the middle of a pixel of the window lies in the polygon."""
        x, y, side = self.window_source_px
        transform = Affine.translation(x, y) @ Affine.scale(side / SIDE_PX)
        drawn = rasterize([self.polygon_source_px], (SIDE_PX, SIDE_PX), transform=transform, dtype="uint8")
        return np.asarray(drawn, np.bool_)

    def picture(self, folder: Path) -> Image:
        """(256, 256, 3) of the window, its pixels averaged. `folder` holds the GeoTIFF."""
        x, y, side = self.window_source_px
        shape = (3, SIDE_PX, SIDE_PX)
        with rasterio.open(folder / self.source) as dataset:
            window = Window(x, y, side, side)
            bands = dataset.read(list(self.bands), window=window, out_shape=shape, resampling=Resampling.average)
        return np.ascontiguousarray(np.moveaxis(bands, 0, -1))


@dataclass(frozen=True, slots=True)
class Judged:
    """What a segmenter made of an object."""

    object: RealObject
    image: Image
    truth: Mask
    drawn: Mask

    @property
    def iou(self) -> float:
        """Of the mask drawn with the truth."""
        return _iou(self.truth, self.drawn)

    @property
    def box_iou(self) -> float:
        """Of the truth's box, filled: what is had without any segmenter."""
        return box_iou(self.truth)


def load_objects(path: Path = HERE / "real_objects.json") -> list[RealObject]:
    """All objects, in the file's order."""
    document = json.loads(path.read_text())
    return [
        RealObject(
            entry["id"],
            entry["what"],
            entry["source"],
            tuple(document["sources"][entry["source"]]["bands"]),
            tuple(entry["window_source_px"]),
            entry["gsd_m"],
            Polygon(entry["polygon_source_px"][0], entry["polygon_source_px"][1:]),
        )
        for entry in document["objects"]
    ]


def imagery_folder() -> Path:
    """The folder of the GeoTIFFs; it need not exist."""
    return Path(os.environ.get("T2S_REAL_IMAGERY") or HERE.parents[1] / "shared" / "data")


def missing() -> str | None:
    """What this benchmark needs and this machine lacks, in one line."""
    folder = imagery_folder()
    absent = [name for name in sorted({one.source for one in load_objects()}) if not (folder / name).is_file()]
    if not absent:
        return None
    return f"no {', '.join(absent)} in {folder}; set T2S_REAL_IMAGERY to the folder that holds them"


def box_iou(truth: Mask) -> float:
    """IoU of the filled bounding box with the mask in it."""
    x0, y0, x1, y1 = bounding_box(truth)
    return float(truth.sum()) / ((x1 - x0) * (y1 - y0))


def prompt_of(truth: Mask) -> InstancePrompt:
    """Box and two points of a mask, by the rule of the drawn world's truth."""
    box = bounding_box(truth)
    (ax, ay), (bx, by) = two_points(truth, box)
    x0, y0, x1, y1 = map(float, box)
    return InstancePrompt((x0, y0, x1, y1), ((ax + 0.5, ay + 0.5), (bx + 0.5, by + 0.5)))


def judge(segmenter_name: str) -> list[Judged]:
    """Every object, segmented. Raises `SystemExit` where there is no imagery."""
    lack = missing()
    if lack:
        raise SystemExit(lack)
    segmenter, folder = load_segmenter(segmenter_name), imagery_folder()
    judged = []
    for one in load_objects():
        image, truth = one.picture(folder), one.truth()
        ((mask,),) = segmenter.decode(segmenter.encode([image]), [[prompt_of(truth)]])
        judged.append(Judged(one, image, truth, upsample(mask.logits, truth.shape) > 0))
    return judged


def measure() -> dict[str, Any]:
    """Mean IoU over the objects, with the filled box beside it."""
    name = os.environ.get("T2S_SEGMENTER") or "bundled"
    judged = judge(name)
    ious, boxes = [one.iou for one in judged], [one.box_iou for one in judged]
    value, box, gain = mean(np.array(ious)), mean(np.array(boxes)), paired_bootstrap(ious, boxes)
    return {
        "value": round(value.value, 4),
        "ci95": _rounded(value.ci95),
        "unit": "mean IoU over objects of real scenes, given the truth's box and two points",
        "runs": 1,
        "details": {
            "segmenter": name,
            "n": len(judged),
            "filled_box_iou": round(box.value, 4),
            "gain_over_filled_box": {"value": round(gain.value, 4), "ci95": _rounded(gain.ci95)},
            "not_above_filled_box": [one.object.id for one in judged if one.iou <= one.box_iou],
            "objects": [
                {
                    "id": one.object.id,
                    "what": one.object.what,
                    "source": one.object.source,
                    "gsd_m": one.object.gsd_m,
                    "iou": round(one.iou, 4),
                    "filled_box_iou": round(one.box_iou, 4),
                }
                for one in judged
            ],
        },
    }


def sheet(judged: Sequence[Judged]) -> PillowImage.Image:
    """One picture of all objects: white the truth's outline, pink the drawn mask's, and the two IoUs below."""
    side = SIDE_PX * _ZOOM
    rows = -(-len(judged) // _COLUMNS)
    canvas = PillowImage.new("RGB", (_COLUMNS * side, rows * (side + _CAPTION_PX)))
    draw = ImageDraw.Draw(canvas)
    for number, one in enumerate(judged):
        shown = _enlarged(one.image)
        shown[_outline(_enlarged(one.truth))] = _TRUTH
        shown[_outline(_enlarged(one.drawn))] = _PREDICTED
        x, y = number % _COLUMNS * side, number // _COLUMNS * (side + _CAPTION_PX)
        canvas.paste(PillowImage.fromarray(shown), (x, y))
        caption = f"{one.object.id}, {one.object.gsd_m:g} m: IoU {one.iou:.2f}, filled box {one.box_iou:.2f}"
        draw.text((x + 4, y + side + 3), caption, fill=(255, 255, 255) if one.iou > one.box_iou else (255, 120, 120))
    return canvas


def _iou(truth: Mask, drawn: Mask) -> float:
    shared, joined, _, _ = count_pixels(truth, drawn)
    return shared / joined


def _rounded(interval: tuple[float, float]) -> list[float]:
    return [round(bound, 4) for bound in interval]


def _enlarged(array: NDArray[Any]) -> NDArray[Any]:
    return array.repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1)


def _outline(mask: Mask) -> Mask:
    around = np.pad(mask, 1)
    return mask & ~(around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:])


def _command() -> None:
    parser = argparse.ArgumentParser(description="Draw the objects of real scenes with their truth and their masks.")
    parser.add_argument("--sheet", type=Path, required=True, metavar="FILE", help="PNG to write")
    parser.add_argument("--segmenter", default=os.environ.get("T2S_SEGMENTER") or "bundled", metavar="NAME")
    chosen = parser.parse_args()
    judged = judge(chosen.segmenter)
    sheet(judged).save(chosen.sheet)
    for one in judged:
        print(f"{one.object.id:20} {one.object.what:12} IoU {one.iou:.3f}  filled box {one.box_iou:.3f}")
    print(
        f"{'mean':33} IoU {np.mean([j.iou for j in judged]):.3f}  filled box {np.mean([j.box_iou for j in judged]):.3f}"
    )


if __name__ == "__main__":
    try:
        _command()
    except BadInput as bad:
        raise SystemExit(str(bad)) from None
