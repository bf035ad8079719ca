"""A night: curate, train from the champion, score challenger and champion on the same samples, promote or not.

A night lives in one local folder, and each step leaves its product there, so that the same call after a crash goes on
with the step that was under way. Who is champion is settled once, at the start of the night.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.curate import run_curation
from pipeline.curate_prepare import prepare_curation
from pipeline.curate_spec import CurationSpec
from pipeline.evaluation import SAMPLES, SCORES, EvaluationSpec, run_evaluation
from pipeline.model_names import addressed, find
from pipeline.model_registry import Registry
from pipeline.nightly_gate import Decision, Sample, decide
from pipeline.progress import Silent
from pipeline.training import TrainSpec, run_training
from t2s_core.errors import BadInput
from t2s_core.training.settings import TrainSettings

if TYPE_CHECKING:
    from t2s_core.training.grpo import TrainOutcome


NIGHT = "night.json"
"""Written last: where it is, the night is over."""


class NightSpec(BaseModel):
    """What is done every night."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str
    """Where versions of the prompter are kept: a path or any fsspec URL."""
    start: str = "bundled"
    """Who is trained while the registry has no champion."""
    segmenter: str = "bundled"
    curation: CurationSpec | None = None
    """Makes the night's tiles; None trains on `dataset` as it lies there."""
    dataset: str = "curated"
    """As `t2s train` names it; `curated` where `curation` is given."""
    root: Path | None = None
    """Where the data set lies; the world needs none, and a curation makes its own."""
    test_limit: int | None = Field(default=None, ge=1)
    """Samples of the test split that both are scored on; all if None."""
    settings: TrainSettings = Field(default_factory=TrainSettings)
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Steps:
    """What does the night's work: the functions of this layer, or Prefect tasks around them."""

    curate: Callable[[CurationSpec, str], dict[str, Any]]
    train: Callable[[TrainSpec, Path, str], "TrainOutcome"]
    evaluate: Callable[[EvaluationSpec, str, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class NightOutcome:
    """What a night came to."""

    decision: Decision
    challenger: str
    """The version that was published, champion or not."""
    champion: str | None
    """Who is champion now."""


def curate(spec: CurationSpec, out: str) -> dict[str, Any]:
    """The night's tiles. See `pipeline.curate`."""
    return run_curation(prepare_curation(spec, out), Silent())


def train(spec: TrainSpec, folder: Path, device: str) -> "TrainOutcome":
    """See `pipeline.training.run_training`."""
    return run_training(spec, folder, device=device)


def evaluate(spec: EvaluationSpec, out: str, device: str) -> dict[str, Any]:
    """See `pipeline.evaluation.run_evaluation`."""
    return run_evaluation(spec, out, device=device)


DIRECT = Steps(curate, train, evaluate)


def run_night(spec: NightSpec, folder: Path, steps: Steps = DIRECT) -> NightOutcome:
    """Do a night's work, or what is left of it.

    Raises:
        BadInput: The input cannot work, or the folder holds another night.
        MachineFault: A model or the device failed; the same call goes on.
        RuntimeError: Training was stopped by its watchdog: nothing is scored or published.

    """
    folder.mkdir(parents=True, exist_ok=True)
    registry = Registry.at(spec.registry)
    champion = _champion_of_the_night(spec, registry, folder)
    if (folder / NIGHT).exists():
        # It is over: promoting again what it promoted could undo a later night's promotion.
        return TypeAdapter(NightOutcome).validate_json((folder / NIGHT).read_bytes())
    dataset, root = spec.dataset, spec.root
    if spec.curation is not None:
        dataset, root = "curated", folder / "tiles"
        if not (root / "dataset.json").exists():
            steps.curate(spec.curation, str(root))
    trained = folder / "training" / "outcome.json"
    if not trained.exists() or json.loads(trained.read_text(encoding="utf-8"))["status"] == "stopped":
        training = TrainSpec(
            dataset=dataset, root=root, prompter=champion, segmenter=spec.segmenter, settings=spec.settings
        )
        outcome = steps.train(training, folder / "training", spec.device)
        if outcome.status.value == "stopped":
            raise RuntimeError(f"training was stopped: {outcome.reason}; see {folder / 'training' / 'curves.png'}")
    scored = {}
    for name, prompter in (("champion", champion), ("challenger", f"qwen_vl:{folder / 'training' / 'model'}")):
        out = folder / name
        if not (out / SCORES).exists():
            judged = EvaluationSpec(
                dataset=dataset, root=root, limit=spec.test_limit, prompter=prompter, segmenters=(spec.segmenter,)
            )
            steps.evaluate(judged, str(out), spec.device)
        scored[name] = _samples(out / SAMPLES)
    decision = decide(scored["champion"], scored["challenger"])
    version = _publish(spec, registry, folder, champion, decision)
    if decision.promote:
        registry.promote(version, decision.why)
    done = NightOutcome(decision, version, registry.champion())
    (folder / NIGHT).write_text(json.dumps(asdict(done), indent=2) + "\n", encoding="utf-8")
    return done


def _champion_of_the_night(spec: NightSpec, registry: Registry, folder: Path) -> str:
    """Who defends: settled at the first call and kept, whatever is promoted meanwhile."""
    file = folder / "spec.json"
    now = spec.model_dump(mode="json")
    if file.exists():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        if earlier["spec"] != now:
            raise BadInput(f"{folder}: holds a night with another spec; name another folder")
        return str(earlier["champion"])
    name = spec.start if registry.champion() is None else addressed("champion", spec.registry)
    champion = find(name).name
    file.write_text(json.dumps({"champion": champion, "spec": now}, indent=2) + "\n", encoding="utf-8")
    return champion


def _publish(spec: NightSpec, registry: Registry, folder: Path, champion: str, decision: Decision) -> str:
    """Every challenger is kept, promoted or not: its scores say why it was not."""
    file = folder / "published.json"
    if file.exists():
        return str(json.loads(file.read_text(encoding="utf-8"))["version"])
    scores = json.loads((folder / "challenger" / SCORES).read_text(encoding="utf-8"))
    outcome = json.loads((folder / "training" / "outcome.json").read_text(encoding="utf-8"))
    version = registry.publish(
        folder / "training" / "model",
        card=f"# Trained from {champion}\n\nMask-only reinforcement, {outcome['steps']} steps.\n\n{decision.why}\n",
        scores=scores,
        parent=champion,
        data_fingerprint=str(scores["fingerprint"]),
        training=spec.settings.model_dump(mode="json") | {"steps_done": outcome["steps"]},
    )
    file.write_text(json.dumps({"version": version}) + "\n", encoding="utf-8")
    return version


def _samples(file: Path) -> list[Sample]:
    rows = pq.read_table(file, columns=["example_id", "iou", "truth_px", "predicted_px"]).to_pylist()
    return [Sample(**row) for row in rows]
