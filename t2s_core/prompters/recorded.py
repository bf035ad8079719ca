"""Replies from a file: offline batches, tests, and trials without a large model.

JSON Lines. Each line is `{"tile": "scene/level/row/col", "query": "...", "reply": "..."}`, optionally with
`"truncated": true`. A tile of `"*"` stands for every tile that has no line of its own. The first line may instead be
`{"profile": {...}}`: how the replies are to be read; without it they are read as Think2Seg-RS writes them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from t2s_core.errors import BadInput, MachineFault
from t2s_core.known_profiles import RECORDED
from t2s_core.model_files import file_fingerprint
from t2s_core.ports import PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile

ANY_TILE = "*"


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tile: str
    query: str
    reply: str
    truncated: bool = False


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    profile: PrompterProfile


class RecordedPrompter:
    """Looks replies up by tile and query text."""

    def __init__(self, replies: Mapping[tuple[str, str], RawReply], *, profile: PrompterProfile, version: str) -> None:
        """Args: replies by (tile key or `*`, query text)."""
        self._replies = replies
        self.profile = profile
        self.version = version

    @classmethod
    def load(cls, path: Path, *, profile: PrompterProfile | None = None) -> Self:
        """Read a file whole.

        Args:
            path: JSON Lines as this module's docstring says.
            profile: Overrules the file's own and the default.

        Raises:
            BadInput: One line for each malformed line (the first ten), with its number.

        """
        header, replies = _read(path)
        return cls(replies, profile=profile or header, version=f"recorded@{file_fingerprint(path)}")

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """Raises `MachineFault` for the first request that nobody recorded: no answer is not an empty answer."""
        return [self._one(request) for request in requests]

    def _one(self, request: PromptRequest) -> RawReply:
        for tile in (request.key, ANY_TILE):
            if (found := self._replies.get((tile, request.query))) is not None:
                return found
        raise MachineFault(f"{self.version} holds no reply for tile {request.key!r} and query {request.query!r}")


def _read(path: Path) -> tuple[PrompterProfile, dict[tuple[str, str], RawReply]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error.reason})") from error
    profile, replies, faults = RECORDED, dict[tuple[str, str], RawReply](), list[str]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            if number == 1 and _is_header(line):
                profile = _Header.model_validate_json(line).profile
                continue
            entry = _Line.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            faults.append(f"{path}:{number}: {place + ': ' if place else ''}{first['msg']}")
            continue
        if (entry.tile, entry.query) in replies:
            faults.append(f"{path}:{number}: a second reply for tile {entry.tile!r} and query {entry.query!r}")
        replies[entry.tile, entry.query] = RawReply(entry.reply, entry.truncated, n_tokens=0)
    if faults:
        raise BadInput(*faults[:10], *([f"{path}: {len(faults) - 10} more"] if len(faults) > 10 else []))  # noqa: PLR2004
    return profile, replies


def _is_header(line: str) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "profile" in found
