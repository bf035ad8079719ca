"""What the benchmarks of the engine are measured against: the loop of the paper's public evaluation.

Each sample is a tile with one question, four go through transformers' own `generate` at a time; the image is embedded
anew for every sample, encoded anew by SAM for every sample, and each prompt is decoded by itself.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from t2s_core.devices import default_dtype
from t2s_core.engine import Question, TileImage
from t2s_core.ports import InstanceLogits, Segmenter
from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.chat import chat_messages
from t2s_core.prompts import Frame
from t2s_core.replies import Answer, parse_reply

SAMPLES_AT_ONCE = 4
_END = "</answer>"


class PlainLoop:
    """A prompter and a segmenter, asked sample by sample."""

    def __init__(self, prompter: Path, profile: PrompterProfile, segmenter: Segmenter, device: torch.device) -> None:
        """Load the prompter from its directory; the segmenter may be shared, it keeps nothing between calls."""
        loader: Any = AutoModelForImageTextToText
        self.model = loader.from_pretrained(prompter, dtype=default_dtype(device), local_files_only=True)
        self.model = self.model.to(device).eval()
        self.processor: Any = AutoProcessor.from_pretrained(prompter, local_files_only=True)
        self.processor.tokenizer.padding_side = "left"
        self.profile, self.segmenter = profile, segmenter

    def answer(
        self, tiles: Sequence[TileImage], questions: Sequence[Question], *, exact_tokens: int | None = None
    ) -> list[tuple[str, list[InstanceLogits]]]:
        """Reply (up to its end) and masks of each tile-query, tile by tile; `exact_tokens` ignores all ends."""
        samples = [(tile, question) for tile in tiles for question in questions]
        found = []
        for start in range(0, len(samples), SAMPLES_AT_ONCE):
            part = samples[start : start + SAMPLES_AT_ONCE]
            for (tile, _), text in zip(part, self._generate(part, exact_tokens), strict=True):
                found.append((text, self._masks(tile, text)))
        return found

    @torch.inference_mode()
    def _generate(self, samples: Sequence[tuple[TileImage, Question]], exact_tokens: int | None) -> list[str]:
        side = self.profile.model_px
        inputs = self.processor(
            text=[
                self.processor.apply_chat_template(
                    chat_messages(self.profile.template, question.text, []), tokenize=False, add_generation_prompt=True
                )
                for _, question in samples
            ],
            images=[Image.fromarray(tile.image).resize((side, side), Image.Resampling.LANCZOS) for tile, _ in samples],
            do_resize=False,
            padding=True,
            return_tensors="pt",
        ).to(self.model.device)
        limit = {"max_new_tokens": self.profile.max_new_tokens, "min_new_tokens": 0}
        if exact_tokens is not None:
            limit = {"max_new_tokens": exact_tokens, "min_new_tokens": exact_tokens}
        ids = self.model.generate(**inputs, do_sample=False, **limit)
        new = ids[:, inputs["input_ids"].shape[1] :]
        tokenizer = self.processor.tokenizer
        ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
        texts = [tokenizer.decode([i for i in row if i not in ends]) for row in new.tolist()]
        return [text[: text.index(_END) + len(_END)] if _END in text else text for text in texts]

    def _masks(self, tile: TileImage, text: str) -> list[InstanceLogits]:
        answer = parse_reply(text, truncated=False, profile=self.profile)
        if not isinstance(answer, Answer) or not answer.instances_model_px:
            return []
        frame_reply_px = Frame(self.profile.reply_px, self.profile.reply_px)
        embeddings = self.segmenter.encode([tile.image])
        prompts = [one.rescaled(frame_reply_px, tile.frame_tile_px) for one in answer.instances_model_px]
        return [self.segmenter.decode(embeddings, [[prompt]])[0][0] for prompt in prompts]
