"""Options that several commands share, and how they become a spec."""

import re
from pathlib import Path
from typing import Annotated

import typer

Scenes = Annotated[
    list[str],
    typer.Argument(metavar="SCENE...", help="GeoTIFFs, STAC items: paths, globs, folders, URLs.", show_default=False),
]
QueryTexts = Annotated[
    list[str] | None, typer.Option("--query", "-q", help="A question in plain language; repeat for more.")
]
QueryFile = Annotated[Path | None, typer.Option("--queries", help="YAML, CSV or JSON file of questions.")]
Out = Annotated[str, typer.Option("--out", "-o", help="Directory or fsspec URL for everything the run makes.")]
AoiFile = Annotated[str | None, typer.Option("--aoi", help="Vector file; only what lies in it is looked at.")]
Bands = Annotated[str | None, typer.Option(help="Red, green, blue (e.g. 3,2,1), or one band.")]
Nodata = Annotated[float | None, typer.Option(help="Value that means no data; overrides the files' own.")]
AllowHosts = Annotated[
    list[str] | None,
    typer.Option("--allow-hosts", help="Host or bucket where STAC items may name files, e.g. *.example.org; repeat."),
]
PrompterName = Annotated[
    str, typer.Option("--prompter", help="bundled, champion, qwen_vl:PATH, openai_api:URL#MODEL, recorded:FILE.")
]
Registry = Annotated[
    str | None, typer.Option("--registry", envvar="T2S_REGISTRY", help="Registry of prompter versions: a path or URL.")
]
SegmenterName = Annotated[str, typer.Option("--segmenter", help="bundled, sam_hf:PATH, segment_anything:FILE.pth.")]
TemplateFile = Annotated[str | None, typer.Option("--prompt-template", help="File that replaces the prompt's wording.")]
TilePx = Annotated[int | None, typer.Option(help="Tile side in pixels; the prompter's own size by default.")]
OverlapPx = Annotated[int | None, typer.Option(help="What neighbours share; a quarter of a tile by default.")]
Levels = Annotated[str, typer.Option(help="Overview factors at which tiles are laid, e.g. 1,4; 1 is --gsd's.")]
FirstLook = Annotated[
    int | None,
    typer.Option(help="Ask coarse tiles first, e.g. of level 2, and fine ones only where those see something."),
]
BatchTiles = Annotated[
    int, typer.Option("--batch-tiles", min=1, help="Tiles that the models answer together; a GPU wants more, e.g. 32.")
]
Gsd = Annotated[
    float | None,
    typer.Option("--gsd", help="Metres per pixel of tiles (nearest overview); the scene's by default."),
]
Threshold = Annotated[float, typer.Option(help="Probability from which a pixel is target.")]
FeatureMode = Annotated[
    str,
    typer.Option(
        "--mode", help="A feature is a connected region (semantic) or one of the prompter's objects (instance)."
    ),
]
MinArea = Annotated[float, typer.Option("--min-area-m2", help="Leave out features that are smaller.")]
Simplify = Annotated[float, typer.Option("--simplify-m", help="Draw outlines with fewer corners, about this far off.")]
MaxUnparsable = Annotated[float, typer.Option(help="Share of unusable answers above which the run is partial.")]
MaxFailed = Annotated[
    str | None, typer.Option("--max-failed", help="End early above so many failures: a count, or a share as in 5%.")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad-scenes", help="Go on without scenes that cannot be used.")]
Cog = Annotated[bool, typer.Option("--cog", help="Deliver masks and probabilities as COGs too.")]
ShardPx = Annotated[
    int | None, typer.Option("--shard-px", help="Side of Zarr shards, e.g. 2048: fewer objects; few readers read them.")
]
Cluster = Annotated[str, typer.Option(help="local, or a Dask scheduler's address.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
NWorkers = Annotated[int | None, typer.Option("--workers", min=1, help="Local processes; one per core by default.")]
Preview = Annotated[
    Path | None, typer.Option("--preview", metavar="FILE.html", help="Write a map of the scenes with the tiles on it.")
]
Sample = Annotated[
    int | None,
    typer.Option("--sample", min=1, help="Ask only so many tiles, spread over all scenes; see OUT/sample/report.html."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, messages on stderr.")]


def numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas. Raises `BadInput`."""
    from t2s_core.errors import BadInput

    if text is None:
        return None
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        raise BadInput(f"{option} {text!r}: not whole numbers separated by commas; use e.g. 1,4")
    return tuple(int(part) for part in text.split(","))
