"""Which overview factors of a scene tiles are laid at. How levels are fused is said in `pipeline.stitch`."""

from collections.abc import Sequence

import numpy as np

from pipeline.geodesy import gsd_m
from pipeline.scenes import Problem, Scene
from pipeline.spec import RunSpec

MAX_LEVEL = 64
"""Coarser than this, a tile of any size shows countries."""
MAX_SIDE_PX = 8192
"""Of a tile, in scene pixels: which of them are data is kept for each, so a tile has its price at any level."""


def levels_of(scene: Scene, spec: RunSpec) -> tuple[int, ...]:
    """The scene's overview factors, finest first: those of the spec, counted from the power of two that comes nearest
    to the spec's ground sampling distance.

    Nearest in proportion: where pixels are of 10 m, factor 4 (40 m) is nearer to 30 m than factor 2 (20 m) is. Never
    below 1: what a scene does not show, no resampling can.
    """
    return tuple(sorted(_base(scene, spec.gsd_m) * level for level in spec.levels))


def first_look_of(scene: Scene, spec: RunSpec) -> int | None:
    """The scene's overview factor of the first look, likewise; None without one."""
    return None if spec.first_look is None else _base(scene, spec.gsd_m) * spec.first_look


def side_problem(level: int, tile_px: int | None) -> str:
    """Whether tiles of a level would be too large; empty where not, or where their size is not known."""
    if tile_px is None or level * tile_px <= MAX_SIDE_PX:
        return ""
    side = f"level {level} makes tiles of {tile_px} px span {level * tile_px} scene pixels, more than {MAX_SIDE_PX}"
    return f"{side}; use finer levels, smaller tiles, or a resampled scene."


def gsd_problems(
    asked_m: float | None, scenes: Sequence[Scene], levels: Sequence[int], tile_px: int | None
) -> list[Problem]:
    """Of the ground sampling distance that tiles are to have."""
    if asked_m is None:
        return []
    if not 0 < asked_m < np.inf:
        return [Problem("--gsd", f"gsd={asked_m:g} is no size of a pixel; give metres, e.g. 0.5.")]
    problems = []
    for scene in scenes:
        factor = _base(scene, asked_m) * max(levels, default=1)
        pixel = _metres(gsd_m(scene.geobox))
        has = f"gsd={asked_m:g} makes level {factor} of {scene.href}, whose pixels are of {pixel}"
        if factor > MAX_LEVEL:
            problems.append(Problem("--gsd", f"{has}; at most {MAX_LEVEL}."))
        elif side := side_problem(factor, tile_px):
            problems.append(Problem("--gsd", f"{has}: {side}"))
    return problems


def said_levels(scenes: Sequence[Scene], spec: RunSpec, tile_px: int) -> list[str]:
    """What was chosen, one line for all scenes that are looked at alike, with the first of them as an example."""
    alike: dict[tuple[int, ...], list[Scene]] = {}
    for scene in scenes:
        alike.setdefault(levels_of(scene, spec), []).append(scene)
    lines = []
    for levels, members in alike.items():
        native_m = gsd_m(members[0].geobox)
        sizes = [(level, _metres(level * native_m), _metres(level * native_m * tile_px)) for level in levels]
        chosen = ", ".join(f"{level} ({pixel} pixels, tiles {tile} wide)" for level, pixel, tile in sizes)
        line = f"levels of {members[0].scene_id}{_and_others(len(members) - 1)}: {chosen}"
        if spec.gsd_m is not None and spec.gsd_m < native_m / np.sqrt(2):
            line += f"; its pixels are no finer, so --gsd {spec.gsd_m:g} cannot be had"
        lines.append(line)
    if len(spec.levels) == 1:
        lines.append(_why_one(spec))
    return lines


def _why_one(spec: RunSpec) -> str:
    """What one level is good for, and when to ask for another: measured, see docs/explanation/levels.md."""
    (level,) = spec.levels
    chosen = "the scenes' own pixels" if spec.gsd_m is None else f"--gsd {spec.gsd_m:g}"
    two = " or ".join(f"--levels {level},{factor * level}" for factor in (2, 4))
    return (
        f"one level of tiles, by {chosen}, is right where objects fit in a tile; where they are longer, {two} shows "
        "them whole, and where they are not it costs precision"
    )


def _base(scene: Scene, asked_m: float | None) -> int:
    if asked_m is None:
        return 1
    return int(2 ** max(0, round(np.log2(asked_m / gsd_m(scene.geobox)))))


def _metres(length_m: float) -> str:
    return f"{length_m / 1000:.3g} km" if length_m >= 1000 else f"{length_m:.3g} m"  # noqa: PLR2004 -- in a kilometre


def _and_others(n: int) -> str:
    return "" if n == 0 else " and one other scene" if n == 1 else f" and {n} others"
