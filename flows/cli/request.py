"""From command-line values to a spec, collecting every problem on the way."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.cli.options import numbers
from pipeline.blocks import checked_shard_px
from pipeline.model_names import addressed
from pipeline.preflight import attempt
from pipeline.prepare import Looked, look
from pipeline.queries import FeatureRules, Query, feature_rules, parse_queries
from pipeline.scenes import Problem
from pipeline.spec import Models, RunSpec
from pipeline.tolerance import checked_max_failed


@dataclass(frozen=True)
class Request:
    """What the user typed."""

    scenes: Sequence[str]
    query: Sequence[str]
    queries: Path | None
    out: str
    aoi: str | None
    bands: str | None
    nodata: float | None
    prompter: str
    segmenter: str
    prompt_template: str | None
    tile_px: int | None
    overlap_px: int | None
    levels: str
    threshold: float
    max_unparsable: float = 0.02
    skip_bad_scenes: bool = False
    registry: str | None = None
    gsd: float | None = None
    cog: bool = False
    mode: str = "semantic"
    min_area_m2: float = 0.0
    simplify_m: float = 0.0
    first_look: int | None = None
    batch_tiles: int = 8
    shard_px: int | None = None
    allow_hosts: Sequence[str] = ()
    max_failed: str | None = None
    sample: int | None = None

    def look(self) -> tuple[RunSpec, Looked]:
        """The spec and everything that is wrong with it. Reads headers only; loads and writes nothing."""
        queries, of_queries = attempt("--query", lambda: parse_queries(self.query, self.queries))
        bands, of_bands = attempt("--bands", lambda: numbers("--bands", self.bands))
        rules, of_rules = attempt("--mode", lambda: feature_rules(self.mode, self.min_area_m2, self.simplify_m))
        levels, of_levels = attempt("--levels", lambda: numbers("--levels", self.levels))
        shard_px, of_shards = attempt("--shard-px", lambda: checked_shard_px(self.shard_px))
        max_failed, of_failed = attempt("--max-failed", lambda: checked_max_failed(self.max_failed))
        spec = self._spec(queries or (), bands, levels or (1,), rules or FeatureRules(), shard_px)
        spec = spec.model_copy(update={"max_failed": max_failed})
        earlier = [*of_queries, *of_bands, *of_levels, *of_rules, *of_shards, *self._share_problems(), *of_failed]
        return spec, look(spec, self.out, earlier=earlier)

    def _spec(
        self,
        queries: tuple[Query, ...],
        bands: tuple[int, ...] | None,
        levels: tuple[int, ...],
        rules: FeatureRules,
        shard_px: int | None,
    ) -> RunSpec:
        return RunSpec(
            scenes=tuple(self.scenes),
            allow_hosts=tuple(self.allow_hosts),
            queries=queries,
            models=Models(
                prompter=addressed(self.prompter, self.registry),
                segmenter=self.segmenter,
                prompt_template=self.prompt_template,
            ),
            aoi=self.aoi,
            bands=bands,
            nodata=self.nodata,
            tile_px=self.tile_px,
            overlap_px=self.overlap_px,
            levels=levels,
            first_look=self.first_look,
            batch_tiles=self.batch_tiles,
            gsd_m=self.gsd,
            threshold=self.threshold,
            mode=rules.mode,
            min_area_m2=rules.min_area_m2,
            simplify_m=rules.simplify_m,
            max_unparsable=min(max(self.max_unparsable, 0.0), 1.0),
            skip_bad_scenes=self.skip_bad_scenes,
            cog=self.cog,
            shard_px=shard_px,
            sample_tiles=self.sample,
        )

    def _share_problems(self) -> list[Problem]:
        if 0 <= self.max_unparsable <= 1:
            return []
        return [Problem("--max-unparsable", f"{self.max_unparsable:g} is no share; use 0 to 1, e.g. 0.02.")]
