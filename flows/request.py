"""A run as it is asked for: `run.yaml`, the options of `t2s segment` and `t2s plan`, and the form of a deployment.

This is the one list of them: options, their help, the JSON schema and the reference are made from it.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_serializer,
)

from pipeline.bands import Bands
from pipeline.blocks import CHUNK_PX, MAX_SHARD_PX
from pipeline.credentials import public_all
from pipeline.queries import Mode, Query
from pipeline.texts import shown
from pipeline.tolerance import PATTERN, checked_max_failed
from t2s_core.errors import BadInput


class Orchestrator(StrEnum):
    """Who calls the stages."""

    AUTO = "auto"
    PREFECT = "prefect"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Flag:
    """How a key is spelled on the command line, where that is not `--its-name`."""

    names: tuple[str, ...] = ()
    is_argument: bool = False
    in_file_only: bool = False


def _split(value: object) -> object:
    """`1,4` or 4 for a list: one way of writing for options and files."""
    if isinstance(value, int):
        return [value]
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _bearable(value: str) -> str:
    try:
        return checked_max_failed(value) or value
    except BadInput as error:
        raise ValueError(error.problems[0]) from error


def _declared(name: str) -> str:
    if not name.isidentifier() or not name.isascii():
        raise ValueError(f"{shown(name)} is no name of an environment variable; write it without $ and braces")
    if any(word in name.upper() for word in _SECRET):
        raise ValueError(
            f"{name[:80]} looks like a credential, and run.json keeps what a run was asked; leave it in the "
            "environment, where the clients of stores and servers find it by themselves"
        )
    return name


def _query_schema() -> dict[str, Any]:
    fields = dict(Query.model_json_schema()["properties"])
    entry = {"query": fields.pop("text"), **fields}
    as_mapping = {"type": "object", "properties": entry, "required": ["query"], "additionalProperties": False}
    return {"anyOf": [{"type": "array", "items": {"anyOf": [{"type": "string"}, as_mapping]}}, {"type": "string"}]}


_SECRET = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY")
_NUMBER = re.compile(r"\s*[+-]?\d+\s*")
_LISTED = {"type": "string", "pattern": r"^\s*[^,]+(,[^,]+)*$"}
Numbers = Annotated[
    tuple[int, ...],
    BeforeValidator(_split),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}, _LISTED]}),
]
MaxFailed = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
    AfterValidator(_bearable),
    WithJsonSchema({"type": ["string", "integer"], "pattern": PATTERN}),
]


def _bands(value: object) -> object:
    """Numbers, or names: `3,2,1`, `red,green,blue`, or a list of either."""
    parts = _split(value)
    if not isinstance(parts, list | tuple):
        return parts
    found = [int(part) if isinstance(part, str) and _NUMBER.fullmatch(part) else part for part in parts]
    if len({type(part) for part in found}) > 1:
        raise ValueError(f"{shown(value)} mixes numbers and names of bands; use e.g. 3,2,1 or red,green,blue")
    return found


BandList = Annotated[
    Bands,
    BeforeValidator(_bands),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "integer"}},
                {"type": "array", "items": {"type": "string"}},
                {"type": "integer"},
                _LISTED,
            ]
        }
    ),
]
Variable = Annotated[str, AfterValidator(_declared)]


class StacSearch(BaseModel):
    """A search of a STAC API, whose items are scenes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    api: str
    """The address of the API, without /search."""
    collections: tuple[str, ...] = ()
    """Ids of collections; all by default."""
    bbox: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; the box around --aoi by default."""
    datetime: str | None = None
    """A time or a span: 2024-05-01/2024-05-31, 2024-05-01/.."""
    query: dict[str, Any] | None = None
    """Conditions on properties, e.g. {eo:cloud_cover: {lt: 20}}."""
    filter: str | None = None
    """The same as CQL2 text, e.g. eo:cloud_cover < 20."""
    limit: int | None = Field(default=None, ge=1)
    """The most items, over all pages."""
    asset: str | None = None
    """As the option --asset, of this search alone."""

    def url(self) -> str:
        """The search as the API spells it, with the asset after `#`: what `scenes` takes too."""
        given = {
            "collections": ",".join(self.collections) or None,
            "bbox": None if self.bbox is None else ",".join(f"{degrees:.9g}" for degrees in self.bbox),
            "datetime": self.datetime,
            "query": None if self.query is None else json.dumps(self.query, separators=(",", ":")),
            "filter": self.filter,
            "filter-lang": None if self.filter is None else "cql2-text",
            "limit": self.limit,
        }
        query = urlencode({key: value for key, value in given.items() if value is not None}, safe=",:/")
        return (
            f"{self.api.rstrip('/')}/search" + (f"?{query}" if query else "") + (f"#{self.asset}" if self.asset else "")
        )


class RunRequest(BaseModel):
    """What to ask of which scenes, how, and where. Every key is an option of `t2s segment` of the same name."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, title="run.yaml")

    @field_serializer("scenes", "aoi")
    def _without_credentials(self, given: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        """What Prefect keeps of a request opens nothing that is locked."""
        return public_all(given)

    env: Annotated[tuple[Annotated[str, AfterValidator(_declared)], ...], Flag(in_file_only=True)] = Field(
        default=(), examples=[["BUCKET"]]
    )
    """Names of environment variables that ${NAME} in this file may stand for. For places, not for credentials."""
    scenes: Annotated[tuple[str, ...], Flag(("SCENE...",), is_argument=True)] = Field(
        default=(), examples=[["scenes/*.tif"]]
    )
    """GeoTIFFs, STAC items or catalogs: paths, globs, folders, URLs. A bucket's prefix/, API/search?...: all there."""
    stac: Annotated[StacSearch | None, Flag(in_file_only=True)] = Field(
        default=None, examples=[{"api": "https://host/stac", "collections": ["naip"]}]
    )
    """A search of a STAC API: its items are scenes too. On the command line: SCENE... as API/search?collections=..."""
    out: Annotated[str | None, Flag(("--out", "-o"))] = Field(default=None, examples=["s3://bucket/runs/lakes"])
    """Directory or fsspec URL for everything the run makes."""
    query: Annotated[tuple[str, ...], Flag(("--query", "-q"))] = Field(default=(), examples=[["the lake"]])
    """A question in plain language; repeat for more."""
    queries: Annotated[str | tuple[Any, ...] | None, WithJsonSchema(_query_schema())] = Field(
        default=None, examples=["questions.yaml", ["the lake", {"query": "parked vehicles", "threshold": 0.6}]]
    )
    """YAML, CSV or JSON file of questions; in run.yaml also the list of questions itself."""
    aoi: str | None = Field(default=None, examples=["area.gpkg"])
    """Vector file; only what lies in it is looked at. Scenes outside of it are left out."""
    asset: str | None = Field(default=None, examples=["visual", "B04,B03,B02"])
    """Asset of STAC items that is the scene, or three for red, green, blue; by what they are by default."""
    bands: BandList | None = Field(default=None, examples=[[3, 2, 1], "nir,red,green"])
    """Red, green, blue: numbers (3,2,1) or names (red,green,blue), which items or files give; or one band."""
    nodata: float | None = None
    """Value that means no data; overrides the files' own."""
    allow_hosts: tuple[str, ...] = Field(default=(), examples=[["*.example.org"]])
    """Host or bucket where STAC items may name files, e.g. *.example.org; repeat."""
    prompter: str = Field(default="bundled", examples=["champion", "qwen_vl:PATH"])
    """bundled, champion, qwen_vl:PATH, openai_api:URL#MODEL, recorded:FILE."""
    registry: str | None = Field(default=None, examples=["s3://bucket/registry"])
    """Registry of prompter versions: a path or URL; by default what T2S_REGISTRY names."""
    segmenter: str = Field(default="bundled", examples=["sam_hf:PATH"])
    """bundled, sam_hf:PATH, segment_anything:FILE.pth."""
    prompt_template: str | None = None
    """File that replaces the prompt's wording."""
    tile_px: int | None = Field(default=None, examples=[512])
    """Tile side in pixels; the prompter's own size by default."""
    overlap_px: int | None = Field(default=None, examples=[128])
    """What neighbours share; a quarter of a tile by default."""
    levels: Numbers = Field(default=(1,), examples=[[1, 4]])
    """Overview factors at which tiles are laid, e.g. 1,4; 1 is --gsd's."""
    first_look: int | None = Field(default=None, examples=[2])
    """Ask coarse tiles first, e.g. of level 2, and fine ones only where those see something."""
    batch_tiles: int = Field(default=8, ge=1, examples=[32])
    """Tiles that the models answer together; a GPU wants more, e.g. 32."""
    gsd: float | None = Field(default=None, examples=[0.5])
    """Metres per pixel of tiles (nearest overview); the scene's by default."""
    threshold: float = Field(default=0.5, examples=[0.6])
    """Probability from which a pixel is target."""
    mode: Mode = Field(default="semantic", examples=["instance"])
    """A feature is a connected region (semantic) or one of the prompter's objects (instance)."""
    min_area_m2: float = Field(default=0.0, ge=0, allow_inf_nan=False, examples=[25])
    """Leave out features that are smaller."""
    simplify_m: float = Field(default=0.0, ge=0, allow_inf_nan=False, examples=[2])
    """Draw outlines with fewer corners, about this far off."""
    max_unparsable: float = Field(default=0.02, ge=0, le=1, examples=[0.02])
    """Share of unusable answers above which the run is partial."""
    max_failed: MaxFailed | None = Field(default=None, examples=["5%"])
    """End early above so many failures: a count, or a share as in 5%."""
    skip_bad_scenes: bool | None = None
    """Go on without scenes that cannot be used. Left out, a Prefect deployment does and the command does not."""
    cog: bool = False
    """Deliver masks and probabilities as COGs too."""
    shard_px: int | None = Field(default=None, ge=CHUNK_PX, le=MAX_SHARD_PX, multiple_of=CHUNK_PX, examples=[2048])
    """Side of Zarr shards, e.g. 2048: fewer objects; few readers read them."""
    sample: int | None = Field(default=None, ge=1, examples=[20])
    """Ask only so many tiles, spread over all scenes; see OUT/sample/report.html."""
    retry_failed: bool = False
    """Ask again where a machine failed."""
    fresh: bool = False
    """Throw away what earlier runs left in OUT."""
    workers: int | None = Field(default=None, ge=1, examples=[4])
    """Local processes; one per core by default."""
    cluster: str = Field(default="local", examples=["tcp://scheduler:8786"])
    """local, local-gpu, a Dask scheduler (tcp:// or tls://), slurm:FILE or kubernetes:FILE."""
    device: str = Field(default="auto", examples=["cuda"])
    """auto, cpu, cuda or cuda:N."""
    orchestrator: Orchestrator = Orchestrator.AUTO
    """auto: Prefect where its API is configured, else direct. A deployment is Prefect's whatever this says."""
