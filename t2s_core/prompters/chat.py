"""A question as chat messages: the same for inference and for training, or the model would learn another task."""

from typing import Any

from t2s_core.profiles import PromptTemplate

Message = dict[str, Any]


def special_texts(tokenizer: Any) -> list[str]:  # noqa: ANN401 -- transformers' classes have no types to speak of
    """Spellings that the tokenizer reads as one special token, the longest first."""
    added = tokenizer.get_added_vocab() if hasattr(tokenizer, "get_added_vocab") else {}
    return sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)


def chat_messages(template: PromptTemplate, query: str, special: list[str]) -> list[Message]:
    """System text, the image's place, the question; an untrusted query cannot spell a special token in it."""
    for text in special:
        query = query.replace(text, f"{text[0]} {text[1:]}")
    return [
        {"role": "system", "content": template.system},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": template.user_text(query)}]},
    ]
