"""Queries: what is asked of every tile. From the command line, or from a YAML, CSV or JSON file."""

import csv
import io
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.slugs import is_slug, slug
from pipeline.texts import json_value, one_line, shown, small_text, yaml_value
from t2s_core.errors import BadInput

MAX_CHARACTERS = 500
"""Longer than any question about an image, shorter than what would crowd the image out of a prompter's context."""
_KEYS = ("query", "query_id", "label", "threshold", "mode", "min_area_m2", "simplify_m")
_NUMBERS = ("threshold", "min_area_m2", "simplify_m")
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They let a text look different from what the model reads."""


Mode = Literal["semantic", "instance"]
"""What a feature is: a connected region of the mask, or one of the prompter's instances (see `pipeline.link`)."""


@dataclass(frozen=True, slots=True)
class FeatureRules:
    """How a finished mask becomes features. At the defaults they are the mask, pixel for pixel."""

    mode: Mode = "semantic"
    min_area_m2: float = 0.0
    """Smaller features are left out; geodesic."""
    simplify_m: float = 0.0
    """How far outlines may be drawn from the mask's, about; 0 follows the pixels' edges. Shared borders stay shared."""


EXACT = FeatureRules()
"""Every region of the mask, along the pixels' edges."""


def feature_rules(mode: str, min_area_m2: float, simplify_m: float) -> FeatureRules:
    """Rules as a person typed them. Raises `BadInput` with all that is wrong."""
    problems = []
    if mode not in get_args(Mode):
        problems.append(f"mode {mode!r} is none; use semantic or instance")
    problems += [
        f"{name} {value:g} is no number of 0 or more; 0 leaves features as they are"
        for name, value in (("--min-area-m2", min_area_m2), ("--simplify-m", simplify_m))
        if not 0 <= value < math.inf
    ]
    if problems:
        raise BadInput(*problems)
    return FeatureRules(cast("Mode", mode), min_area_m2, simplify_m)


class Query(BaseModel):
    """One question, asked of every tile."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    query_id: str
    """Slug: names the query's folders and Zarr groups."""
    text: str
    """Plain language, 1 to 500 characters on one line."""
    label: str | None = None
    """A class name that its features carry."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability from which a pixel is target; the run's threshold if None."""
    mode: Mode | None = None
    """The run's if None; so with the next two."""
    min_area_m2: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    simplify_m: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @field_validator("query_id")
    @classmethod
    def _is_slug(cls, value: str) -> str:
        if not is_slug(value):
            raise ValueError("not a slug; use a-z, 0-9, - and _, a letter first, at most 63")
        return value

    @field_validator("text")
    @classmethod
    def _is_askable(cls, value: str) -> str:
        fault = _text_fault(value)
        if fault is not None:
            raise ValueError(fault)
        return value


def parse_queries(texts: Sequence[str], file: Path | None = None, listed: Sequence[Any] = ()) -> tuple[Query, ...]:
    """Queries from texts (`--query`), then from a file (`--queries`), then from a list as such a file holds it.

    A file holds a list of texts or of mappings with the keys `query`, `query_id`, `label`, `threshold`, `mode`,
    `min_area_m2` and `simplify_m`, of which only `query` is needed; the list may sit under a key `queries`. A CSV file
    has these as columns. Runs of white space become one blank, and texts are compared without regard to case and
    spacing. Ids not given are derived from the text alone, so that adding a query renames none.

    Raises `BadInput` with every problem of every query.
    """
    problems: list[str] = []
    entries: list[tuple[str, Any]] = [("--query", text) for text in texts]
    if file is not None:
        try:
            entries += [(f"{file.name} #{i}", entry) for i, entry in enumerate(_read_entries(file), start=1)]
        except BadInput as error:
            problems += error.problems
    entries += [(f"queries #{i}", entry) for i, entry in enumerate(listed, start=1)]
    queries: list[Query] = []
    for where, entry in entries:
        try:
            queries.append(_query(entry))
        except BadInput as error:
            problems += [f"{where}: {p}" for p in error.problems]
    if not entries and not problems:
        problems.append("no query given; use --query TEXT or --queries FILE")
    problems += _repeated(queries)
    if problems:
        raise BadInput(*problems)
    return tuple(queries)


def _query(entry: Any) -> Query:  # noqa: ANN401 -- whatever a user's file holds
    """One query from a text or a mapping. Raises `BadInput`."""
    fields = entry if isinstance(entry, Mapping) else {"query": entry}
    unknown = [shown(key).strip("'") for key in fields if key not in _KEYS]
    text = fields.get("query")
    if unknown:
        raise BadInput(f"unknown key {', '.join(unknown)}; a query has {', '.join(_KEYS)}")
    if not isinstance(text, str):
        raise BadInput(f"query={shown(text)} is no text; write it in quotes")
    text = text_of_query(text)
    try:
        return Query(
            query_id=fields.get("query_id") or slug(text, prefix="q"),
            text=text,
            label=fields.get("label"),
            **{key: fields.get(key) for key in ("threshold", "mode", "min_area_m2", "simplify_m")},
        )
    except ValidationError as error:
        raise BadInput(*(_fault(e, text) for e in error.errors())) from error


def _fault(error: Any, text: str) -> str:  # noqa: ANN401 -- pydantic's ErrorDetails
    field = error["loc"][0]
    message = error["msg"].removeprefix("Value error, ")
    if field == "text":
        return f"query {_shortened(text)}: {message}"
    if field == "threshold":
        message = "is not between 0 and 1 (both excluded); 0.5 is usual"
    if field in {"min_area_m2", "simplify_m"}:
        message = "is no number of 0 or more; 0 leaves features as they are"
    if field == "mode":
        message = "is no mode; use semantic or instance"
    return f"{field}={shown(error['input'])} {message}"


def _text_fault(text: str) -> str | None:
    if not text.strip():
        return "is empty; ask for something"
    if len(text) > MAX_CHARACTERS:
        return f"has {len(text)} characters, more than {MAX_CHARACTERS}; shorten it"
    bad = next((c for c in text if unicodedata.category(c) in {"Cc", "Cs"} or c in _BIDI_CONTROLS), None)
    return None if bad is None else f"has the control character U+{ord(bad):04X}; remove it"


def text_of_query(text: str) -> str:
    """As it is asked, however it was typed: composed characters, and one blank for each run of white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."  # noqa: PLR2004 -- fits on a line


def _repeated(queries: Iterable[Query]) -> list[str]:
    """Texts or ids that occur twice."""
    problems = []
    by_text: dict[str, Query] = {}
    by_id: dict[str, Query] = {}
    for query in queries:
        same_text = by_text.setdefault(query.text.casefold(), query)
        same_id = by_id.setdefault(query.query_id, query)
        if same_text is not query:
            problems.append(f"query {_shortened(query.text)} is given twice; remove one")
        elif same_id is not query:
            pair = f"{_shortened(same_id.text)} and {_shortened(query.text)}"
            problems.append(f"query_id={query.query_id} stands for both {pair}; name them apart in a --queries file")
    return problems


def _read_entries(file: Path) -> list[Any]:
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise BadInput(f"{file}: queries come from {', '.join(_READERS)}; rename or convert it")
    try:
        entries = read(small_text(file))
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{file}: cannot be read: {one_line(error)}; mend the file") from error
    if isinstance(entries, Mapping) and set(entries) == {"queries"}:
        entries = entries["queries"]
    if not isinstance(entries, list):
        raise BadInput(f"{file}: holds a {type(entries).__name__}, not a list of queries; start each line with `- `")
    if not entries:
        raise BadInput(f"{file}: holds no query; add one")
    return entries


def _read_csv(text: str) -> list[dict[str, Any]]:
    """Rows as mappings; an empty cell counts as absent, and numbers are numbers."""
    rows = csv.DictReader(io.StringIO(text), strict=True)
    if "query" not in (rows.fieldnames or ()):
        raise ValueError(f"no column `query` in the header ({', '.join(rows.fieldnames or ())})")
    entries = []
    for row in rows:
        if None in row:
            raise ValueError(f"line {rows.line_num} has more cells than the header; quote texts that hold commas")
        entry: dict[str, Any] = {key: cell for key, cell in row.items() if cell}
        entry.update({key: _number(entry[key]) for key in _NUMBERS if key in entry})
        entries.append(entry)
    return entries


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell  # the model refuses it, with its value and its row


_READERS: dict[str, Callable[[str], Any]] = {
    ".yaml": yaml_value,
    ".yml": yaml_value,
    ".json": json_value,
    ".csv": _read_csv,
}
