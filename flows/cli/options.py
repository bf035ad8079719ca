"""Options that several commands share. Those of a region run are in `flows.request`; see `requested`."""

import re
from typing import Annotated

import typer

from flows.cli import completion
from flows.request import RunRequest
from pipeline.bands import Bands as BandNumbers


def same(key: str) -> str:
    """The help of a region run's option of this name."""
    return str(RunRequest.model_fields[key].description)


Out = Annotated[str, typer.Option("--out", "-o", help=same("out"))]
Asset = Annotated[str | None, typer.Option(help=same("asset"))]
Bands = Annotated[str | None, typer.Option(help=same("bands"))]
Nodata = Annotated[float | None, typer.Option(help=same("nodata"))]
AllowHosts = Annotated[list[str] | None, typer.Option("--allow-hosts", help=same("allow_hosts"))]
PrompterName = Annotated[str, typer.Option("--prompter", help=same("prompter"), autocompletion=completion.prompters)]
Registry = Annotated[
    str | None, typer.Option("--registry", envvar="T2S_REGISTRY", help="Registry of prompter versions: a path or URL.")
]
SegmenterName = Annotated[
    str, typer.Option("--segmenter", help=same("segmenter"), autocompletion=completion.BY_KEY["segmenter"])
]
Cluster = Annotated[str, typer.Option(help=same("cluster"), autocompletion=completion.BY_KEY["cluster"])]
Device = Annotated[str, typer.Option("--device", help=same("device"), autocompletion=completion.BY_KEY["device"])]
Dataset = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(completion.DATASETS[:-1])} or {completion.DATASETS[-1]}.",
        show_default=False,
        autocompletion=completion.offers(*completion.DATASETS),
    ),
]
Split = completion.offers("train", "val", "test")
OfRun = Annotated[str, typer.Argument(metavar="OUT", help="Directory or URL of a run.", show_default=False)]
ScenesAgain = Annotated[
    list[str] | None,
    typer.Argument(metavar="SCENE", help="Scenes of the run whose addresses are signed, as they open now."),
]
NWorkers = Annotated[int | None, typer.Option("--workers", min=1, help=same("workers"))]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, messages on stderr.")]


def bands(text: str | None) -> BandNumbers | None:
    """Numbers or names of bands, as a region run reads them. Raises `BadInput`."""
    from pydantic import ValidationError

    from t2s_core.errors import BadInput

    try:
        return RunRequest(bands=text).bands  # type: ignore[arg-type]  # what it reads into a tuple
    except ValidationError as error:
        raise BadInput(f"--bands {text!r}: not numbers or names of bands; use e.g. 3,2,1 or red,green,blue") from error


def numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas. Raises `BadInput`."""
    from t2s_core.errors import BadInput

    if text is None:
        return None
    if not re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        raise BadInput(f"{option} {text!r}: not whole numbers separated by commas; use e.g. 1,4")
    return tuple(int(part) for part in text.split(","))
