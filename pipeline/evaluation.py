"""From names (a data set, models, kinds of prompts) to scores in a directory. What `t2s evaluate` and its flow run."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline.model_names import find
from pipeline.preflight import attempt, output_problems
from pipeline.progress import Progress, Silent
from pipeline.storage import Store
from t2s_core.errors import BadInput
from t2s_core.registry import check_prompter, check_segmenter, load_prompter, load_segmenter
from t2s_core.training.evaluate import BATCH_SIZE, Evaluation, Setting, evaluate
from t2s_core.training.evaluation_tables import ablation, samples_parquet, scores
from t2s_core.training.examples import ExampleSet
from t2s_core.training.gallery import page, sheet
from t2s_core.training.prompt_kinds import PromptKind

SCORES, SAMPLES, ABLATION = "scores.json", "samples.parquet", "ablation.json"
GALLERY, WORST = "gallery.html", "worst.jpg"
N_WORST = 24
"""Cases in the gallery."""


class EvaluationSpec(BaseModel):
    """What determines the scores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    """`world`, `earthreason`, `rrsisd`, `refsegrs`, `risbench` or `curated`."""
    root: Path | None = None
    """Where the data set lies; the world needs none."""
    split: str = "test"
    limit: int | None = Field(default=None, ge=1)
    """Samples that are opened at most, spread over the split; all of it if None."""
    prompter: str = "bundled"
    """As `t2s_core.registry` or `pipeline.model_names` spells it."""
    segmenters: tuple[str, ...] = Field(default=("bundled",), min_length=1)
    """More than one: each is run on the same replies."""
    prompt_kinds: tuple[str, ...] = Field(default=("box+points",), min_length=1)
    """As `t2s_core.training.prompt_kinds` spells them. More than one: each is run on the same replies."""

    @property
    def is_ablation(self) -> bool:
        """Whether there is more than one setting, so that a table of settings is made instead of scores."""
        return len(self.segmenters) * len(self.prompt_kinds) > 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What a spec names, found but not loaded."""

    examples: ExampleSet
    prompter: str
    """As `t2s_core.registry` spells it: who `champion` is, is settled here and once."""
    kinds: tuple[PromptKind, ...]


def open_evaluation(spec: EvaluationSpec, out: str | None = None) -> Opened:
    """Find everything that a spec names. Loads no model, reads no pixels, writes nothing.

    Raises:
        BadInput: All that is wrong with data set, models, kinds of prompts and output.

    """
    from t2s_core.training.datasets.opening import open_examples

    examples, problems = attempt(
        "--dataset", lambda: open_examples(spec.dataset, root=spec.root, split=spec.split, limit=spec.limit)
    )
    prompter, of_prompter = attempt("--prompter", lambda: _prompter(spec.prompter))
    problems += of_prompter
    for name in spec.segmenters:
        problems += attempt("--segmenter", partial(check_segmenter, name))[1]
    kinds = [attempt("--prompt-kind", partial(PromptKind.parse, text)) for text in spec.prompt_kinds]
    problems += [problem for _, of_kind in kinds for problem in of_kind]
    if out is not None:
        problems += output_problems(out, (), 0)
    if problems or examples is None or prompter is None:
        raise BadInput(*(str(problem) for problem in problems))
    return Opened(examples, prompter, tuple(kind for kind, _ in kinds if kind is not None))


def run_evaluation(
    spec: EvaluationSpec,
    out: str | None = None,
    *,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the models, write what came of it, return the document.

    Args:
        spec: One setting gives scores.json, samples.parquet, gallery.html and worst.jpg; several give ablation.json
            and samples.parquet.
        out: A path or any fsspec URL; None writes nothing.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Samples in a call of the models.
        progress: Told of samples as they are scored; nobody if None.

    Raises:
        BadInput: As `open_evaluation`, and where a model cannot be loaded or no sample can be used.
        MachineFault: A model gave no answer.

    """
    opened = open_evaluation(spec, out)
    from transformers.utils.logging import disable_progress_bar

    from t2s_core.devices import device_name

    chosen, progress = device_name(device), progress or Silent()
    disable_progress_bar()  # the evaluation has its own
    total = len(opened.examples)
    advance = progress.start("evaluate", opened.examples.name, min(total, spec.limit or total), 0)
    prompter = load_prompter(opened.prompter, device=chosen)
    segmenters = [load_segmenter(name, device=chosen) for name in spec.segmenters]
    evaluations = evaluate(
        prompter,
        [Setting(segmenter, kind) for segmenter in segmenters for kind in opened.kinds],
        opened.examples,
        limit=spec.limit,
        batch_size=batch_size,
        n_worst=0 if spec.is_ablation or out is None else N_WORST,
        advance=advance,
    )
    document = ablation(evaluations) if spec.is_ablation else scores(evaluations[0])
    if out is not None:
        _write(Store.at(out), document, evaluations)
    return document


def _write(store: Store, document: dict[str, Any], evaluations: list[Evaluation]) -> None:
    """The document comes last: where it is, the rest is."""
    store.write(SAMPLES, samples_parquet(evaluations))
    if len(evaluations) == 1:
        store.write(GALLERY, page(evaluations[0]))
        store.write(WORST, sheet(evaluations[0]))
    name = SCORES if len(evaluations) == 1 else ABLATION
    store.write(name, (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _prompter(name: str) -> str:
    found = find(name).local
    check_prompter(found)
    return found
