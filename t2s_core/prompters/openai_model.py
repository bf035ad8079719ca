"""Which model a server is asked for, how it wants to be asked, and what its version is.

A server's weights cannot be read. What tells two of its models apart is: the name, what `/models` says of it that
stays the same when the server starts anew, and the profile. Where the model's name is a directory on this machine, the
files in it count too.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from t2s_core.errors import BadInput, MachineFault
from t2s_core.known_profiles import PROMPTER_ARCHITECTURES, PROMPTER_HUB_IDS, PROMPTERS, published_prompter
from t2s_core.model_files import directory_fingerprint, model_directory, read_config
from t2s_core.profiles import PrompterProfile, read_prompter_profile
from t2s_core.prompters.openai_server import BRISK, Server, checked_url, environment_key

_NAMING_SERVERS = ("vllm", "sglang")
"""They call themselves so in `owned_by`, and list what they serve and nothing else. Others write an author there."""


class _Entry(BaseModel):
    """What `/models` says of one model. `created` is left out: vLLM and SGLang put the current time there."""

    id: str
    owned_by: str | None = None
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    """vLLM and SGLang: prompt and reply together, so that it may cut replies."""


class _Models(BaseModel):
    data: list[_Entry] = Field(max_length=10_000)


@dataclass(frozen=True, slots=True)
class Listing:
    """A model as its server lists it."""

    entry: _Entry | None
    """None where the server does not list it, though it may load it when asked."""
    software: str
    """`vllm`, `sglang`, or empty for others."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A prompter behind an address, found but not asked."""

    url: str
    model: str
    """As the server knows it."""
    profile: PrompterProfile
    """As its files or its family say, before any template of the user's own."""
    special_texts: Sequence[str]
    """See `chat.special_texts`."""
    directory: Path | None
    """Where the model's name is a directory on this machine."""

    def listing(self, server: Server) -> Listing:
        """What the server says of the model now.

        Raises:
            BadInput: The key is wrong, the address is another service's, or the server does not serve the model.
            MachineFault: The server does not answer, or not as one should.

        """
        try:
            entries = _Models.model_validate_json(server.get("/models")).data
        except ValidationError as error:
            raise MachineFault(f"{self.url}/models: no list of models ({first_fault(error)})") from error
        software = next((e.owned_by for e in entries if e.owned_by in _NAMING_SERVERS), "")
        entry = next((e for e in entries if e.id == self.model), None)
        # `transformers serve` lists what the Hub's cache holds and serves any directory besides
        if entry is None and (software or self.directory is None):
            listed = ", ".join(e.id for e in entries[:5]) or "none"
            raise BadInput(f"{self.url}: serves no model {self.model!r}; it lists {listed}")
        return Listing(entry, software)

    def listing_now(self) -> Listing:
        """The same before a run, where a server that does not answer is a problem of the input. Raises `BadInput`."""
        try:
            with Server(self.url, key=environment_key(), patience=BRISK) as server:
                return self.listing(server)
        except MachineFault as fault:
            raise BadInput(str(fault)) from fault

    def version(self, listing: Listing) -> str:
        """`name@version`, without the address: the same model elsewhere, or on another port, is the same model."""
        profile = self.profile.model_dump_json()
        facts = {
            "model": self.model,
            "entry": None if listing.entry is None else listing.entry.model_dump(),
            "profile": profile,
            "files": None if self.directory is None else directory_fingerprint(self.directory, profile),
        }
        served = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.profile.name}@{self.profile.version}+served-{served}"


def find_served(where: str) -> ServedModel:
    """The model that `URL#MODEL` names; nobody is asked.

    Raises:
        BadInput: Spelling, a secret in the address, or a model that nothing is known of.

    """
    url, _, model = where.partition("#")
    url = checked_url(url)
    if not model:
        raise BadInput(f"openai_api:{url} names no model; write openai_api:{url}#MODEL as GET {url}/models lists it")
    if Path(model).expanduser().is_dir():
        directory, name = model_directory(model)
        profile, special = _of_directory(directory, name)
        return ServedModel(url, model, profile, special, directory)
    for architecture, family in PROMPTERS.items():
        if model in family.hub_ids:
            profile = published_prompter(architecture, model.rpartition("/")[2])
            return ServedModel(url, model, profile, _longest_first(family.special_texts), None)
    close = get_close_matches(model, PROMPTER_HUB_IDS, n=1)
    meant = f", or did you mean {close[0]}?" if close else ""
    raise BadInput(
        f"openai_api:{url}#{model}: how {model!r} wants to be asked is not known here: it is neither a published model "
        "with a known profile nor a directory on this machine; serve it by the path of a directory that here holds its "
        f"config.json, tokenizer.json and profile.json{meant}"
    )


def _of_directory(directory: Path, name: str) -> tuple[PrompterProfile, list[str]]:
    """Profile and special texts from a model's small files; its weights may lie with the server alone."""
    config = read_config(directory, PROMPTER_ARCHITECTURES, weights=False)
    own = directory / "profile.json"
    profile = read_prompter_profile(own) if own.exists() else published_prompter(str(config["model_type"]), name)
    path = directory / "tokenizer.json"
    try:
        added = json.loads(path.read_bytes())["added_tokens"]
        return profile, _longest_first([str(token["content"]) for token in added])
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; it says which texts a query must not spell") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: no tokenizer as transformers saves it ({error})") from error


def _longest_first(texts: Sequence[str]) -> list[str]:
    return sorted(filter(None, texts), key=len, reverse=True)


def first_fault(error: ValidationError) -> str:
    """Where a document first departs from what was expected, and how."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
