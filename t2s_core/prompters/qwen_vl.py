"""Qwen2.5-VL and Qwen3-VL through transformers: greedy, batched, each image's prefix computed once.

Departures from `model.generate`:

- Decoding is purely greedy: the published generation configs' temperature and repetition penalty are ignored, because a
  penalty on repetition punishes coordinates that happen to repeat.
- A reply ends at `</answer>` as well as at an end token: what follows has no meaning for us.
- Spellings of special tokens within a query are broken up: a query is untrusted and must not open a turn of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from PIL import Image as PillowImage
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2s_core.devices import default_dtype, machine_faults, resolve_device
from t2s_core.errors import BadInput, ContractError
from t2s_core.ports import Image, PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.chat import chat_messages, special_texts
from t2s_core.prompters.greedy import Generated, Prefix, compute_prefix, continue_prefix, image_positions

T = TypeVar("T")
_END = "</answer>"
_TAIL_TOKENS = 16
"""At least one byte per token, so the last 16 hold all of `</answer>` however it is split."""


@dataclass(frozen=True, slots=True)
class _Group:
    """All requests about one image."""

    image: Image
    indices: list[int]
    """Places of the requests in the call."""


class QwenVlPrompter:
    """One model on one device. One instance per worker process, never pickled, one thread at a time."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 -- transformers' classes have no types to speak of
        processor: Any,  # noqa: ANN401
        *,
        profile: PrompterProfile,
        version: str,
        images_per_batch: int = 8,
        rows_per_batch: int = 32,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: For conditional generation, on its device, in eval mode.
            processor: Its processor, with a chat template.
            profile: How to ask it and how to read it.
            version: Names it in results.
            images_per_batch: Images in one pass of the vision tower; bounds memory.
            rows_per_batch: Questions decoded together; bounds memory.

        Raises:
            BadInput: `profile.model_px` is no whole number of merged patches.

        """
        self.profile = profile
        self.version = version
        self._model, self._processor, self._tokenizer = model, processor, processor.tokenizer
        self._images_per_batch, self._rows_per_batch = images_per_batch, rows_per_batch
        vision = model.config.vision_config
        patch_px = vision.patch_size * vision.spatial_merge_size
        if profile.model_px % patch_px:
            raise BadInput(f"model_px={profile.model_px} is no multiple of the model's {patch_px} px patches")
        self._grid = (profile.model_px // patch_px, profile.model_px // patch_px)
        self._image_id = int(model.config.image_token_id)
        self._end_ids = _end_ids(model, self._tokenizer)
        self._special_texts = special_texts(self._tokenizer)

    @classmethod
    def load(cls, directory: Path, *, profile: PrompterProfile, version: str, device: str = "cpu") -> Self:
        """Load from a directory as `save_pretrained` writes it; never from the network.

        Raises:
            BadInput: The directory holds no loadable model, or lacks some of its weights.

        """
        where = resolve_device(device)
        auto_model: Any = AutoModelForImageTextToText  # typed as if it gave no loading info
        auto_processor: Any = AutoProcessor
        try:
            model, info = auto_model.from_pretrained(
                directory, dtype=default_dtype(where), local_files_only=True, output_loading_info=True
            )
            processor = auto_processor.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadInput(f"{directory}: cannot be loaded: {str(error).splitlines()[0]}") from error
        if info["missing_keys"]:
            # transformers would go on with random numbers in their place.
            raise BadInput(f"{directory}: lacks the weights {', '.join(sorted(info['missing_keys'])[:3])}")
        with machine_faults(f"loading {version}"):
            model = model.to(where).eval()
        return cls(model, processor, profile=profile, version=version)

    @torch.inference_mode()
    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """One reply per request, in order. The vision tower and the prefix run once per distinct key."""
        replies: dict[int, RawReply] = {}
        with machine_faults(self.version):
            groups = _grouped(requests)
            for chunk in _chunks(groups, self._images_per_batch):
                head, suffixes = self._tokens([requests[i].query for group in chunk for i in group.indices])
                prefix = self._prefix([group.image for group in chunk], head)
                rows = [
                    (index, image, suffix)
                    for (index, image), suffix in zip(
                        ((i, n) for n, group in enumerate(chunk) for i in group.indices), suffixes, strict=True
                    )
                ]
                for part in _chunks(rows, self._rows_per_batch):
                    generated = continue_prefix(
                        self._model,
                        prefix,
                        image_of_row=[image for _, image, _ in part],
                        suffixes=[suffix for _, _, suffix in part],
                        pad_id=self._end_ids[0],
                        max_new_tokens=self.profile.max_new_tokens,
                        stops=self._stops,
                    )
                    replies.update((row[0], self._raw(got)) for row, got in zip(part, generated, strict=True))
        return [replies[i] for i in range(len(requests))]

    def _prefix(self, images: Sequence[Image], head: list[int]) -> Prefix:
        """System text and images, (images,) in one batch: all have the same size, so nothing is padded."""
        side = self.profile.model_px
        squashed = [
            PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.LANCZOS) for image in images
        ]
        features = self._processor.image_processor(images=squashed, do_resize=False, return_tensors="pt")
        device = self._model.device
        rows, columns = self._grid
        input_ids = torch.tensor([head + [self._image_id] * (rows * columns)] * len(images), device=device)
        positions, next_position = image_positions(len(head), self._grid)
        return compute_prefix(
            self._model,
            input_ids=input_ids,
            pixel_values=features["pixel_values"].to(device, self._model.dtype),
            image_grid_thw=features["image_grid_thw"].to(device),
            positions=positions.to(device),
            next_position=next_position,
        )

    def _tokens(self, queries: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Ids before the image (the same for all queries) and ids after it (for each)."""
        heads, suffixes = [], []
        for query in queries:
            text = self._processor.apply_chat_template(
                chat_messages(self.profile.template, query, self._special_texts),
                tokenize=False,
                add_generation_prompt=True,
            )
            ids = list(self._tokenizer(text, add_special_tokens=False)["input_ids"])
            if ids.count(self._image_id) != 1:
                raise ContractError(
                    f"{self.version}: the chat template writes {ids.count(self._image_id)} image tokens"
                )
            at = ids.index(self._image_id)
            heads.append(ids[:at])
            suffixes.append(ids[at + 1 :])
        if any(head != heads[0] for head in heads):
            raise ContractError(f"{self.version}: the chat template lets the query change what precedes the image")
        return heads[0], suffixes

    def _stops(self, ids: Sequence[int]) -> bool:
        return ids[-1] in self._end_ids or _END in self._text(ids[-_TAIL_TOKENS:])

    def _text(self, ids: Sequence[int]) -> str:
        # Tags may be special tokens of a small vocabulary, so those are kept; end tokens are not among the ids.
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _raw(self, generated: Generated) -> RawReply:
        ids = generated.ids
        text = self._text(ids[:-1] if ids[-1] in self._end_ids else ids)
        return RawReply(text, truncated=not generated.stopped, n_tokens=len(ids))


def _end_ids(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Every token that ends a turn: the generation config may name several, the tokenizer one."""
    named = model.generation_config.eos_token_id if model.generation_config is not None else None
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id]
    found = sorted({int(i) for i in ids if i is not None})
    if not found:
        raise BadInput("the model names no end token; set eos_token_id in its generation_config.json")
    return found


def _grouped(requests: Sequence[PromptRequest]) -> list[_Group]:
    groups: dict[str, _Group] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.key, _Group(request.image, [])).indices.append(index)
    return list(groups.values())


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
