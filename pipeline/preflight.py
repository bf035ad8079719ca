"""Everything that can be known to fail, before anything is spent: all problems of all inputs, in one list."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.credentials import public
from pipeline.geodesy import geographic_crs
from pipeline.georef import proj_crs
from pipeline.levels import MAX_LEVEL, gsd_problems, side_problem
from pipeline.queries import Query
from pipeline.rasters import is_url
from pipeline.scenes import Problem, Resolved, Scene
from pipeline.storage import Store
from pipeline.texts import one_line
from t2s_core.errors import BadInput
from t2s_core.registry import check_prompter, check_segmenter

MIN_TILE_PX = 64
MAX_TILE_PX = 4096
OUTPUT_BYTES_PER_PIXEL = 0.5
"""Per scene pixel and query: compressed probability, mask and their overviews, tile results, features. Generous."""
T = TypeVar("T")


def preflight(
    resolved: Resolved,
    *,
    queries: Sequence[Query],
    out_url: str,
    tile_px: int | None,
    overlap_px: int | None,
    levels: Sequence[int],
    threshold: float,
    prompter: str | None,
    segmenter: str,
    of_area: Sequence[Problem] = (),
    gsd_m: float | None = None,
    earlier: Sequence[Problem] = (),
) -> list[Problem]:
    """All problems, in the order scenes, queries and area (`earlier`), options, area, output, models.

    Writes nothing, reads no pixels, loads no model. An empty list means that the run can start.

    Args:
        resolved: from `scenes.resolve`, without scenes outside of the area; its problems head the list. They alone
            concern single scenes: with `--skip-bad-scenes` a run may go on without these (see `is_of_scene`), never
            without the others.
        queries: what could be parsed.
        out_url: the run's directory.
        tile_px: None where it is the prompter's default and the prompter is not known to exist; so with `overlap_px`.
        overlap_px: in pixels of the level.
        levels: overview factors.
        threshold: the run's.
        prompter: as `t2s_core.registry` names it; None where `earlier` says already what is wrong with it.
        segmenter: as the user named it.
        gsd_m: of the tiles; None for the scenes' own.
        of_area: what `aoi.place` says of the area of interest and the scenes.
        earlier: problems of what could not even be read, as `attempt` collects them.
    """
    problems = [*resolved.problems, *earlier]
    if not (resolved.scenes or resolved.problems or resolved.n_outside):
        problems.append(Problem("SCENE", "no scene is given; name GeoTIFF files, directories or globs."))
    problems += body_problems(resolved.scenes)
    problems += geometry_problems(tile_px, overlap_px, levels)
    problems += gsd_problems(gsd_m, resolved.scenes, levels, tile_px)
    problems += threshold_problems(threshold)
    problems += of_area
    problems += output_problems(out_url, resolved.scenes, len(queries))
    return problems + model_problems(prompter, segmenter)


def is_of_scene(problem: Problem, resolved: Resolved) -> bool:
    """Whether a problem concerns one scene alone, so that a run may go on without it."""
    return problem in resolved.problems and not problem.href.startswith("--")


def attempt(href: str, call: Callable[[], T]) -> tuple[T | None, list[Problem]]:
    """What `call` gives, or its `BadInput` as problems: lets a caller look at every input before it stops."""
    try:
        return call(), []
    except BadInput as error:
        return None, [Problem(href, problem) for problem in error.problems]


def geometry_problems(tile_px: int | None, overlap_px: int | None, levels: Sequence[int]) -> list[Problem]:
    """Of tile side, overlap and levels."""
    problems = []
    if tile_px is not None and not MIN_TILE_PX <= tile_px <= MAX_TILE_PX:
        problems.append(Problem("--tile-px", f"tile_px={tile_px} is not {MIN_TILE_PX} to {MAX_TILE_PX}; use e.g. 512."))
    if overlap_px is not None and overlap_px < 0:
        problems.append(Problem("--overlap-px", f"overlap_px={overlap_px} is negative; use 0 or more."))
    elif tile_px is not None and overlap_px is not None and overlap_px > tile_px // 2:
        text = f"overlap_px={overlap_px} is more than half a {tile_px} px tile; use at most {max(tile_px, 0) // 2}."
        problems.append(Problem("--overlap-px", text))
    if not levels:
        problems.append(Problem("--levels", "no level is given; 1 is the scene's own resolution."))
    for level in sorted({v for v in levels if v < 1 or v > MAX_LEVEL or v & (v - 1)}):
        text = f"level {level} is not a power of two up to {MAX_LEVEL}; use e.g. 1,2,4."
        problems.append(Problem("--levels", text))
    if side := side_problem(max((v for v in levels if v <= MAX_LEVEL), default=1), tile_px):
        problems.append(Problem("--levels", side))
    if len(set(levels)) < len(levels):
        problems.append(Problem("--levels", f"{','.join(map(str, levels))} names a level twice; remove one."))
    return problems


def threshold_problems(threshold: float) -> list[Problem]:
    """Of the run's threshold; a query's own is checked where it is parsed."""
    if 0 < threshold < 1:
        return []
    return [Problem("--threshold", f"threshold={threshold:g} is not between 0 and 1 (both excluded); 0.5 is usual.")]


def figures_of(scenes: Iterable[Scene]) -> list[tuple[str, Scene]]:
    """The figures of celestial bodies that scenes lie on, named and measured, each with the first scene of it.

    All figures of the Earth are one here, for there a table's CRS is always OGC:CRS84.
    """
    figures: dict[tuple[float, ...], tuple[str, Scene]] = {}
    for scene in scenes:
        crs = geographic_crs(proj_crs(scene.geobox))
        ellipsoid, meridian = crs.ellipsoid, crs.prime_meridian
        assert ellipsoid is not None  # `resolve` refuses a CRS that is bound to no body
        assert meridian is not None
        figure = (ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre, meridian.longitude)
        name = f"{ellipsoid.name}, {figure[0]:.0f} x {figure[1]:.0f} m"
        figures.setdefault(figure, (name if not figure[2] else f"{name}, from {figure[2]:g} degrees", scene))
    return list(figures.values())


def body_problems(scenes: Sequence[Scene]) -> list[Problem]:
    """A dataset never mixes celestial bodies, nor two figures of one body: its table has one geographic CRS."""
    figures = figures_of(scenes)
    if len(figures) < 2:  # noqa: PLR2004 -- one body
        return []
    named = "; ".join(f"{name} ({scene.href})" for name, scene in figures)
    return [
        Problem(
            "SCENE",
            f"the scenes lie on {len(figures)} celestial bodies or figures of one: {named}. "
            "Warp them to one figure, or run each body by itself.",
        )
    ]


def output_problems(out_url: str, scenes: Sequence[Scene], n_queries: int) -> list[Problem]:
    """Of the place that the results go to. Nothing is written to find out."""
    return (
        _remote_problems(out_url) if is_url(out_url) else _local_problems(Path(out_url).absolute(), scenes, n_queries)
    )


def model_problems(prompter: str | None, segmenter: str) -> list[Problem]:
    """Of the models' names, and of files they name."""
    _, of_prompter = (None, []) if prompter is None else attempt("--prompter", lambda: check_prompter(prompter))
    _, of_segmenter = attempt("--segmenter", lambda: check_segmenter(segmenter))
    return of_prompter + of_segmenter


def _local_problems(out: Path, scenes: Sequence[Scene], n_queries: int) -> list[Problem]:
    existing = next(p for p in (out, *out.parents) if p.exists())
    if not existing.is_dir():
        return [Problem(str(out), f"{existing} is a file; give a directory.")]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [Problem(str(out), f"{existing} is not writable for this user; give another directory.")]
    needed = OUTPUT_BYTES_PER_PIXEL * n_queries * sum(height * width for height, width in (s.shape for s in scenes))
    free = shutil.disk_usage(existing).free
    if needed <= free:
        return []
    text = f"about {_gb(needed)} are needed and {_gb(free)} are free; give another disk, fewer scenes or fewer queries."
    return [Problem(str(out), text)]


def _remote_problems(out_url: str) -> list[Problem]:
    store, problems = attempt(public(out_url), lambda: Store.at(out_url))
    if store is None:
        return problems
    try:
        fs, root = store.fs, store.root
        if fs.isfile(root):
            return [Problem(out_url, "is an object, not a folder; give another prefix.")]
        bucket = root.lstrip("/").split("/", maxsplit=1)[0]
        if bucket and not fs.exists(bucket if not root.startswith("/") else "/"):
            fs.ls(bucket, refresh=True)  # `exists` is False too where it was refused or got no answer: this raises why
    except FileNotFoundError:
        return [Problem(out_url, f"there is no bucket {bucket}; create it or check the address.")]
    except Exception as error:  # noqa: BLE001 -- every store's client raises its own kinds; none is lost, each is reported
        return [Problem(out_url, f"cannot be reached: {one_line(error)}; check the address and the credentials.")]
    return []


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.3g} GB"
