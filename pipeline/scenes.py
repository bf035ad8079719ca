"""Scenes: georeferenced rasters as found by their headers. No pixel is read here."""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from pipeline.acquired import datetime_of
from pipeline.addresses import host_of
from pipeline.areas import Area
from pipeline.bands import Bands
from pipeline.credentials import public
from pipeline.headers import Header, NodataRule, geobox_of
from pipeline.inputs import Source, Wanted, expand
from pipeline.rasters import RASTER_ERRORS, open_raster, version_of
from pipeline.redaction import redacted
from pipeline.slugs import short_hash, slug
from pipeline.stacks import Stack, grid_difference, open_files
from pipeline.texts import one_line

_HEADERS_AT_ONCE = 8


class Problem(NamedTuple):
    """Why an input cannot be used. As text: one line."""

    href: str
    """The input as an absolute path or URL; for what is no file, the option (`--bands`)."""
    problem: str
    """The value, the limit, the way out."""

    def __str__(self) -> str:
        # some problems name their input already, for where they are shown alone
        return self.problem if self.problem.startswith(f"{self.href}") else f"{self.href}: {self.problem}"


class Part(NamedTuple):
    """One band of a scene that is made of several files."""

    href: str
    """Absolute path or URL, without credentials."""
    band: int
    """Its 1-based number in this file."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One georeferenced raster, by what its header says."""

    scene_id: str
    """Slug, unique in the run."""
    href: str
    """Absolute path or URL, without credentials; of a scene that is made of several files that of the red one."""
    etag: str
    """Identifies this version of the file: see `rasters.version_of`; of all files, where there are several."""
    geobox: GeoBox
    """The scene's own grid; for a warped scene that of its default warp."""
    bands: tuple[int, int, int]
    """1-based bands to be shown as red, green, blue. Gray and palette scenes name one band thrice."""
    dtype: str
    """NumPy's name for the type of these bands."""
    nodata: NodataRule
    datetime: str | None
    """ISO 8601 in UTC: its STAC item's, else from the file's tags; see `acquired`."""
    warped: bool
    """True where the file has only ground control points and is read through GDAL's default warp."""
    parts: tuple[Part, ...] = ()
    """Red, green and blue where they are files of their own, on one grid; `bands` are then 1, 2, 3. Else empty."""
    signed: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """The addresses that open, where `href` or `parts` lack a signature or a password. Never written, and never in a
    text."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """What opens: a path or a URL as the user gave it, or one for each of `parts`."""
        return self.signed or tuple(part.href for part in self.parts) or (self.href,)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in scene pixels."""
        return int(self.geobox.shape[0]), int(self.geobox.shape[1])

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry; `from_json` gives an equal scene back."""
        return {
            "scene_id": self.scene_id,
            "href": self.href,
            "etag": self.etag,
            "crs": str(self.geobox.crs),
            "transform": list(self.geobox.affine[:6]),
            "shape": list(self.shape),
            "bands": list(self.bands),
            "dtype": self.dtype,
            "nodata": {"kind": self.nodata.kind, "value": self.nodata.value},
            "datetime": self.datetime,
            "warped": self.warped,
            **({"parts": [part._asdict() for part in self.parts]} if self.parts else {}),
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Scene":
        """A scene from the manifest's entry; keys that others added are ignored. Raises what a wrong entry comes to."""
        red, green, blue = entry["bands"]
        parts = tuple(Part(part["href"], int(part["band"])) for part in entry.get("parts", ()))
        if len(parts) not in {0, 3}:
            raise ValueError(f"a scene is made of {len(parts)} files, not of one or three")
        return cls(
            scene_id=entry["scene_id"],
            href=entry["href"],
            etag=entry["etag"],
            geobox=geobox_of(entry["shape"], Affine(*entry["transform"]), entry["crs"]),
            bands=(red, green, blue),
            dtype=entry["dtype"],
            nodata=NodataRule(**entry["nodata"]),
            datetime=entry["datetime"],
            warped=entry["warped"],
            parts=parts,
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of the inputs: every one is among the scenes, among the problems, or counted."""

    scenes: list[Scene]
    """In order of the inputs; within a glob or directory by name. A file given twice is one scene."""
    problems: list[Problem]
    n_outside: int = 0
    """Scenes that are left out because they lie outside of the area of interest."""
    notes: tuple[str, ...] = ()
    """Lines on what was chosen where there was a choice."""


def resolve(
    inputs: Sequence[str],
    *,
    bands: Bands | None = None,
    nodata: float | None = None,
    allow_hosts: Sequence[str] = (),
    asset: str | None = None,
    area: Area | None = None,
) -> Resolved:
    """Turn paths, globs, directories, fsspec URLs and STAC items into scenes, reading headers only.

    Args:
        inputs: a directory means the `*.tif` and `*.tiff` directly in it; `dir/**/*.tif` descends. Globs work in URLs
            too, but not in http(s) ones, where `?` and `[` mean something else and nothing can be listed. For STAC
            items, files of them, catalogs and searches see `inputs.expand`.
        bands: one or three 1-based numbers (red, green, blue), or as many names, which a STAC item or the file gives to
            its bands; None decides by the colour interpretation, else 1, 2, 3.
        nodata: overrides the files' own rule; NaN says that only NaN is no data.
        allow_hosts: where STAC items may name files, besides the hosts and buckets of the inputs themselves.
        asset: of STAC items, see `inputs.expand`.
        area: STAC items whose box lies all outside are left out unopened. Other scenes are not held against it here.

    Raises nothing on bad input: all problems of all inputs are in the result.
    """
    problems: list[Problem] = []
    if bands is not None and not _usable(bands):
        chosen = ",".join(map(str, bands))
        problems.append(Problem("--bands", f"{chosen} is not one or three band numbers from 1; use e.g. 3,2,1."))
        bands = None
    sources: dict[tuple[str, ...], Source] = {}
    hosts = (*allow_hosts, *filter(None, map(host_of, inputs)))
    wanted, n_outside = Wanted(asset or "", bands, area), 0
    of_inputs: list[Problem] = []
    for given in inputs:
        found = expand(given, hosts, wanted)
        for source in found.sources:
            sources.setdefault(_identity(source), source)
        of_inputs += [Problem(public(href), redacted(problem)) for href, problem in found.problems]
        n_outside += found.n_outside
    problems = [*of_inputs, *problems]
    scenes: list[Scene] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # we report it as a problem
        for scene_or_problems in pool.map(lambda source: _look_at(source, bands, nodata), sources.values()):
            if isinstance(scene_or_problems, Scene):
                scenes.append(scene_or_problems)
            else:
                problems += scene_or_problems
    return Resolved(_with_unique_ids(scenes), problems, n_outside, _choices(sources.values()))


def _usable(bands: Bands) -> bool:
    return len(bands) in {1, 3} and all(isinstance(band, str) or band >= 1 for band in bands)


def _identity(source: Source) -> tuple[str, ...]:
    """Of the files that a scene is made of: a file given twice is one scene."""
    if not source.layers:
        return (public(source.href),)
    return tuple(f"{public(layer.href)} {layer.band}" for layer in source.layers)


def _choices(sources: Iterable[Source]) -> tuple[str, ...]:
    chosen = Counter(source.choice for source in sources if source.choice)
    return tuple(
        f"asset {choice} is taken for {n} scene{'s' * (n > 1)}; --asset names another" for choice, n in chosen.items()
    )


def _look_at(source: Source, bands: Bands | None, nodata: float | None) -> Scene | list[Problem]:
    href = public(source.href)
    try:
        if source.layers:
            return _look_at_layers(source, nodata)
        with open_raster(source.href) as dataset:
            header = Header(dataset, bands, nodata, source.named)
            if header.problems:
                return [Problem(href, p) for p in header.problems]
            signed = () if href == source.href else (source.href,)
            return _scene(source, header, dataset, version_of(source.href, dataset), signed=signed)
    except (*RASTER_ERRORS, ImportError) as error:
        return [Problem(href, f"cannot be opened as a raster: {one_line(error)}; give a GeoTIFF, JPEG 2000 or VRT.")]


def _look_at_layers(source: Source, nodata: float | None) -> Scene | list[Problem]:
    """Raises what opening a file raises."""
    places = [layer.href for layer in source.layers]
    parts, problems = [], []
    with open_files(places) as datasets:
        for layer, dataset in zip(source.layers, datasets, strict=True):
            href = public(layer.href)
            if layer.band is None and dataset.count > 1:
                text = f"has {dataset.count} bands, and is to be one; say which of each asset with --bands, e.g. 1,1,1."
                problems.append(Problem(href, text))
                continue
            band: Bands = (layer.band,) if isinstance(layer.band, str) else (layer.band or 1,)
            header = Header(dataset, band, nodata, layer.named)
            problems += [Problem(href, p) for p in header.problems]
            if header.warped:
                problems.append(Problem(href, "is placed by ground control points alone; warp it to a grid first."))
            elif not header.problems:
                parts.append(Part(href, header.bands[0]))
                if other := grid_difference(datasets[0], dataset):
                    text = f"has another grid than {public(places[0])}: {other}; name assets of one grid with --asset."
                    problems.append(Problem(href, text))
        if problems:
            return list(dict.fromkeys(problems))
        stack = Stack([(dataset, part.band) for dataset, part in zip(datasets, parts, strict=True)])
        header = Header(stack, (1, 2, 3), nodata)
        if header.problems:
            return [Problem(public(source.href), p) for p in header.problems]
        signed = () if [part.href for part in parts] == places else tuple(places)
        return _scene(source, header, stack, stack.version(places), parts=tuple(parts), signed=signed)


def _scene(
    source: Source,
    header: Header,
    dataset: Any,  # noqa: ANN401 -- rasterio ships no types
    version: str,
    *,
    signed: tuple[str, ...],
    parts: tuple[Part, ...] = (),
) -> Scene:
    """The scene of a header without problems, its id not yet unique."""
    assert header.grid is not None
    return Scene(
        scene_id=slug(source.name or Path(source.href.split("?", maxsplit=1)[0]).stem, prefix="s"),
        href=public(source.href),
        etag=version,
        geobox=header.grid,
        bands=header.bands,
        dtype=header.dtype,
        nodata=header.nodata(),
        datetime=source.datetime or datetime_of(dataset),
        warped=header.warped,
        parts=parts,
        signed=signed,
    )


def _with_unique_ids(scenes: Sequence[Scene]) -> list[Scene]:
    """All of those that share a stem get a hash of their files, so that the order of the inputs decides nothing."""
    counts = Counter(scene.scene_id for scene in scenes)
    return [
        scene
        if counts[scene.scene_id] == 1
        else replace(scene, scene_id=f"{scene.scene_id}-{short_hash(_files(scene))}")
        for scene in scenes
    ]


def _files(scene: Scene) -> str:
    return " ".join(f"{part.href} {part.band}" for part in scene.parts) or scene.href
