"""The command that repeats a run, for a shell."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.sample import FOLDER as SAMPLE
from pipeline.spec import RunSpec

_QUERIES = "queries.json"
_NOT_FLAGS = ("scenes", "queries", "models")
_SHORTER = {"gsd_m": "gsd", "sample_tiles": "sample"}
"""What the command calls otherwise than the spec does."""


def command_of(spec: Mapping[str, Any], out: str) -> str:
    """Lines for a POSIX shell that ask the same of the same scenes; `spec`: as run.json has it.

    Queries go by a file, for they may have settings of their own.
    """
    given = {name: value for name, value in spec.items() if name in RunSpec.model_fields}
    parsed = RunSpec.model_validate(given)
    queries = [
        {"query" if name == "text" else name: value for name, value in query.model_dump(exclude_none=True).items()}
        for query in parsed.queries
    ]
    lines = ["[", ",\n".join(f"  {json.dumps(query, ensure_ascii=False)}" for query in queries), "]"]
    # One line to a query, and in JSON no text has a line of its own: none can end the document early.
    if parsed.sample_tiles is not None:
        out = out.removesuffix(f"/{SAMPLE}")
    document = f"cat > {_QUERIES} <<'END_OF_QUERIES'\n" + "\n".join(lines) + "\nEND_OF_QUERIES"
    words = ["t2s", "segment", *parsed.scenes, "--queries", _QUERIES, "--out", out, *_options(parsed)]
    return f"{document}\n" + " ".join(shlex.quote(word) for word in words)


def _options(spec: RunSpec) -> Iterator[str]:
    for name, flag in (
        ("prompter", "--prompter"),
        ("segmenter", "--segmenter"),
        ("prompt_template", "--prompt-template"),
    ):
        value = getattr(spec.models, name)
        if value is not None:
            yield from (flag, value)
    for name, field in RunSpec.model_fields.items():
        value, flag = getattr(spec, name), f"--{_SHORTER.get(name, name).replace('_', '-')}"
        if name in _NOT_FLAGS or value == field.default:
            continue
        if isinstance(value, bool):
            yield flag
        elif name == "allow_hosts":
            yield from (word for host in value for word in (flag, host))
        else:
            yield from (flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value))
