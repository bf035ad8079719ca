"""From `run.yaml` and what was given beside it to a request, with every problem on the way as a line."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError

from flows.request import Flag, RunRequest, StacSearch
from pipeline.addresses import scheme_problem
from pipeline.preflight import attempt
from pipeline.queries import parse_queries
from pipeline.rasters import is_url
from pipeline.sample import FOLDER as SAMPLE
from pipeline.scenes import Problem
from pipeline.spec import Models, RunSpec
from pipeline.storage import store_errors
from pipeline.texts import MAX_BYTES, one_line, shown, small_text, yaml_value
from t2s_core.errors import BadInput

if TYPE_CHECKING:
    from pipeline.prepare import Looked, Prepared

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")


class Read(NamedTuple):
    """What files and options came to."""

    request: RunRequest
    """Without what could not be read."""
    problems: list[Problem]


def read_request(config: str | None, given: Mapping[str, Any]) -> Read:
    """What is asked for: the values of a file (path or URL), and before them those that are given.

    Raises `BadInput` where the file is none; all problems within it and of what is given are in the result.
    """
    of_file: dict[str, Any] = {}
    problems: list[Problem] = []
    if config is not None:
        of_file, problems = _substituted(config, _mapping(config))
    if "query" in given or "queries" in given:  # what is asked is asked together: one of them replaces both
        of_file = {key: value for key, value in of_file.items() if key not in {"query", "queries"}}
    values = {**of_file, **given}
    while True:
        try:
            return Read(RunRequest.model_validate(values), problems)
        except ValidationError as error:
            bad = _problems(error, config, given)
            problems += [problem for _, problem in bad]
            values = {key: value for key, value in values.items() if key not in {key for key, _ in bad}}


def requested(run: RunRequest | str) -> RunRequest:
    """The request that a deployment's parameter stands for: itself, or the file at an address.

    Raises `BadInput` with every problem.
    """
    request, problems = read_request(run, {}) if isinstance(run, str) else _declared_here(run)
    if problems:
        raise BadInput(*map(str, problems))
    return request


def spec_of(request: RunRequest) -> tuple[RunSpec, list[Problem]]:
    """The spec, and what is wrong with its questions. Reads the file of questions, and nothing else."""
    file = request.queries if isinstance(request.queries, str) else None
    entries = request.queries if isinstance(request.queries, tuple) else ()
    queries, problems = attempt(
        "--query", lambda: parse_queries(request.query, None if file is None else Path(file), entries)
    )
    registry = request.registry or os.environ.get("T2S_REGISTRY")
    prompter = f"champion:{registry}" if request.prompter == "champion" and registry else request.prompter
    same = {
        name: getattr(request, name)
        for name in RunSpec.model_fields
        if name in RunRequest.model_fields and name not in {"scenes", "queries", "skip_bad_scenes"}
    }
    return RunSpec(
        scenes=(*request.scenes, *(() if request.stac is None else (request.stac.url(),))),
        queries=queries or (),
        models=Models(prompter=prompter, segmenter=request.segmenter, prompt_template=request.prompt_template),
        gsd_m=request.gsd,
        skip_bad_scenes=bool(request.skip_bad_scenes),
        sample_tiles=request.sample,
        **same,
    ), problems


def look_at(read: Read) -> "Looked":
    """Everything that is wrong with a request and what it names. Reads headers only; loads and writes nothing.

    Where it could be carried out nowhere, or on no such cluster, its scenes are not looked at.
    """
    from flows.workers import cluster_problems
    from pipeline.prepare import Looked, look

    spec, of_queries = spec_of(read.request)
    unplaced = cluster_problems(read.request.cluster, read.request.device)
    if read.request.out is None:
        unplaced.append(Problem("--out", "names no place for what the run makes; give a directory or a URL."))
    if read.request.out is None or unplaced:
        return Looked(None, [*read.problems, *of_queries, *unplaced])
    # a sample is a run of its own, within the directory of the whole one
    out = read.request.out if spec.sample_tiles is None else f"{read.request.out.rstrip('/')}/{SAMPLE}"
    return look(spec, out, earlier=[*of_queries, *read.problems])


def prepared(request: RunRequest) -> "Prepared":
    """As `look_at`, for who wants to run. Raises `BadInput` with all problems, one line each."""
    looked = look_at(Read(request, []))
    if looked.prepared is None:
        raise BadInput(*map(str, looked.problems))
    return looked.prepared


def option_of(key: str) -> str:
    """How a key is spelled on the command line."""
    flags = [m for m in RunRequest.model_fields[key].metadata if isinstance(m, Flag) and m.names]
    return flags[0].names[0].rstrip(".") if flags else f"--{key.replace('_', '-')}"


def _mapping(config: str) -> dict[str, Any]:
    try:
        value = yaml_value(_text(config))
    except store_errors() as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise BadInput(f"{config}: cannot be read: {reason}; name a YAML file with the keys of a run") from error
    except ValueError as error:
        raise BadInput(f"{config}: not YAML: {one_line(error)}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadInput(f"{config}: holds a {type(value).__name__}, not keys with values; write e.g. `out: results`")
    return {str(key): part for key, part in value.items()}


def _text(config: str) -> str:
    if not is_url(config):
        return small_text(Path(config))
    if unsafe := scheme_problem(config):
        raise BadInput(f"{config}: {unsafe}")
    import fsspec

    with fsspec.open(config, "rb") as file:
        data = bytes(file.read(MAX_BYTES + 1))
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 2**20} MB")
    return data.decode("utf-8-sig")


def _declared_here(run: RunRequest) -> Read:
    """A form's request, whose variables are those of the process that runs it."""
    # not dumped: what is dumped is without the signatures of scenes
    values = {key: getattr(run, key) for key in run.model_fields_set}
    dumped = {key: value.model_dump() if isinstance(value, BaseModel) else value for key, value in values.items()}
    values, problems = _substituted("run", dumped)
    return Read(RunRequest.model_validate(values), problems)


def _substituted(where: str, values: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Without `env`, and with the values of the variables that it declares."""
    declared = values.get("env", ())
    if not isinstance(declared, list | tuple) or not all(isinstance(name, str) for name in declared):
        return values, []  # the model refuses it
    try:
        RunRequest(env=tuple(declared))
    except ValidationError:
        return values, []  # so here
    problems = [
        Problem(where, f"env: {name[:80]} is not set; export it, or leave it out.")
        for name in declared
        if name not in os.environ
    ]
    undeclared: dict[tuple[str, str], None] = {}

    def replace(key: str, value: Any) -> Any:  # noqa: ANN401 -- whatever YAML holds
        if isinstance(value, str):
            return _VARIABLE.sub(lambda found: stands_for(key, found), value)
        if isinstance(value, list | tuple):
            return [replace(key, part) for part in value]
        return {k: replace(key, part) for k, part in value.items()} if isinstance(value, dict) else value

    def stands_for(key: str, found: re.Match[str]) -> str:
        escaped, name = found.groups()
        if escaped:
            return f"${{{name}}}"
        if name not in declared:
            undeclared[key[:80], name[:80]] = None  # of a stranger's file, in a line
        return os.environ.get(name, "") if name in declared else found[0]

    done = {key: replace(key, value) for key, value in values.items() if key != "env"}
    problems += [
        Problem(where, f"{key}: ${{{name}}} is not declared; add `env: [{name}]`, or write $${{{name}}} for the text.")
        for key, name in undeclared
    ]
    return done, problems


def _problems(error: ValidationError, config: str | None, given: Mapping[str, Any]) -> list[tuple[str, Problem]]:
    """(key, problem), one for each value that is wrong: of a union's alternatives the one that came furthest."""
    furthest: dict[tuple[Any, ...], Any] = {}
    for entry in error.errors():
        keys = tuple(part for part in entry["loc"] if isinstance(part, int) or part in RunRequest.model_fields)
        place = keys or entry["loc"][:1]
        if place not in furthest or len(entry["loc"]) > len(furthest[place]["loc"]):
            furthest[place] = entry
    return [(str(place[0]), _problem(place, entry, config, given)) for place, entry in furthest.items()]


def _problem(place: tuple[Any, ...], entry: Any, config: str | None, given: Mapping[str, Any]) -> Problem:  # noqa: ANN401
    key = str(place[0])
    if entry["type"] == "extra_forbidden":
        unknown, known = str(entry["loc"][-1]), StacSearch.model_fields if key == "stac" else RunRequest.model_fields
        near = difflib.get_close_matches(unknown, known, n=1)
        way = f"do you mean {near[0]}?" if near else f"keys are {', '.join(known)}."
        return Problem(config or "run", f"unknown key {shown(unknown)[1:-1]}; {way}")
    message = entry["msg"]
    if entry["type"] == "value_error":
        text = one_line(message.removeprefix("Value error, "))
    else:
        examples = RunRequest.model_fields[key].examples or [RunRequest.model_fields[key].default]
        says = one_line(message).removeprefix("Input ").replace("valid tuple", "list")
        text = f"{shown(entry['input'])} {says}; use e.g. {_as_typed(examples[0])}"
    inside = "".join(f" #{part + 1}" for part in place[1:] if isinstance(part, int))
    if key in given or config is None:
        return Problem(option_of(key), f"{text}.")
    return Problem(config, f"{key}{inside}: {text}.")


def _as_typed(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)
