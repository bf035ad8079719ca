"""The bundled prompter's tokenizer: byte-level BPE on the world's training wordings, with replies made short.

Whole numbers from 0 to 256 and the punctuation of a reply are tokens of their own, so one object takes 17 tokens and
a coordinate is one decision. They are ordinary added tokens: special ones would vanish when a reply is decoded.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from t2s_core.world.classes import NAMES
from t2s_core.world.nonsense import nonsense
from t2s_core.world.queries import NOTHING, all_queries
from t2s_core.world.tiles import Instance

SYSTEM = "Find it."
VOCABULARY = 1_536
NUMBERS = 257
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
OPEN, COUNT, MIDDLE, CLOSE = "<think>", ": ", "</think><answer>[", "]</answer>"
BOX, POINTS, POINT, END, NEXT = '{"bbox_2d":[', '],"positive_points":[[', "],[", "]]}", "]]},"
PIECES = (OPEN, COUNT, MIDDLE, CLOSE, BOX, POINTS, POINT, NEXT, END, "</think>", "<answer>", "</answer>")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def reply_text(name: str, instances: Sequence[Instance]) -> str:
    """The reply that names `name` and its objects: reasoning, then the JSON list."""
    entries = []
    for one in instances:
        box = ",".join(str(value) for value in one.box_tile_px)
        (ax, ay), (bx, by) = one.points_tile_px
        entries.append(f"{BOX}{box}{POINTS}{ax},{ay}{POINT}{bx},{by}{END}")
    return f"{OPEN}{name}{COUNT}{len(entries) or 'none'}{MIDDLE}{','.join(entries)}{CLOSE}"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer: always the same, for it depends on the training wordings alone."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    meaningless = frozenset(nonsense())
    # Words without meaning stay in small pieces, as every word will that training never had.
    texts = [query.text for query in all_queries("train") if query.about not in meaningless]
    names = sorted({query.name for query in all_queries("train")} | set(NAMES.values()) | {NOTHING})
    corpus = texts + 40 * [*names, "none", SYSTEM, "system\n", "user\n", "assistant\n", "\n"]
    learned = VOCABULARY - NUMBERS - len(PIECES) - len(SPECIAL)
    trainer = trainers.BpeTrainer(
        vocab_size=learned, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(corpus, trainer)
    bpe.add_tokens([AddedToken(str(n), special=False, normalized=False) for n in range(NUMBERS) if n > 9])
    bpe.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*map(str, range(10)), *PIECES)])
    bpe.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left",
        additional_special_tokens=list(SPECIAL[1:2] + SPECIAL[3:]), clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
