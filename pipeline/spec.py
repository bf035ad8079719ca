"""The run's specification: everything that changes a result, and nothing that changes only speed."""

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from pipeline.bands import Bands
from pipeline.blocks import CHUNK_PX, MAX_SHARD_PX
from pipeline.credentials import public_all
from pipeline.queries import FeatureRules, Mode, Query
from pipeline.tolerance import PATTERN


class Models(BaseModel):
    """Which models answer. Versions are resolved once per run, before any model is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompter: str = "bundled"
    """As `t2s_core.registry` or `pipeline.model_names` spells it. A prepared run's is never `champion`."""
    segmenter: str = "bundled"
    prompt_template: str | None = None
    """A file that replaces the profile's template."""


class RunSpec(BaseModel):
    """One question list, asked of one set of scenes in one way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: tuple[str, ...]
    """Paths, globs, directories or URLs, as the user gave them."""
    queries: tuple[Query, ...]
    models: Models = Models()
    allow_hosts: tuple[str, ...] = ()
    """Hosts and buckets (`*.example.org` too) where STAC items may name files, besides those of `scenes`."""
    aoi: str | None = None
    """A vector file; pixels outside of it are not looked at."""
    asset: str | None = None
    """Key of the asset of STAC items that is the scene, or of three (`B04,B03,B02`); by what they are if None."""
    bands: Bands | None = None
    """One or three 1-based band numbers, or names of bands, in the order red, green, blue; by colour interpretation if
    None."""
    nodata: float | None = None
    """Overrides what the files say."""
    tile_px: int | None = None
    """Tile side in pixels of the level; the prompter's profile decides if None."""
    overlap_px: int | None = None
    """What two neighbouring tiles share; a quarter of a tile if None."""
    levels: tuple[int, ...] = (1,)
    """Overview factors at which tiles are laid, counted from what `gsd_m` comes to."""
    first_look: int | None = None
    """Overview factor, counted as `levels` are, at which all is asked before; see `first_look`. None looks once."""
    gsd_m: float | None = None
    """Ground sampling distance of the finest tiles, in metres; each scene's own if None. See `levels.levels_of`."""
    threshold: float = Field(default=0.5)
    """Probability from which a pixel is target, for queries that name none of their own."""
    mode: Mode = "semantic"
    """What a feature is, for queries that name no mode of their own; so with the next two."""
    min_area_m2: float = Field(default=0.0, ge=0)
    simplify_m: float = Field(default=0.0, ge=0)
    batch_tiles: int = Field(default=8, ge=1)
    """Tiles answered together. Part of the spec because batch size may move logits in the last digits."""
    cog: bool = False
    """Deliver each mosaic as Cloud Optimized GeoTIFFs too. Changes no result, but what a run has to hand over."""
    shard_px: int | None = Field(default=None, ge=CHUNK_PX, le=MAX_SHARD_PX, multiple_of=CHUNK_PX)
    """Side of the shards of mosaics in pixels; not sharded if None. Changes no pixel."""
    sample_tiles: int | None = Field(default=None, ge=1)
    """Ask only so many tiles of the finest level, spread over all scenes (see `sample`); all of them if None."""
    skip_bad_scenes: bool = False
    """Go on without scenes that preflight refuses; the run is then PARTIAL."""
    max_unparsable: float = Field(default=0.02, ge=0, le=1)
    """Share of unparsable tile-queries above which the run is PARTIAL."""
    max_failed: str | None = Field(default=None, pattern=PATTERN)
    """Failed tile-queries above which the run ends early and is FAILED: a count (`200`) or a share of all (`5%`)."""

    @field_serializer("scenes", "aoi")
    def _without_credentials(self, given: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        """What is written of a spec, in run.json or in Prefect's database, opens nothing that is locked."""
        return public_all(given)

    def threshold_of(self, query: Query) -> float:
        """The query's own threshold, else the run's."""
        return self.threshold if query.threshold is None else query.threshold

    def rules_of(self, query: Query) -> FeatureRules:
        """The query's own rules where it has them, else the run's."""
        return FeatureRules(
            mode=query.mode or self.mode,
            min_area_m2=self.min_area_m2 if query.min_area_m2 is None else query.min_area_m2,
            simplify_m=self.simplify_m if query.simplify_m is None else query.simplify_m,
        )
