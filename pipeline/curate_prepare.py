"""From what a curation is asked to what it works on: every input is looked at, and every problem found, first."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pipeline.aoi import Aoi, aoi_in_scene_px, read_aoi
from pipeline.curate_chips import CutSettings, SceneWork
from pipeline.curate_corrections import CorrectedLayer, read_corrections
from pipeline.curate_files import claim_problem
from pipeline.curate_labels import read_labels
from pipeline.curate_spec import CurationSpec, label_problems, option_problems
from pipeline.curate_splits import blocks_of, default_block_m
from pipeline.curate_truth import Layer
from pipeline.curate_words import Vocabulary, read_class_values, read_phrasings, vocabulary
from pipeline.geodesy import gsd_m
from pipeline.normalise import Stretch, scene_stretch
from pipeline.pixels import UnreadablePixels
from pipeline.plan import grids_for
from pipeline.preflight import attempt, body_problems, output_problems
from pipeline.runs import FinishedRun, open_run
from pipeline.scenes import Problem, Scene, resolve
from pipeline.slugs import short_hash
from pipeline.storage import Store
from t2s_core.errors import BadInput
from t2s_core.registry import prompter_profile

CURATE_VERSION = "1"
"""Raise it when the same inputs come to give another data set."""


@dataclass(frozen=True)
class PreparedCuration:
    """A curation whose inputs were all looked at."""

    spec: CurationSpec
    works: Sequence[SceneWork]
    settings: CutSettings
    block_m: float
    hard: FinishedRun | None
    inputs: str
    """Hash of all that determines the data set."""
    sources: Sequence[dict[str, str]]
    """href and etag of each scene and each file of truth."""
    notes: Sequence[str]
    """What a person should know, though it stops nothing."""


@dataclass(frozen=True)
class _Truths:
    labels: Sequence[Layer]
    corrected: CorrectedLayer | None
    words: Vocabulary


def prepare_curation(
    spec: CurationSpec, out_url: str, *, fresh: bool = False, earlier: Sequence[Problem] = ()
) -> PreparedCuration:
    """Look at everything; write nothing. Scenes whose stretch is not known from a run are sampled for it.

    `earlier`: problems of what could not even become a spec. Raises `BadInput` with all problems, one line each.
    """
    store = Store.at(out_url)
    problems = [*earlier, *option_problems(spec)]
    resolved = resolve(
        spec.scenes, bands=spec.bands, nodata=spec.nodata, allow_hosts=spec.allow_hosts, asset=spec.asset
    )
    problems += resolved.problems
    truths, of_truths = _truths(spec)
    hard, of_hard = attempt("--hard-from", lambda: None if spec.hard_from is None else open_run(spec.hard_from))
    tile_px, of_tile = attempt("--tile-px", lambda: _tile_px(spec, truths))
    problems += [*of_truths, *of_hard, *of_tile]
    problems += output_problems(out_url, resolved.scenes, 1)
    if problems or truths is None or tile_px is None:
        raise BadInput(*_lines(problems))
    works, problems = _scene_works(spec, resolved.scenes, truths, tile_px)
    problems += body_problems([work.scene for work in works])
    block_m, of_block = attempt("--block-m", lambda: _block_m(spec, works, tile_px))
    problems += of_block
    if block_m is None or problems:
        raise BadInput(*_lines(problems))
    works = [replace(work, blocks=blocks_of(work.scene.geobox, block_m)) for work in works]
    layers: list[Layer] = [*truths.labels, *([] if truths.corrected is None else [truths.corrected])]
    sources = [{"href": work.scene.href, "etag": work.scene.etag} for work in works]
    sources += [{"href": layer.href, "etag": layer.etag} for layer in layers]
    inputs = _inputs(spec, works, sources, truths.words, (tile_px, block_m))
    problem = None if fresh else claim_problem(store, inputs)
    if problem is not None:
        raise BadInput(problem)
    settings = CutSettings(store, tile_px, truths.words, spec.seed, spec.val, spec.test, spec.min_target_px)
    notes = [*resolved.notes, *(note for layer in layers for note in layer.notes)]
    used = {work.scene.href for work in works}
    notes += [f"{s.href}: no label lies over it, so it gives no chip" for s in resolved.scenes if s.href not in used]
    return PreparedCuration(spec, works, settings, block_m, hard, inputs, sources, notes)


def _lines(problems: Sequence[Problem]) -> list[str]:
    return list(dict.fromkeys(str(p) for p in problems))


def _truths(spec: CurationSpec) -> tuple[_Truths | None, list[Problem]]:
    """Everything that files say about targets, with all that is wrong with them."""
    cover, problems = attempt(
        "--labels-cover", lambda: None if spec.labels_cover is None else read_aoi(spec.labels_cover)
    )
    values, of_values = attempt(
        "--class-values", lambda: None if spec.class_values is None else read_class_values(spec.class_values)
    )
    phrasings, of_phrasings = attempt(
        "--phrasings", lambda: {} if spec.phrasings is None else read_phrasings(spec.phrasings)
    )
    problems += [*of_values, *of_phrasings]
    labels: list[Layer] = []
    named: dict[str, str] = {}
    can_be_named = not (of_values or label_problems(spec))
    for href in spec.labels if can_be_named else ():
        layer, of_layer = attempt(href, partial(read_labels, href, spec, values, cover))
        problems += of_layer
        if layer is not None:
            labels.append(layer)
            named = {**layer.named, **named}
    corrected, of_corrected = attempt("--features", lambda: _corrected(spec, cover))
    problems += of_corrected
    if problems:
        return None, problems
    known = [] if corrected is None else list(corrected.run.queries)
    words, of_words = attempt("--phrasings", lambda: vocabulary(known, named, phrasings or {}))
    return (None if words is None else _Truths(labels, corrected, words)), of_words


def _corrected(spec: CurationSpec, cover: Aoi | None) -> CorrectedLayer | None:
    if spec.from_run is None or spec.features is None:
        return None
    return read_corrections(open_run(spec.from_run), spec.features, spec.reviewed, cover)


def _tile_px(spec: CurationSpec, truths: _Truths | None) -> int:
    if spec.tile_px is not None:
        return spec.tile_px
    if truths is not None and truths.corrected is not None:
        return int(truths.corrected.run.manifest["spec"]["tile_px"])
    return prompter_profile(spec.prompter).tile_px


def _scene_works(
    spec: CurationSpec, scenes: Sequence[Scene], truths: _Truths, tile_px: int
) -> tuple[list[SceneWork], list[Problem]]:
    """One per scene; a scene that is both labelled and in the run is one scene, as the run saw it."""
    problems: list[Problem] = []
    layers: dict[str, list[Layer]] = {}
    known: dict[str, tuple[Scene, Mapping[str, Any]]] = {}
    if truths.corrected is not None:
        entries = truths.corrected.run.manifest["scenes"]
        for scene, entry in zip(truths.corrected.run.scenes, entries, strict=True):
            known[scene.href] = (scene, entry)
            layers[scene.href] = [truths.corrected]
    taken = {scene.scene_id for scene, _ in known.values()}
    every = {scene.href: scene for scene, _ in known.values()}
    for scene in scenes:
        if scene.href in known:
            problems += _differences(scene, known[scene.href][0])
        else:
            clash = scene.scene_id in taken
            every[scene.href] = (
                replace(scene, scene_id=f"{scene.scene_id}-{short_hash(scene.href)}") if clash else scene
            )
    met, of_layers = _layers_over([every[href] for href in dict.fromkeys(s.href for s in scenes)], truths.labels)
    problems += of_layers
    works = []
    for href, scene in every.items():
        layers.setdefault(href, []).extend(met.get(href, []))
        if not layers[href]:
            continue  # nothing is known of it: a note says so
        stretch, of_stretch = attempt(href, partial(_stretch, scene, known))
        blocks, of_blocks = attempt(href, partial(blocks_of, scene.geobox, 1.0))
        problems += [*of_stretch, *of_blocks]
        if stretch is not None and blocks is not None:
            grids = grids_for(scene, tile_px=tile_px, overlap_px=spec.overlap_px, levels=spec.levels)
            works.append(SceneWork(scene, stretch, tuple(layers[href]), grids, blocks))
    return works, problems


def _differences(scene: Scene, of_run: Scene) -> list[Problem]:
    if (scene.bands, scene.parts, scene.nodata) == (of_run.bands, of_run.parts, of_run.nodata):
        return []
    bands = ",".join(map(str, of_run.bands))
    text = f"has bands {scene.bands} and nodata rule {scene.nodata.kind} here, others in the run; use --bands {bands}"
    return [Problem(scene.href, f"{text} and the run's --nodata.")]


def _stretch(scene: Scene, known: Mapping[str, tuple[Scene, Mapping[str, Any]]]) -> Stretch:
    if scene.href in known:
        return Stretch.from_json(known[scene.href][1]["stretch"])
    try:
        return scene_stretch(scene)
    except UnreadablePixels as error:
        raise BadInput(str(error)) from error


def _layers_over(scenes: Sequence[Scene], labels: Sequence[Layer]) -> tuple[dict[str, list[Layer]], list[Problem]]:
    """By href of a scene, the layers that say something of it; layers over none, and what cannot be laid over one."""
    met: dict[str, list[Layer]] = {}
    problems = []
    for layer in labels:
        assert layer.cover is not None  # only corrections lack one
        try:
            over = [s.href for s in scenes if not aoi_in_scene_px(layer.cover, s).is_empty]
        except BadInput as error:
            problems += [Problem(layer.href, p) for p in error.problems]
            continue
        if scenes and not over:
            text = f"lies over none of the {len(scenes)} scenes; check its CRS ({layer.cover.crs[:40]}) and axis order."
            problems.append(Problem(layer.href, text))
        for href in over:
            met.setdefault(href, []).append(layer)
    return met, problems


def _block_m(spec: CurationSpec, works: Sequence[SceneWork], tile_px: int) -> float:
    """The blocks' side. Raises `BadInput` where no chip fits in one."""
    if not works:  # only hard examples are listed
        return spec.block_m or 1.0
    tile_m = tile_px * max(spec.levels) * max(gsd_m(work.scene.geobox) for work in works)
    if spec.block_m is None:
        return default_block_m(tile_m)
    if spec.block_m < tile_m:
        text = f"{spec.block_m:g} m is less than a chip's {tile_m:.4g} m, so no chip lies in one block"
        raise BadInput(f"{text}; use {default_block_m(tile_m):g}")
    return spec.block_m


def _inputs(
    spec: CurationSpec,
    works: Sequence[SceneWork],
    sources: Sequence[dict[str, str]],
    words: Vocabulary,
    resolved: tuple[int, float],
) -> str:
    facts = {
        "version": CURATE_VERSION,
        # where things lie decides nothing, what they hold does; what is only listed does not change the data set
        "spec": spec.model_dump(
            mode="json",
            exclude={
                "class_values", "phrasings", "labels_cover", "hard_from", "min_disagreement", "prompter", "allow_hosts",
                "asset",
            },
        ),
        "resolved": list(resolved),
        "sources": [list(source.values()) for source in sources],
        "scenes": [[work.scene.to_json(), work.stretch.to_json()] for work in works],
        "covers": sorted({layer.cover.geometry.wkt for work in works for layer in work.layers
                          if layer.cover is not None}),
        "texts": sorted([key, words.queries[key].query_id, *texts] for key, texts in words.texts.items()),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]
