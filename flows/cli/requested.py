"""The options of a request on a command: made from `flows.request`, the one list of them."""

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from flows.cli.completion import BY_KEY
from flows.request import Flag, RunRequest

Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        help="run.yaml: a path or URL. What is given beside it goes before it.",
        rich_help_panel="What is asked",
    ),
]


_PANELS = {
    "What is asked": ("out", "query", "queries", "aoi", "asset", "bands", "nodata", "allow_hosts", "sample", "config"),
    "Who answers": ("prompter", "segmenter", "registry", "prompt_template", "device"),
    "Tiles": ("tile_px", "overlap_px", "gsd", "levels", "first_look", "batch_tiles"),
    "Masks and features": ("threshold", "mode", "min_area_m2", "simplify_m", "cog", "shard_px"),
    "What may go wrong": ("skip_bad_scenes", "max_failed", "max_unparsable", "retry_failed", "fresh"),
    "Where it runs": ("workers", "cluster", "orchestrator"),
}
"""Options as help groups them; what is in none is among the command's own."""
_PANEL_OF = {key: panel for panel, keys in _PANELS.items() for key in keys}


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of a request, and SCENE...

    Args:
        command: Its first parameters are `config` (the file, or None) and `given`: the keys that the user gave, and no
            others, with their values. The options that follow are the command's own.

    """
    own = list(inspect.signature(command).parameters.values())[2:]
    shared = dict(_parameters())

    @functools.wraps(command)
    def wrapper(config: str | None = None, **values: Any) -> None:  # noqa: ANN401 -- as Typer calls it
        given = {key: values.pop(key) for key in shared if values.get(key) is not None}
        given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if value != []}
        command(config, given, **{parameter.name: values[parameter.name] for parameter in own})

    settings = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config)
    kept = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapper.__signature__ = inspect.Signature([*shared.values(), settings, *kept])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {}  # Typer reads the signature's
    return wrapper


def _parameters() -> Iterator[tuple[str, inspect.Parameter]]:
    for key, field in RunRequest.model_fields.items():
        flag = next((m for m in field.metadata if isinstance(m, Flag)), Flag())
        if flag.in_file_only:
            continue
        kind = _kind(field.annotation)
        annotation = Annotated[kind | None, _option(key, field, flag, kind)]  # type: ignore[valid-type]
        yield key, inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _option(key: str, field: FieldInfo, flag: Flag, kind: Any) -> Any:  # noqa: ANN401 -- Typer's infos
    if flag.is_argument:
        return typer.Argument(metavar=flag.names[0], help=field.description, show_default=False)
    name = f"--{key.replace('_', '-')}"
    names = flag.names or ((f"{name}/--no-{key.replace('_', '-')}",) if kind is bool else (name,))
    return typer.Option(
        *names,
        help=field.description,
        show_default=_shown(field.default),
        autocompletion=BY_KEY.get(key),
        rich_help_panel=_PANEL_OF.get(key),
    )


def _shown(default: Any) -> Any:  # noqa: ANN401
    """A default as help shows it: what is left out is None here, for a file may say otherwise."""
    if default is None or default is False or default == ():
        return False
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _kind(annotation: Any) -> Any:  # noqa: ANN401
    """The type of an option, of a key that may be None and may have a range."""
    while get_origin(annotation) in {Annotated, Union, types.UnionType}:
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return list[str] if get_args(annotation)[0] is str else str  # 1,4 is written with commas
    if isinstance(annotation, type) and (issubclass(annotation, StrEnum) or annotation in {bool, int, float}):
        return annotation
    return str
