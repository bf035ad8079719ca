"""What must be known of a model besides its weights: input size, coordinate convention, limits, template."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from t2s_core.errors import BadInput


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptTemplate(_Strict):
    """System text, the image, the user text: the order that lets all queries of a tile share the image's prefix."""

    system: str = Field(min_length=1)
    user: str
    """Must contain `{query}` once; nothing else is interpreted, braces in a query are just text."""

    @field_validator("user")
    @classmethod
    def _asks_once(cls, user: str) -> str:
        if (count := user.count("{query}")) != 1:
            raise ValueError(f"must contain {{query}} exactly once, has it {count} times")
        return user

    def user_text(self, query: str) -> str:
        """The user text for one query. Replaced, not formatted: a query is untrusted."""
        return self.user.replace("{query}", query)


class PrompterProfile(_Strict):
    """How a prompter wants to be asked and how its replies are read."""

    name: str
    version: str
    model_px: int = Field(gt=0)
    """Tiles are squashed to a square of this side before the model sees them."""
    coordinates: Literal["pixel", "permille"]
    """`pixel`: absolute pixels of the model_px square (Qwen2.5-VL). `permille`: 0 to 1000 (Qwen3-VL)."""
    points_per_instance: int = Field(default=2, ge=1, le=16)
    max_instances: int = Field(default=64, ge=1)
    """Instances beyond this are dropped (and counted): a babbling model must not flood the segmenter."""
    max_new_tokens: int = Field(default=1024, ge=1)
    tile_px: int = Field(gt=0)
    """Side of the tile, in pixels of the level, that suits this prompter unless the spec says otherwise."""
    template: PromptTemplate

    @property
    def reply_px(self) -> int:
        """Side of the square frame in which replies give coordinates."""
        return self.model_px if self.coordinates == "pixel" else 1000


class SegmenterProfile(_Strict):
    """What a segmenter wants to be fed."""

    name: str
    version: str
    model_px: int = Field(gt=0)
    """Images are squashed to a square of this side."""


def read_prompter_profile(path: Path) -> PrompterProfile:
    """Read `profile.json`. Raises `BadInput` with the file and the first faults."""
    return _read(path, PrompterProfile)


def read_segmenter_profile(path: Path) -> SegmenterProfile:
    """Read `profile.json`. Raises `BadInput` with the file and the first faults."""
    return _read(path, SegmenterProfile)


P = TypeVar("P", bound=_Strict)


def read_template(path: Path) -> PromptTemplate:
    """Read a template: JSON with the keys `system` and `user`. Raises `BadInput` with the file and the first faults."""
    return _read(path, PromptTemplate, hint="name a JSON file with the keys system and user")


def _read(path: Path, kind: type[P], hint: str = "a model's directory needs a profile.json") -> P:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; {hint}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{path}: {faults}") from error
