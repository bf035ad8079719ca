"""What labels are called: queries from columns, templates and class values, and other texts that ask for the same."""

import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.queries import Query, parse_queries, text_of_query
from pipeline.texts import json_value, one_line, small_text, yaml_value
from t2s_core.errors import BadInput


@dataclass(frozen=True)
class Vocabulary:
    """All that a data set asks for."""

    queries: Mapping[str, Query]
    """By key (see `key_of`)."""
    texts: Mapping[str, tuple[str, ...]]
    """By key: all phrasings, the query's own text first."""
    categories: Mapping[str, str]
    """By key: what tables are grouped by."""


def key_of(text: str) -> str:
    """Texts that differ only in case and spacing ask for the same."""
    return text_of_query(text).casefold()


def filled(template: str, row: Mapping[str, Any]) -> str | None:
    """The template with a row's values in place of its fields; None where one of them is missing in the row."""
    values = {name: row[name] for name in template_fields(template)}
    if any(is_missing(value) for value in values.values()):
        return None
    parts = string.Formatter().parse(template)
    texts = (text + ("" if name is None else cell_text(values[name])) for text, name, _, _ in parts)
    return text_of_query("".join(texts))


def template_fields(template: str) -> list[str]:
    """Names of the columns that a template wants. Raises `BadInput`: a field is the bare name of a column."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise BadInput(f"{template!r}: {error}; write e.g. 'the {{class}}'") from error
    fields = [name for _, name, _, _ in parts if name is not None]
    # nothing of format's own language: it reaches into objects, and templates come from files that others write
    odd = [name for _, name, spec, conversion in parts if name is not None and (not name or spec or conversion)]
    if odd or not fields:
        raise BadInput(f"{template!r} names no column by a plain {{name}}; write e.g. 'the {{class}}'")
    return fields


def is_missing(value: Any) -> bool:  # noqa: ANN401 -- a cell
    """None, NaN, or nothing but white space."""
    return value is None or value != value or not str(value).strip()  # noqa: PLR0124 -- only NaN differs from itself


def cell_text(value: Any) -> str:  # noqa: ANN401
    """A cell as text; 3.0, which a table with empty cells makes of 3, is `3`."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def read_class_values(href: str) -> dict[str, str]:
    """{value as text: query} from a JSON file. Several values may have the same query. Raises `BadInput`."""
    try:
        found = json_value(small_text(Path(href)))
    except (OSError, ValueError) as error:
        raise BadInput(f"{href}: cannot be read: {one_line(error)}; mend the file") from error
    if not isinstance(found, dict) or not found:
        raise BadInput(f'{href}: is no mapping from values to queries; write e.g. {{"1": "the lake"}}')
    odd = [value for value, text in found.items() if not isinstance(text, str) or not text.strip()]
    if odd:
        raise BadInput(f"{href}: value {odd[0]} has no text as its query; write one in quotes")
    return {value.strip(): text_of_query(text) for value, text in found.items()}


def read_phrasings(href: str) -> dict[str, list[str]]:
    """{query: other texts} from a YAML file. Raises `BadInput`."""
    try:
        found = yaml_value(small_text(Path(href)))
    except (OSError, ValueError) as error:
        raise BadInput(f"{href}: cannot be read: {one_line(error)}; mend the file") from error
    if not isinstance(found, dict):
        raise BadInput(f"{href}: is no mapping from queries to lists of texts; write e.g. `the lake: [open water]`")
    odd = [q for q, texts in found.items() if not isinstance(texts, list) or any(not isinstance(t, str) for t in texts)]
    if odd:
        raise BadInput(f"{href}: {odd[0]!r} has no list of texts; write e.g. `the lake: [open water]`")
    return {str(query): [text_of_query(text) for text in texts] for query, texts in found.items()}


def vocabulary(known: Sequence[Query], named: Mapping[str, str], phrasings: Mapping[str, Sequence[str]]) -> Vocabulary:
    """Put all sources' queries together.

    Args:
        known: Queries that have an id already: those of a run.
        named: Text of each label query, with its category.
        phrasings: Other texts by query, as written.

    Raises:
        BadInput: A text that cannot be asked, two queries of one id, a phrasing of no query or of two.

    """
    queries = {key_of(q.text): q for q in known}
    fresh = [text for text in sorted(named) if key_of(text) not in queries]
    problems: list[str] = []
    if fresh:
        try:
            queries |= {
                key_of(q.text): q for q in parse_queries(list({key_of(t): t for t in reversed(fresh)}.values()))
            }
        except BadInput as error:
            problems += error.problems
    ids = Counter(q.query_id for q in queries.values())
    for query_id in (i for i, count in ids.items() if count > 1):
        pair = " and ".join(repr(q.text) for q in queries.values() if q.query_id == query_id)
        problems.append(f"query_id={query_id} stands for {pair}; word the labels' query as the run does, or otherwise")
    texts = {key: [q.text] for key, q in queries.items()}
    problems += _add_phrasings(texts, phrasings)
    if problems:
        raise BadInput(*problems)
    categories = {key: q.label or q.text for key, q in queries.items()}
    categories |= {key_of(text): category for text, category in named.items()}
    return Vocabulary(queries, {key: tuple(all_texts) for key, all_texts in texts.items()}, categories)


def _add_phrasings(texts: Mapping[str, list[str]], phrasings: Mapping[str, Sequence[str]]) -> list[str]:
    """Append to `texts`; returns what is wrong."""
    problems = []
    owners = {key: key for key in texts}
    for query, others in phrasings.items():
        key = key_of(query)
        if key not in texts:
            known = ", ".join(repr(own[0]) for own in list(texts.values())[:5])
            problems.append(f"phrasings of {query!r}, which nothing is labelled with; labelled are {known}")
            continue
        problems += _unaskable(others)
        for text in others:
            owner = owners.setdefault(key_of(text), key)
            if owner != key:
                problems.append(f"phrasing {text!r} asks for two queries, {texts[owner][0]!r} and {texts[key][0]!r}")
            elif text not in texts[key] and key_of(text) not in map(key_of, texts[key]):
                texts[key].append(text)
    return problems


def _unaskable(texts: Iterable[str]) -> list[str]:
    problems: list[str] = []
    for text in texts:
        try:
            parse_queries([text])
        except BadInput as error:
            problems += [f"phrasing {p.removeprefix('--query: ')}" for p in error.problems]
    return problems
