"""The model registry: a directory at any fsspec URL that holds versions of the prompter and says which is champion.

    REGISTRY/
      numbers/0007.json                  each taken once, by put-if-absent: no two publishers share a name
      versions/v0007-1a2b3c4d/
        model/                           what save_pretrained writes, and profile.json, stamped with the version
        card.md
        scores.json
        version.json                     written last: a version without it does not exist
      promotions/<time>-<version>.json   one for each promotion, never changed
      champion.json                      the last promotion, replaced atomically

Versions are never changed and never removed by t2s. Their number grows with time; the hex digits are a hash of the
model's files as they were handed in.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from pipeline.manifest import now
from pipeline.model_versions import (
    FileRecord,
    Promotion,
    Record,
    Version,
    VersionRecord,
    digest_of,
    files_of,
    sha256_of,
    verify,
)
from pipeline.storage import Store
from pipeline.texts import one_line
from t2s_core.errors import BadInput, MachineFault
from t2s_core.profiles import read_prompter_profile
from t2s_core.registry import check_prompter

CACHE = Path("~/.cache/t2s/models")
"""Where versions from a bucket are kept on the machine that loads them."""
_VERSION = re.compile(r"v\d{4,}-[0-9a-f]{8}")
_PROFILE = "profile.json"
R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Registry:
    """Versions of the prompter. Holds nothing but an address: what it says is read when it is asked.

    Everything raises `BadInput` where the registry cannot be reached or holds what is no record.
    """

    store: Store

    @classmethod
    def at(cls, url: str) -> "Registry":
        """The registry at an fsspec URL or a path. An empty directory, or none, is an empty registry."""
        return cls(Store.at(url))

    def publish(
        self,
        directory: Path,
        *,
        card: str,
        scores: Mapping[str, Any],
        parent: str,
        data_fingerprint: str,
        training: Mapping[str, Any],
    ) -> str:
        """Copy a model into the registry; the name of its new version.

        The published profile.json carries the version as its own, so that it stands in every result of the model.
        A publisher that dies leaves a folder without version.json and a number that nobody takes again.

        Args:
            directory: What `save_pretrained` writes, with a `profile.json`; adapters merged beforehand.
            card: Markdown.
            scores: Anything JSON, e.g. what `t2s evaluate --json` says.
            parent: The version or the base model that training started from.
            data_fingerprint: Stands for the data it was trained on.
            training: Anything JSON: method, steps, settings.

        Raises:
            BadInput: The directory holds no model that could be loaded again.

        """
        if (directory / "adapter_config.json").exists():
            raise BadInput(f"{directory}: holds a peft adapter; merge it into its base model before it is published")
        profile = read_prompter_profile(directory / _PROFILE)
        check_prompter(f"qwen_vl:{directory}")
        scores_json = _json_bytes(scores)
        digests = {name: sha256_of(directory / name) for name in files_of(directory)}
        version = self._new_version(digest_of(digests.items())[:8])
        stamped = profile.model_copy(update={"version": version}).model_dump_json(indent=1).encode()
        here = self.store.child(f"versions/{version}")
        for name in digests:
            if name != _PROFILE:
                here.upload(directory / name, f"model/{name}")
        here.write(f"model/{_PROFILE}", stamped)
        here.write("card.md", card.encode())
        here.write("scores.json", scores_json)
        sizes = {name: (directory / name).stat().st_size for name in digests} | {_PROFILE: len(stamped)}
        digests[_PROFILE] = hashlib.sha256(stamped).hexdigest()
        record = VersionRecord(
            version=version,
            created=now(),
            parent=parent,
            data_fingerprint=data_fingerprint,
            training=dict(training),
            files=tuple(FileRecord(path=n, size=sizes[n], sha256=digests[n]) for n in sorted(digests)),
        )
        if not here.create("version.json", _json_bytes(record.model_dump())):
            raise MachineFault(f"{here.href('version.json')} was there already; nobody else may write to this version")
        return version

    def versions(self) -> list[VersionRecord]:
        """All versions, the oldest first."""
        folders = (name.split("/") for name in self._names("versions", "/version.json"))
        found = [f[1] for f in folders if len(f) == len(("versions", "VERSION", "version.json"))]
        return [self.record(version) for version in sorted(filter(_VERSION.fullmatch, found), key=_number)]

    def record(self, version: str) -> VersionRecord:
        """What a version is. Raises `BadInput` where there is none of that name."""
        found = self._read(f"versions/{version}/version.json", VersionRecord) if _VERSION.fullmatch(version) else None
        if found is not None and found.version != version:
            raise BadInput(f"registry {self.store.url}: versions/{version} says that it is {found.version!r}")
        if found is None:
            there = [record.version for record in self.versions()]
            known = f"it holds {', '.join(there[-5:])}" if there else "it holds none yet"
            raise BadInput(f"registry {self.store.url}: no version {version!r}; {known}")
        return found

    def show(self, version: str) -> Version:
        """A version with its card and scores. Raises `BadInput` where there is none of that name."""
        record, here = self.record(version), f"versions/{version}"
        card, scores = self._bytes(f"{here}/card.md"), self._bytes(f"{here}/scores.json")
        return Version(record, (card or b"").decode(), json.loads(scores or b"{}"))

    def promote(self, version: str, reason: str) -> Promotion:
        """Make a version the champion; nothing happens where it is champion already.

        Raises:
            BadInput: There is no such version, or no reason is given.

        """
        self.record(version)
        if not reason.strip():
            raise BadInput("a promotion needs a reason: it is all that later readers will know of the decision")
        standing = self.promotion()
        if standing is not None and standing.version == version:
            return standing
        previous = None if standing is None else standing.version
        promotion = Promotion(version=version, promoted_at=now(), reason=reason.strip(), previous=previous)
        document = _json_bytes(promotion.model_dump())
        with self._reaching():
            # History first: a crash in between leaves an entry that never took effect, never a champion without one.
            self.store.create(f"promotions/{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{version}.json", document)
            self.store.write("champion.json", document)
        return promotion

    def champion(self) -> str | None:
        """The champion's version; None before the first promotion."""
        standing = self.promotion()
        return None if standing is None else standing.version

    def promotion(self) -> Promotion | None:
        """How the champion became champion."""
        return self._read("champion.json", Promotion)

    def promotions(self) -> list[Promotion]:
        """The history, the oldest first."""
        found = (self._read(name, Promotion) for name in self._names("promotions", ".json"))
        return [promotion for promotion in found if promotion is not None]

    def fetch(self, version: str, cache_dir: Path = CACHE) -> Path:
        """The model's directory on this machine, every file of it compared with what was published.

        A registry on a local disk is used in place. From a bucket the model is copied into the cache once, whoever
        asks at the same time. Each process hashes a file again only if it has changed since.

        Raises:
            BadInput: There is no such version, or it cannot be copied.
            MachineFault: A file is not what was published: it must not be loaded.

        """
        record = self.record(version)
        if self.store.is_local:
            directory = Path(self.store.path(f"versions/{version}/model"))
            verify(directory, record, f"publish the model again, or use another version than {version}")
            return directory
        cache = cache_dir.expanduser()
        directory = cache / f"{version}-{record.digest}"
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f".{directory.name}.lock"):
                if not directory.exists():
                    self._download(record, directory)
        except OSError as error:
            raise BadInput(f"{version} of {self.store.url} cannot be copied to {cache}: {error}") from error
        verify(directory, record, f"delete {directory}, and it is fetched again")
        return directory

    def _download(self, record: VersionRecord, directory: Path) -> None:
        """Under a hidden name until it is whole and verified, so that nobody finds half a model."""
        temporary = Path(tempfile.mkdtemp(prefix=f".{record.version}-", dir=directory.parent))
        try:
            for file in record.files:
                self.store.download(f"versions/{record.version}/model/{file.path}", temporary / file.path)
            way_out = f"publish the model again, or use another version than {record.version}"
            verify(temporary, record, way_out, called=self.store.href(f"versions/{record.version}/model"))
            temporary.rename(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _new_version(self, content: str) -> str:
        """A name of one's own: the first number that nobody has taken."""
        taken = [int(Path(name).stem) for name in self._names("numbers", ".json")]
        number = max(taken, default=0) + 1
        with self._reaching():
            while not self.store.create(f"numbers/{number:04d}.json", _json_bytes({"taken": now()})):
                number += 1
        return f"v{number:04d}-{content}"

    def _names(self, folder: str, suffix: str) -> Sequence[str]:
        with self._reaching():
            return self.store.names(folder, suffix)

    def _bytes(self, name: str) -> bytes | None:
        with self._reaching():
            try:
                return self.store.read(name)
            except FileNotFoundError:
                return None

    def _read(self, name: str, kind: type[R]) -> R | None:
        content = self._bytes(name)
        if content is None:
            return None
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadInput(f"{self.store.href(name)} is no {kind.__name__}: {first['msg']}") from error

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn what a store's client raises, each its own kinds, into `BadInput` with the reason."""
        try:
            yield
        except Exception as error:
            raise BadInput(
                f"registry {self.store.url} cannot be reached: {one_line(error)}; check the address and the credentials"
            ) from error


def _number(version: str) -> int:
    return int(version[1:].partition("-")[0])


def _json_bytes(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
