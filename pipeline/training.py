"""From names (a data set, models) to a trained prompter in a directory. What `t2s train` and its flow run."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.model_names import find
from pipeline.preflight import attempt
from pipeline.texts import one_line, small_text, yaml_value
from t2s_core.errors import BadInput
from t2s_core.ports import Prompter, Segmenter
from t2s_core.registry import (
    check_segmenter,
    load_segmenter,
    prompter_directory,
    prompter_profile,
)
from t2s_core.training.examples import ExampleSet
from t2s_core.training.settings import TrainSettings

if TYPE_CHECKING:
    from t2s_core.training.grpo import Measure, TrainOutcome

log = logging.getLogger(__name__)


class TrainSpec(BaseModel):
    """What determines a training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    """`world`, `world-haze`, `earthreason`, `rrsisd`, `refsegrs`, `risbench` or `curated`."""
    root: Path | None = None
    """Where the data set lies; the world needs none."""
    split: str = "train"
    held_out_split: str = "val"
    prompter: str = "bundled"
    """To start from; as `t2s_core.registry` or `pipeline.model_names` spells it."""
    segmenter: str = "bundled"
    settings: TrainSettings = Field(default_factory=TrainSettings)


@dataclass(frozen=True, slots=True)
class OpenedTraining:
    """What a spec names, found but not loaded."""

    examples: ExampleSet
    held_out: ExampleSet | None
    prompter: str
    """As `t2s_core.registry` spells it: who `champion` is, is settled here and once."""


def read_settings(file: Path) -> TrainSettings:
    """Settings from YAML; unknown keys are refused. Raises `BadInput` with the first faults."""
    try:
        return TrainSettings.model_validate(yaml_value(small_text(file)) or {})
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}; name a YAML file with settings such as `steps: 500`") from error
    except ValidationError as error:
        raise BadInput(*(f"{file}: {_where(e['loc'])}: {one_line(e['msg'])}" for e in error.errors())) from error
    except ValueError as error:
        raise BadInput(f"{file}: not YAML: {one_line(error)}") from error


def _where(keys: Sequence[int | str]) -> str:
    return ".".join(str(key)[:60] for key in keys) or "settings"


def open_training(spec: TrainSpec) -> OpenedTraining:
    """Find everything that a spec names. Loads no model and writes nothing.

    Raises:
        BadInput: All that is wrong with data set and models.

    """
    from t2s_core.training.datasets.opening import open_examples

    n_held_out = spec.settings.held_out
    examples, problems = attempt("--dataset", lambda: open_examples(spec.dataset, root=spec.root, split=spec.split))
    held_out: ExampleSet | None = None
    if n_held_out and not problems:
        held_out, problems = attempt(
            "--dataset",
            lambda: open_examples(spec.dataset, root=spec.root, split=spec.held_out_split, limit=n_held_out),
        )
    prompter, of_prompter = attempt("--prompter", lambda: _prompter(spec.prompter))
    _, of_segmenter = attempt("--segmenter", lambda: check_segmenter(spec.segmenter))
    problems += of_prompter + of_segmenter
    if problems or examples is None or prompter is None:
        raise BadInput(*(str(problem) for problem in problems))
    return OpenedTraining(examples, held_out, prompter)


def run_training(spec: TrainSpec, folder: Path, *, device: str = "auto") -> "TrainOutcome":
    """Train, or go on with what an earlier call left in the folder.

    Args:
        spec: What to train on what.
        folder: Local: checkpoints are written often, and only what came of them is worth a bucket.
        device: Of the segmenter: `auto`, `cpu`, `cuda` or `cuda:N`. The prompter goes where accelerate says.

    Raises:
        BadInput: As `open_training`, where the training packages are missing, or the folder holds another training.
        MachineFault: A model or the device failed; the last checkpoint is kept.

    """
    opened = open_training(spec)
    try:
        from t2s_core.training.grpo import train
        from t2s_core.training.processes import join
    except ImportError as error:
        raise BadInput(f"training needs {error.name}; install t2s[train]") from error
    from transformers.utils.logging import disable_progress_bar

    from t2s_core.devices import device_name

    log.info("training %s on %s, %d steps; curves go to %s", spec.prompter, spec.dataset, spec.settings.steps, folder)
    disable_progress_bar()  # of loading weights, between the lines of the training
    join()  # before a device is named: each process's `cuda` is its own
    segmenter = load_segmenter(spec.segmenter, device=device_name(device))
    return train(
        prompter_directory(opened.prompter),
        profile=prompter_profile(opened.prompter),
        segmenter=segmenter,
        examples=opened.examples,
        folder=folder,
        settings=spec.settings,
        measure=None if opened.held_out is None else _measure(opened.held_out, segmenter),
    )


def _measure(held_out: ExampleSet, segmenter: Segmenter) -> "Measure":
    from t2s_core.training.evaluate import Setting, evaluate
    from t2s_core.training.evaluation_tables import scores

    def measure(prompter: Prompter) -> dict[str, float]:
        document = scores(evaluate(prompter, [Setting(segmenter)], held_out)[0])
        names = ("giou", "no_target_accuracy", "format_rate")
        return {name: document[name]["value"] for name in names if document[name]["value"] is not None}

    return measure


def _prompter(name: str) -> str:
    found = find(name).local
    prompter_directory(found)
    return found
