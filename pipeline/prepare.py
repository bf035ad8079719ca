"""From a spec to scenes that can be worked on: every problem is found before anything is spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.aoi import Aoi, aoi_in_scene_px, place, read_aoi
from pipeline.areas import Area
from pipeline.first_look import first_look_problems
from pipeline.levels import MAX_LEVEL, first_look_of, levels_of
from pipeline.model_names import Found, find
from pipeline.normalise import IDENTITY, Stretch, scene_stretch
from pipeline.pixels import UnreadablePixels
from pipeline.plan import Chosen, ModelVersions, ScenePlan, grids_for
from pipeline.preflight import attempt, is_of_scene, preflight
from pipeline.sample import spread
from pipeline.scenes import Problem, Resolved, Scene, resolve
from pipeline.searches import is_search
from pipeline.spec import RunSpec
from pipeline.storage import Store
from pipeline.work import Workers
from t2s_core.errors import BadInput
from t2s_core.profiles import PromptTemplate
from t2s_core.registry import prompter_profile, prompter_version, segmenter_version
from t2s_core.template import load_template


@dataclass(frozen=True)
class Prepared:
    """A spec whose inputs were all looked at."""

    spec: RunSpec
    """As given, but for a prompter that was the champion: it is a fixed version of it here."""
    store: Store
    scenes: Sequence[Scene]
    skipped: Sequence[Problem]
    """Problems of scenes that the run goes on without."""
    aoi: Aoi | None
    versions: ModelVersions
    tile_px: int
    """Pixels of the level."""
    overlap_px: int
    """Pixels of the level."""
    samples: Mapping[str, Chosen] | None = None
    """By scene, the tiles of a run that is a sample; None asks all."""
    notes: Sequence[str] = ()
    """Lines on what was chosen and left out; they stop nothing."""


@dataclass(frozen=True)
class Looked:
    """What a look at all inputs found. Headers only: no pixels, no models, nothing written."""

    prepared: Prepared | None
    """None where `problems` leave nothing to run."""
    problems: Sequence[Problem]
    """Everything that is wrong, in the order of the inputs."""


def look(spec: RunSpec, out_url: str, *, earlier: Sequence[Problem] = ()) -> Looked:
    """Resolve scenes, area and models of a spec. `earlier`: problems of what could not even become a spec.

    `champion` becomes the version that it is now, here and nowhere later: a run never changes model half way.
    """
    aoi, of_aoi = attempt("--aoi", lambda: _read_aoi(spec))
    if of_aoi and any(map(is_search, spec.scenes)):
        return Looked(None, [*earlier, *of_aoi])  # without its area a search would be one of the whole world
    resolved, of_area = _selected(spec, aoi)
    template, of_template = attempt("--prompt-template", lambda: _read_template(spec))
    found, of_name = attempt("--prompter", lambda: find(spec.models.prompter))
    profile = None if found is None else attempt("--prompter", lambda: prompter_profile(found.local))[0]
    tile_px = spec.tile_px if spec.tile_px is not None else (profile.tile_px if profile else None)
    overlap_px = spec.overlap_px if spec.overlap_px is not None else (tile_px // 4 if tile_px is not None else None)
    problems = preflight(
        resolved,
        queries=spec.queries,
        out_url=out_url,
        tile_px=tile_px,
        overlap_px=overlap_px,
        levels=spec.levels,
        gsd_m=spec.gsd_m,
        threshold=spec.threshold,
        prompter=None if found is None else found.local,  # whose problems it reports
        segmenter=spec.models.segmenter,
        of_area=of_area,
        earlier=[*earlier, *of_aoi, *of_template, *of_name, *_own_problems(spec, overlap_px)],
    )
    blocking = [p for p in problems if not (spec.skip_bad_scenes and is_of_scene(p, resolved))]
    if blocking or not resolved.scenes or found is None or tile_px is None or overlap_px is None:
        return Looked(None, problems)
    skipped = [p for p in problems if is_of_scene(p, resolved)]
    spec = _with_prompter(spec, found)
    versions = ModelVersions(
        spec.models,
        prompter_version(found.local, template=template),
        segmenter_version(spec.models.segmenter),
    )
    prepared = Prepared(
        spec, Store.at(out_url), resolved.scenes, skipped, aoi, versions, tile_px, overlap_px, notes=_notes(resolved)
    )
    return Looked(_sampled(prepared), problems)


def prepare(spec: RunSpec, out_url: str) -> Prepared:
    """As `look`, for who wants to run. Raises `BadInput` with all problems, one line each."""
    looked = look(spec, out_url)
    if looked.prepared is None:
        raise BadInput(*(str(p) for p in looked.problems))
    return looked.prepared


def plan_scenes(prepared: Prepared, known: Mapping[str, Mapping[str, Any]], workers: Workers) -> list[ScenePlan]:
    """The plans of all scenes.

    `known`: entries of an earlier manifest by scene id, whose stretches are taken where they are of the same version of
    the file; the statistics of other scenes are computed by `workers`, which reads pixels.
    """
    found = {s.scene_id: _known_stretch(s, known.get(s.scene_id)) for s in prepared.scenes}
    unknown = [s for s in prepared.scenes if found[s.scene_id] is None]
    found |= dict(workers.map(sampled_stretch, unknown))
    return [scene_plan(prepared, s, *stretch) for s in prepared.scenes if (stretch := found[s.scene_id]) is not None]


def scene_plan(prepared: Prepared, scene: Scene, stretch: Stretch, fault: str) -> ScenePlan:
    """The plan of a scene whose stretch is known. Opens nothing."""
    sizes = {"tile_px": prepared.tile_px, "overlap_px": prepared.overlap_px}
    coarse = first_look_of(scene, prepared.spec)
    return ScenePlan(
        scene=scene,
        stretch=stretch,
        grids=grids_for(scene, **sizes, levels=levels_of(scene, prepared.spec)),
        first_look=None if coarse is None else grids_for(scene, **sizes, levels=[coarse])[coarse],
        aoi_scene_px=None if prepared.aoi is None else aoi_in_scene_px(prepared.aoi, scene),
        versions=prepared.versions,
        sample=None if prepared.samples is None else prepared.samples.get(scene.scene_id, frozenset()),
        fault=fault,
    )


def _selected(spec: RunSpec, aoi: Aoi | None) -> tuple[Resolved, list[Problem]]:
    """The scenes that touch the area of interest, and what is wrong with its place."""
    area = None if aoi is None else Area.of(aoi.geometry, aoi.crs)
    resolved = resolve(
        spec.scenes, bands=spec.bands, nodata=spec.nodata, allow_hosts=spec.allow_hosts, asset=spec.asset, area=area
    )
    if aoi is None:
        return resolved, []
    placed = place(aoi, resolved.scenes, resolved.n_outside)
    inside = [scene for scene in resolved.scenes if scene.scene_id not in set(placed.missed)]
    return replace(resolved, scenes=inside, n_outside=resolved.n_outside + len(placed.missed)), placed.problems


def _notes(resolved: Resolved) -> Sequence[str]:
    n = resolved.n_outside
    left_out = f"{n} scene{'s' * (n > 1)} outside of the area of interest {'are' if n > 1 else 'is'} left out"
    return [*([left_out] if n else []), *resolved.notes]


def _sampled(prepared: Prepared) -> Prepared:
    """Where the spec asks for a sample: its tiles, and the scenes that have some."""
    if prepared.spec.sample_tiles is None:
        return prepared
    samples = spread([scene_plan(prepared, s, IDENTITY, "") for s in prepared.scenes], prepared.spec.sample_tiles)
    scenes = [scene for scene in prepared.scenes if scene.scene_id in samples]
    return replace(prepared, scenes=scenes, samples=samples)


def _known_stretch(scene: Scene, earlier: Mapping[str, Any] | None) -> tuple[Stretch, str] | None:
    if earlier is None or earlier["etag"] != scene.etag or earlier["fault"]:
        return None
    known = Scene.from_json(dict(earlier))
    if (known.bands, known.nodata) != (scene.bands, scene.nodata):
        return None
    return Stretch.from_json(earlier["stretch"]), ""


def sampled_stretch(scene: Scene) -> tuple[str, tuple[Stretch, str]]:
    """(scene id, (stretch, fault)) from a sample of its pixels; of what cannot be read, why, and the identity."""
    try:
        return scene.scene_id, (scene_stretch(scene), "")
    except UnreadablePixels as error:
        return scene.scene_id, (IDENTITY, str(error))


def _own_problems(spec: RunSpec, overlap_px: int | None) -> list[Problem]:
    return linking_problems(spec, overlap_px) + first_look_problems(spec.first_look, spec.levels, MAX_LEVEL)


def linking_problems(spec: RunSpec, overlap_px: int | None) -> list[Problem]:
    """Instances meet in overlaps alone: without any, every object would end with its tile."""
    if overlap_px != 0 or all(spec.rules_of(query).mode == "semantic" for query in spec.queries):
        return []
    text = "overlap_px=0 leaves nothing by which instances could be linked across tiles; use more, or --mode semantic."
    return [Problem("--overlap-px", text)]


def _with_prompter(spec: RunSpec, found: Found) -> RunSpec:
    return spec.model_copy(update={"models": spec.models.model_copy(update={"prompter": found.name})})


def _read_aoi(spec: RunSpec) -> Aoi | None:
    return None if spec.aoi is None else read_aoi(spec.aoi)


def _read_template(spec: RunSpec) -> PromptTemplate | None:
    return None if spec.models.prompt_template is None else load_template(Path(spec.models.prompt_template))
