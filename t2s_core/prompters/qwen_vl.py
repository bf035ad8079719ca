"""Qwen2.5-VL and Qwen3-VL through transformers: greedy, batched, each image's prefix computed once.

Departures from `model.generate`:

- Decoding is purely greedy: the published generation configs' temperature and repetition penalty are ignored, because a
  penalty on repetition punishes coordinates that happen to repeat.
- A reply ends at `</answer>` as well as at an end token: what follows has no meaning for us.
- Spellings of special tokens within a query are broken up: a query is untrusted and must not open a turn of its own.

What else is in a batch changes nothing but roundings. Measured in float32: 5e-6 of logits up to 8, and none of the
bundled prompter's replies to 192 tile-queries at 1, 4, 16 or 64 rows a batch. On a GPU the size of a batch follows the
memory that is free when the model is loaded, in powers of two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image as PillowImage
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2s_core.batching import BatchSize, fitting
from t2s_core.devices import default_dtype, machine_faults, resolve_device
from t2s_core.errors import BadInput, ContractError
from t2s_core.ports import Image, PromptRequest, RawReply
from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.chat import chat_messages, special_texts
from t2s_core.prompters.greedy import Generated, continue_prefix
from t2s_core.prompters.prefix import Layers, Prefix, compute_head, compute_prefix, joined
from t2s_core.prompters.vision import make_quick

_END = "</answer>"
_TAIL_TOKENS = 16
"""At least one byte per token, so the last 16 hold all of `</answer>` however it is split."""
_TEXT_TOKENS = 512
"""Of system text and question, amply: for estimates of memory."""


@dataclass(frozen=True, slots=True)
class _Group:
    """All requests about one image."""

    key: str
    image: Image
    indices: list[int]
    """Places of the requests in the call."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One request, ready to be decoded."""

    index: int
    """Its place in the call."""
    image: int
    """Its place in the prefix."""
    suffix: list[int]


class QwenVlPrompter:
    """One model on one device. One instance per worker process, never pickled, one thread at a time."""

    def __init__(
        self,
        model: Any,  # noqa: ANN401 -- transformers' classes have no types to speak of
        processor: Any,  # noqa: ANN401
        *,
        profile: PrompterProfile,
        version: str,
        images_per_batch: int | None = None,
        rows_per_batch: int | None = None,
        graphs: bool = False,
    ) -> None:
        """Wrap a loaded model.

        Args:
            model: For conditional generation, on its device, in eval mode.
            processor: Its processor, with a chat template.
            profile: How to ask it and how to read it.
            version: Names it in results.
            images_per_batch: Images in one pass of the vision tower; bounds memory. None: as many as fit.
            rows_per_batch: Questions decoded together, and images whose prefix is held for them; bounds memory. None:
                as many as fit.
            graphs: Record a step of decoding as a CUDA graph and replay it. Off until it has been measured on a GPU.

        Raises:
            BadInput: `profile.model_px` is no whole number of merged patches.

        """
        self.profile = profile
        self.version = version
        self._model, self._processor, self._tokenizer = model, processor, processor.tokenizer
        make_quick(model.model.visual)
        vision = model.config.vision_config
        patch_px = vision.patch_size * vision.spatial_merge_size
        if profile.model_px % patch_px:
            raise BadInput(f"model_px={profile.model_px} is no multiple of the model's {patch_px} px patches")
        self._grid = (profile.model_px // patch_px, profile.model_px // patch_px)
        self._image_id = int(model.config.image_token_id)
        self._end_ids = _end_ids(model, self._tokenizer)
        self._special_texts = special_texts(self._tokenizer)
        self._graphs = graphs
        self._heads: dict[tuple[int, ...], Layers] = {}
        self._closing: dict[int, bool] = {}
        self._images_per_batch = BatchSize(images_per_batch or self._images_that_fit())
        self._rows_per_batch = BatchSize(rows_per_batch or self._rows_that_fit())

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
            model = model.to(where).eval().requires_grad_(requires_grad=False)
        return cls(model, processor, profile=profile, version=version)

    @torch.inference_mode()
    def reply(self, requests: Sequence[PromptRequest]) -> list[RawReply]:
        """One reply per request, in order. The vision tower and the prefix run once per distinct key.

        Batches do not depend on the order of the requests, so their numbers do not either. Rows of like length go
        together; as many images are held as rows, so that a batch can be one question about all of them.
        """
        if not requests:
            return []
        replies: dict[int, RawReply] = {}
        with machine_faults(self.version, self._model.device):
            ids, suffixes = self._tokens([request.query for request in requests])
            head = self._head(ids)
            groups = sorted(_grouped(requests), key=lambda group: group.key)
            start = 0
            while start < len(groups):
                held = groups[start : start + self._rows_per_batch.size]
                start += len(held)
                replies.update(self._answer(held, head, suffixes))
        return [replies[i] for i in range(len(requests))]

    def _answer(self, groups: Sequence[_Group], head: Layers, suffixes: Sequence[list[int]]) -> dict[int, RawReply]:
        """Replies to all questions about some images, by their place in the call; so are the suffixes."""
        images = [group.image for group in groups]
        prefix = joined([*self._images_per_batch.run(images, lambda part: self._prefix(part, head))])
        rows = [_Row(i, n, suffixes[i]) for n, group in enumerate(groups) for i in group.indices]
        rows.sort(key=lambda row: (len(row.suffix), row.suffix, row.image))
        replies: dict[int, RawReply] = {}
        for answered in self._rows_per_batch.run(rows, lambda part: self._decode(part, prefix)):
            replies.update(answered)
        return replies

    def _decode(self, rows: Sequence[_Row], prefix: Prefix) -> dict[int, RawReply]:
        """Replies by their place in the call."""
        generated = continue_prefix(
            self._model,
            prefix,
            image_of_row=[row.image for row in rows],
            suffixes=[row.suffix for row in rows],
            pad_id=self._end_ids[0],
            max_new_tokens=self.profile.max_new_tokens,
            stops=self._stops,
            fixed=self._graphs,
        )
        return {row.index: self._raw(got) for row, got in zip(rows, generated, strict=True)}

    def _head(self, ids: tuple[int, ...]) -> Layers:
        """What the model remembers of the text before images: computed once, unless it is in training and changes."""
        if any(weights.requires_grad for weights in self._model.parameters()):
            return compute_head(self._model, ids)
        if ids not in self._heads:
            self._heads[ids] = compute_head(self._model, ids)
        return self._heads[ids]

    def _prefix(self, images: Sequence[Image], head: Layers) -> Prefix:
        """System text and images, (images,) in one batch: all have the same size, so nothing is padded."""
        side = self.profile.model_px
        squashed = [
            PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.LANCZOS) for image in images
        ]
        features = self._processor.image_processor(images=squashed, do_resize=False, return_tensors="pt")
        device = self._model.device
        return compute_prefix(
            self._model,
            head,
            image_id=self._image_id,
            pixel_values=features["pixel_values"].to(device, self._model.dtype),
            image_grid_thw=features["image_grid_thw"].to(device),
            grid=self._grid,
        )

    def _images_that_fit(self) -> int:
        """For the vision tower: each patch holds its widest layer a few times over. Eight on a CPU fill no cache."""
        vision, side = (
            self._model.config.vision_config,
            self.profile.model_px // self._model.config.vision_config.patch_size,
        )
        values = 4 * (vision.intermediate_size + 4 * vision.hidden_size)
        return fitting(
            self._model.device, bytes_each=side * side * values * self._model.dtype.itemsize, most=32, on_cpu=8
        )

    def _rows_that_fit(self) -> int:
        """For keys and values: of a held prefix, of its copy and of a whole reply, and the question's activations."""
        text = self._model.config.text_config
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        token = 2 * text.num_hidden_layers * text.num_key_value_heads * head_dim
        tokens = 2 * (self._grid[0] * self._grid[1] + _TEXT_TOKENS) + self.profile.max_new_tokens
        activations = _TEXT_TOKENS * 4 * text.intermediate_size + 4 * text.vocab_size
        return fitting(
            self._model.device,
            bytes_each=(tokens * token + activations) * self._model.dtype.itemsize,
            most=256,
            on_cpu=64,
        )

    def _tokens(self, queries: Sequence[str]) -> tuple[tuple[int, ...], list[list[int]]]:
        """Ids before the image (the same for all queries) and ids after it (for each)."""
        heads, suffixes = set(), {}
        for query in dict.fromkeys(queries):
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
            heads.add(tuple(ids[:at]))
            suffixes[query] = ids[at + 1 :]
        if len(heads) > 1:
            raise ContractError(f"{self.version}: the chat template lets the query change what precedes the image")
        return heads.pop(), [suffixes[query] for query in queries]

    def _stops(self, ids: Sequence[int]) -> bool:
        """Whether the last token ended the reply. Cheap where it cannot: this is asked for every row and step."""
        last = ids[-1]
        if last not in self._closing:
            self._closing[last] = last in self._end_ids or _END[-1] in self._text([last])
        return self._closing[last] and (last in self._end_ids or _END in self._text(ids[-_TAIL_TOKENS:]))

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
        groups.setdefault(request.key, _Group(request.key, request.image, [])).indices.append(index)
    return list(groups.values())
