"""Small files of text that a user or a stranger wrote: YAML and JSON, read without being led astray."""

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.redaction import redacted

MAX_BYTES = 16 * 2**20
"""Of a file of questions, settings or words."""


class _PlainLoader(yaml.SafeLoader):
    """Without aliases: a few lines of them stand for a billion values. No key is written twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401 -- PyYAML's own signature
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is written twice; remove one")
                keys.add(key.value)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 -- PyYAML's own signature
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (`*name`) are not read; write it out")
        return super().compose_node(parent, index)


def small_text(file: Path) -> str:
    """A file's text without a byte order mark. Raises `OSError`, or `ValueError` where it is too large or not UTF-8."""
    with file.open("rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 2**20} MB")
    return data.decode("utf-8-sig")


def yaml_value(text: str) -> Any:  # noqa: ANN401 -- whatever it holds
    """The value of a YAML document of plain values. Raises `ValueError` in one line."""
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 -- a SafeLoader that reads less
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        # the last three are PyYAML's for odd tags and mistaken dates
        raise ValueError(one_line(error)) from error


def json_value(text: str) -> Any:  # noqa: ANN401
    """The value of a JSON document. Raises `ValueError` in one line."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deeply") from error


def one_line(error: object, most: int = 500) -> str:
    """An error's text without line breaks or credentials, cut where it is long: some repeat what they read."""
    text = redacted(" ".join(str(error).split()).rstrip(".")) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."


def shown(value: object, most: int = 80) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
