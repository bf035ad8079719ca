"""From a model's name to a model, and to all that is known of it without loading it.

Names: `bundled`, or `<implementation>:<where>`; what else a run may name (`champion`) is turned into one of these by
whoever knows a registry of versions. Everything but `load_*` works in milliseconds and imports
neither torch nor transformers, so that a wrong name is found before anything is planned. The exception is a model
behind a server: that is asked whether it serves the model, and has ten seconds to say.
"""

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from t2s_core.errors import BadInput
from t2s_core.known_profiles import (
    PROMPTER_ARCHITECTURES,
    PROMPTER_HUB_IDS,
    SEGMENTER_ARCHITECTURES,
    SEGMENTER_HUB_IDS,
    published_prompter,
    published_segmenter,
)
from t2s_core.model_files import directory_fingerprint, file_fingerprint, integer, model_directory, read_config
from t2s_core.ports import Prompter, Segmenter
from t2s_core.profiles import (
    PrompterProfile,
    PromptTemplate,
    SegmenterProfile,
    read_prompter_profile,
    read_segmenter_profile,
)
from t2s_core.prompters.openai_model import ServedModel, find_served
from t2s_core.prompters.recorded import RecordedPrompter

BUNDLED = Path(__file__).parent / "bundled"
CLASSES = {
    "qwen_vl": "t2s_core.prompters.qwen_vl:QwenVlPrompter",
    "openai_api": "t2s_core.prompters.openai_api:OpenAiPrompter",
    "sam_hf": "t2s_core.segmenters.sam_hf:HfSamSegmenter",
    "segment_anything": "t2s_core.segmenters.segment_anything:MetaSamSegmenter",
}
PROMPTER_NAMES = "bundled, champion, qwen_vl:PATH-or-hub-id, openai_api:URL#MODEL, recorded:FILE, registry:URL#VERSION"
SEGMENTER_NAMES = "bundled, sam_hf:PATH-or-hub-id, segment_anything:FILE.pth"


@dataclass(frozen=True, slots=True)
class _Prompter:
    """A prompter that was found but not loaded."""

    implementation: str
    path: Path
    profile: PrompterProfile
    """As its files say, before any template of the user's own."""

    def version(self, template: PromptTemplate | None) -> str:
        if self.implementation == "recorded":
            return RecordedPrompter.load(self.path).version  # a template changes nothing that is already written
        weights = directory_fingerprint(self.path, self.profile.model_dump_json())
        return f"{self.profile.name}@{self.profile.version}+{weights}{_custom(template)}"


@dataclass(frozen=True, slots=True)
class _Segmenter:
    """A segmenter that was found but not loaded."""

    implementation: str
    path: Path
    profile: SegmenterProfile

    def version(self) -> str:
        if self.path.is_file():
            return f"{self.profile.name}@{self.profile.version}+{file_fingerprint(self.path)}"
        weights = directory_fingerprint(self.path, self.profile.model_dump_json())
        return f"{self.profile.name}@{self.profile.version}+{weights}"


class _PrompterClass(Protocol):
    def load(self, path: Path, *, profile: PrompterProfile, version: str, device: str) -> Prompter: ...


class _ServedPrompterClass(Protocol):
    def load(self, served: ServedModel, *, profile: PrompterProfile, custom: str) -> Prompter: ...


class _HfSegmenterClass(Protocol):
    def load(self, path: Path, *, profile: SegmenterProfile, version: str, device: str) -> Segmenter: ...


class _FileSegmenterClass(Protocol):
    def load(self, path: Path, *, version: str, device: str) -> Segmenter: ...


def check_prompter(name: str) -> None:
    """Find everything that can be known to be wrong with a prompter, without loading it.

    Raises:
        BadInput: Spelling, missing files, an unsupported architecture, a faulty profile; a server that does not answer,
            or does not serve the model.

    """
    found = _find_prompter(name)
    if isinstance(found, ServedModel):
        found.listing_now()


def check_segmenter(name: str) -> None:
    """The same for a segmenter. Raises `BadInput`."""
    _find_segmenter(name)


def prompter_profile(name: str) -> PrompterProfile:
    """How a prompter wants to be asked, without loading it. Raises `BadInput`."""
    return _find_prompter(name).profile


def segmenter_profile(name: str) -> SegmenterProfile:
    """What a segmenter wants to be fed, without loading it. Raises `BadInput`."""
    return _find_segmenter(name).profile


def prompter_version(name: str, *, template: PromptTemplate | None = None) -> str:
    """`.version` of what `load_prompter` would give for the same arguments. Raises `BadInput`."""
    found = _find_prompter(name)
    if isinstance(found, ServedModel):
        return found.version(found.listing_now()) + _custom(template)
    return found.version(template)


def segmenter_version(name: str) -> str:
    """`.version` of what `load_segmenter` would give. Raises `BadInput`."""
    return _find_segmenter(name).version()


def prompter_directory(name: str) -> Path:
    """Where a trainable prompter's files lie. Raises `BadInput` where a name means none that has weights here."""
    found = _find_prompter(name)
    if isinstance(found, ServedModel) or found.implementation != "qwen_vl":
        raise BadInput(f"prompter {name!r} has no weights to train; use bundled, champion or qwen_vl:PATH")
    return found.path


def load_prompter(name: str, *, device: str = "cpu", template: PromptTemplate | None = None) -> Prompter:
    """Load a prompter.

    Args:
        name: See the module.
        device: `cpu`, `cuda`, `cuda:1`; nothing to a prompter that is recorded or served elsewhere.
        template: Replaces the profile's and becomes part of the version.

    Raises:
        BadInput: It cannot be loaded.
        MachineFault: The device failed, or the server does not answer.

    """
    found = _find_prompter(name)
    if not isinstance(found, ServedModel) and found.implementation == "recorded":
        return RecordedPrompter.load(found.path)
    profile = found.profile if template is None else found.profile.model_copy(update={"template": template})
    if isinstance(found, ServedModel):
        served = cast("_ServedPrompterClass", _import("openai_api"))
        return served.load(found, profile=profile, custom=_custom(template))
    cls = cast("_PrompterClass", _import(found.implementation))
    return cls.load(found.path, profile=profile, version=found.version(template), device=device)


def load_segmenter(name: str, *, device: str = "cpu") -> Segmenter:
    """Load a segmenter. Raises as `load_prompter` does."""
    found = _find_segmenter(name)
    if found.implementation == "segment_anything":
        from_file = cast("_FileSegmenterClass", _import(found.implementation))
        return from_file.load(found.path, version=found.version(), device=device)
    cls = cast("_HfSegmenterClass", _import(found.implementation))
    return cls.load(found.path, profile=found.profile, version=found.version(), device=device)


def _import(implementation: str) -> object:
    module, _, name = CLASSES[implementation].partition(":")
    found: object = getattr(importlib.import_module(module), name)
    return found


def _custom(template: PromptTemplate | None) -> str:
    """What a template of the user's own adds to a version."""
    return "" if template is None else f"+t{hashlib.sha256(template.model_dump_json().encode()).hexdigest()[:8]}"


def _find_prompter(name: str) -> _Prompter | ServedModel:
    implementation, colon, where = name.partition(":")
    if name == "bundled":
        return _qwen_vl(*_bundled("prompter"))
    if name == "champion":
        raise BadInput("prompter 'champion': promoted where? give --registry URL or set T2S_REGISTRY, or use bundled")
    if not colon or not where:
        raise _misspelt("prompter", name, PROMPTER_NAMES)
    match implementation:
        case "qwen_vl":
            return _qwen_vl(*model_directory(where, PROMPTER_HUB_IDS))
        case "recorded":
            path = Path(where).expanduser()
            return _Prompter("recorded", path, RecordedPrompter.load(path).profile)
        case "openai_api":
            return find_served(where)
    raise _misspelt("prompter", name, PROMPTER_NAMES)


def _find_segmenter(name: str) -> _Segmenter:
    implementation, colon, where = name.partition(":")
    if name == "bundled":
        return _sam_hf(*_bundled("segmenter"))
    if not colon or not where:
        raise _misspelt("segmenter", name, SEGMENTER_NAMES)
    match implementation:
        case "sam_hf":
            return _sam_hf(*model_directory(where, SEGMENTER_HUB_IDS))
        case "segment_anything":
            path = Path(where).expanduser()
            if path.suffix != ".pth" or not path.is_file():
                raise BadInput(f"segmenter {name!r}: {path} is no .pth file; download one of Meta's SAM checkpoints")
            return _Segmenter("segment_anything", path, published_segmenter("segment_anything", path.stem))
    raise _misspelt("segmenter", name, SEGMENTER_NAMES)


def _misspelt(kind: str, name: str, known: str) -> BadInput:
    return BadInput(f"{kind} {name!r} is no model's name; use one of: {known}")


def _bundled(kind: str) -> tuple[Path, str]:
    directory = BUNDLED / kind
    if not (directory / "profile.json").is_file():
        raise BadInput(f"{kind} 'bundled': this installation lacks {directory}; reinstall t2s, or name another {kind}")
    return directory, f"t2s-bundled-{kind}"


def _qwen_vl(directory: Path, name: str) -> _Prompter:
    config = read_config(directory, PROMPTER_ARCHITECTURES)
    own = directory / "profile.json"
    profile = read_prompter_profile(own) if own.exists() else published_prompter(str(config["model_type"]), name)
    if not (directory / "tokenizer.json").exists():
        raise BadInput(f"{directory}: has no tokenizer.json; a model's directory holds what save_pretrained writes")
    # Defaults of transformers' vision configs, which may leave out what equals them.
    patch_px = integer(
        config, "vision_config", "patch_size", default=14 if config["model_type"] == "qwen2_5_vl" else 16
    )
    patch_px *= integer(config, "vision_config", "spatial_merge_size", default=2)
    if profile.model_px % patch_px:
        raise BadInput(f"{own}: model_px={profile.model_px} is no multiple of the model's {patch_px} px patches")
    return _Prompter("qwen_vl", directory, profile)


def _sam_hf(directory: Path, name: str) -> _Segmenter:
    config = read_config(directory, SEGMENTER_ARCHITECTURES)
    model_px = integer(config, "prompt_encoder_config", "image_size", default=1024)
    own = directory / "profile.json"
    if not own.exists():
        return _Segmenter("sam_hf", directory, published_segmenter(str(config["model_type"]), name, model_px))
    profile = read_segmenter_profile(own)
    if profile.model_px != model_px:
        raise BadInput(f"{own}: model_px={profile.model_px}, but the model's images are {model_px} px")
    return _Segmenter("sam_hf", directory, profile)
