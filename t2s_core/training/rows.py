"""Examples as the rows that TRL's trainers read: chat messages and the very image that the model sees in a run."""

from collections import OrderedDict
from typing import Any

from datasets import Dataset
from PIL import Image as PillowImage

from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.chat import chat_messages, special_texts
from t2s_core.training.clicks import taught_reply
from t2s_core.training.examples import BadExample, Example, ExampleSet

_KEPT = 64
"""Examples kept in memory: a group's completions are scored on the example that its prompt came from."""


class Rows:
    """A view of an example set that reads pixels when they are asked for, and remembers the last few."""

    def __init__(self, examples: ExampleSet, profile: PrompterProfile, tokenizer: Any, n: int | None = None) -> None:
        """View the first `n` examples; all if None."""
        self.examples, self.profile = examples, profile
        self.n = len(examples) if n is None else min(n, len(examples))
        self.bad: dict[int, str] = {}
        """Why an example could not be used, by its number; the next usable one stood in."""
        self._special = special_texts(tokenizer)
        self._kept: OrderedDict[int, Example] = OrderedDict()

    def example(self, index: int) -> Example:
        """Example `index`, or the next usable one: the number of rows is fixed when training starts."""
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        for step in range(self.n):
            at = (index + step) % self.n
            try:
                found = self.examples[at]
            except BadExample as problem:
                self.bad[at] = str(problem)
                continue
            self._kept[index] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return found
        raise BadExample(f"{self.examples.name}: none of {self.n} examples can be used; the last: {self.bad[at]}")

    def dataset(self, *, taught: bool = False) -> Dataset:
        """Columns `prompt`, `image`, `index`, and with `taught` the reply to learn as `completion`."""

        def read(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
            return self._read(batch["index"], taught=taught)

        return Dataset.from_dict({"index": range(self.n)}).with_transform(read)

    def _read(self, indices: list[int], *, taught: bool) -> dict[str, list[Any]]:
        found = [self.example(index) for index in indices]
        side = self.profile.model_px
        columns: dict[str, list[Any]] = {
            "prompt": [chat_messages(self.profile.template, one.query, self._special) for one in found],
            "image": [
                PillowImage.fromarray(one.image).resize((side, side), PillowImage.Resampling.LANCZOS) for one in found
            ],
            "index": indices,
        }
        if taught:
            columns["completion"] = [
                [{"role": "assistant", "content": [{"type": "text", "text": taught_reply(one, self.profile)}]}]
                for one in found
            ]
        return columns
