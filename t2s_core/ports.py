"""The two seams of the method. Each has a contract suite (`tests/contract`) that every implementation passes.

Both live in one worker process, are never pickled, and are called from one thread at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from t2s_core.profiles import PrompterProfile
from t2s_core.prompts import Frame, InstancePrompt

Image = NDArray[np.uint8]
"""(height, width, 3), RGB, 0 to 255."""


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """One question about one image."""

    key: str
    """Names the image (`scene/level/row/col`). Equal keys carry the same image: its prefix is computed once."""
    image: Image
    """The tile at its own resolution; the prompter resizes it to what its model sees."""
    query: str
    """Plain language, as the user typed it."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """What the prompter wrote, before anybody judges it."""

    text: str
    truncated: bool
    """True where generation hit its token limit before it ended by itself."""
    n_tokens: int
    """Generated tokens; 0 where the source does not know (recorded replies)."""


class Prompter(Protocol):
    """Text and pixels to a reply.

    Deterministic: the same batch of requests gives the same replies, on one device at one batch size to the bit and in
    whatever order. At another batch size sums are taken in another order: logits may differ in their last digits, and
    a reply where two tokens are as likely as that. Reply i belongs to request i.
    A bad answer is a reply like any other; `MachineFault` is raised where no answer could be had.
    """

    @property
    def version(self) -> str:
        """`name@version`, changes whenever replies may change; part of every tile result's key."""
        ...

    @property
    def profile(self) -> PrompterProfile:
        """How to read its replies: coordinate convention, model frame, limits."""
        ...

    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """One reply per request, in order. An empty sequence gives an empty list."""
        ...


@dataclass(frozen=True, slots=True)
class InstanceLogits:
    """One object's mask as the segmenter gave it."""

    logits: NDArray[np.float32]
    """(h, w): low resolution, covering the whole tile. Positive is object; 0 is even odds."""
    predicted_iou: float
    """The segmenter's own estimate of the mask's IoU, clipped to 0..1."""


class Embeddings(Protocol):
    """What `Segmenter.encode` returns: opaque to everybody but the segmenter that made it."""

    @property
    def frames(self) -> Sequence[Frame]:
        """The frame of each encoded image, in order: the frame its prompts must be in."""
        ...

    def __len__(self) -> int:
        """How many images are encoded."""
        ...


class Segmenter(Protocol):
    """Pixels and prompts to masks. Frozen: it has no gradient and nobody trains it.

    The only way to call it is encode once, decode often: there is no `set_image` state.
    """

    @property
    def version(self) -> str:
        """`name@version`, changes whenever masks may change; part of every tile result's key."""
        ...

    def encode(self, images: Sequence[Image]) -> Embeddings:
        """Embed images of any sizes. One call costs one pass of the image encoder over the batch.

        Returns when the work is done, not when it is queued on a device: what it took and what failed is known here.
        """
        ...

    def decode(
        self, embeddings: Embeddings, prompts_tile_px: Sequence[Sequence[InstancePrompt]]
    ) -> list[list[InstanceLogits]]:
        """One list per image, one entry per prompt, in order; box and all points of a prompt go in together.

        Raises `ContractError` if the outer length differs from `len(embeddings)`.
        """
        ...
