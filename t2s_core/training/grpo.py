"""Reinforcement from masks alone: TRL's `GRPOTrainer` with our reward.

What is ours: the reward (`t2s_core.rewards`), the image and text exactly as a run shows them, the watchdog, the budget
and the curves. What is theirs: the loop.

A folder holds one training: `settings.json`, `checkpoints/`, `curves.parquet`, `curves.png` and, once a call has ended,
`model/`, which loads like any prompter. The same call on the same folder goes on from the last checkpoint.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, PrinterCallback, set_seed
from trl import GRPOConfig, GRPOTrainer
from trl.import_utils import is_vllm_available

from t2s_core.devices import machine_faults
from t2s_core.errors import BadInput
from t2s_core.ports import Prompter, RawReply, Segmenter
from t2s_core.profiles import PrompterProfile
from t2s_core.prompters.qwen_vl import QwenVlPrompter
from t2s_core.rewards import MaskReward
from t2s_core.training.arguments import on_one_device, questions_per_process, shared_arguments, weights_dtype
from t2s_core.training.callbacks import Budget, Curves, HeldOut, Watchdog
from t2s_core.training.checkpoints import ReloadsPublishedNames, last_checkpoint
from t2s_core.training.examples import ExampleSet
from t2s_core.training.processes import from_all, is_main, main_first
from t2s_core.training.rows import Rows
from t2s_core.training.settings import TrainSettings
from t2s_core.training.supervised import learn_clicks


class _Trainer(ReloadsPublishedNames, GRPOTrainer):
    """TRL's, but resuming."""


Measure = Callable[[Prompter], dict[str, float]]
RewardFunction = Callable[..., list[float | None]]


class TrainStatus(StrEnum):
    """How a call ended."""

    FINISHED = "finished"
    """All steps are done; `model/` is there."""
    PAUSED = "paused"
    """The budget is spent; the same call goes on. `model/` holds what there is so far."""
    STOPPED = "stopped"
    """The watchdog stopped it; `reason` says why, the last good checkpoint is kept, `model/` is made from it."""


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """What a call came to."""

    status: TrainStatus
    reason: str
    steps: int
    """Of the optimiser, earlier calls included."""
    model: str
    """Directory of the trained prompter."""
    bad_examples: tuple[str, ...]
    """Why examples could not be used."""


def train(
    start: Path,
    *,
    profile: PrompterProfile,
    segmenter: Segmenter,
    examples: ExampleSet,
    folder: Path,
    settings: TrainSettings,
    measure: Measure | None = None,
) -> TrainOutcome:
    """Train a prompter, or go on where an earlier call on this folder ended.

    Args:
        start: Directory of the prompter to start from; never changed.
        profile: How it is asked and read.
        segmenter: Frozen: it sees no gradient.
        examples: Questions and masks. Question i of the run is the same whenever it is asked.
        folder: Local; holds the training.
        settings: See `TrainSettings`.
        measure: Scores a prompter on held-out examples; its numbers join the curves as `held_out/...`.

    Raises:
        BadInput: The folder holds another training, or the prompter cannot be trained.
        MachineFault: The segmenter or the device failed.

    """
    _check_rollouts(settings)
    folder.mkdir(parents=True, exist_ok=True)
    asked = {"start": str(start), "examples": examples.fingerprint, "settings": settings.model_dump(mode="json")}
    with main_first():
        _claim(folder, asked)
    budget = Budget(settings.minutes) if settings.minutes else None
    if settings.supervised_steps:
        start = _after_clicks(start, examples, profile, folder, settings)
    set_seed(settings.seed)
    model, processor = _load(start, settings)
    rows = Rows(examples, profile, processor.tokenizer)
    curves, watchdog = Curves(folder), Watchdog(settings.watch)
    callbacks: list[Any] = [curves, watchdog, *([budget] if budget else [])]
    if measure is not None and settings.held_out:
        live = QwenVlPrompter(model, processor, profile=profile, version="in training")
        callbacks.append(HeldOut(settings.held_out_steps, lambda: _measured(measure, live, model), curves))
    with machine_faults("training"):
        trainer = _Trainer(
            model=model,
            args=on_one_device(_config(folder / "checkpoints", settings, profile)),
            reward_funcs=[_reward(rows, MaskReward(segmenter, profile), processor.tokenizer)],
            train_dataset=rows.dataset(),
            processing_class=processor,
            peft_config=_lora(settings),
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)  # `Curves` says it in fewer words
        trainer.train(resume_from_checkpoint=last_checkpoint(folder / "checkpoints"))
    if watchdog.reason:
        if good := last_checkpoint(folder / "checkpoints"):
            trainer._load_from_checkpoint(good)  # noqa: SLF001 -- the only way to the last good weights in place
        status = TrainStatus.STOPPED
    else:
        status = (
            TrainStatus.PAUSED
            if budget and budget.spent and trainer.state.global_step < settings.steps
            else TrainStatus.FINISHED
        )
    bad = {index: why for found in from_all(rows.bad) for index, why in found.items()}
    outcome = TrainOutcome(
        status, watchdog.reason or "", trainer.state.global_step, str(folder / "model"), tuple(bad.values())
    )
    with main_first():
        if is_main():
            _write_model(trainer.accelerator.unwrap_model(trainer.model), start, folder / "model")
            (folder / "outcome.json").write_text(json.dumps(asdict(outcome), indent=2) + "\n", encoding="utf-8")
    return outcome


def _check_rollouts(settings: TrainSettings) -> None:
    """Find what vLLM would miss before anything is loaded. Raises `BadInput`."""
    if settings.rollouts != "vllm":
        return
    way_out = "or use `rollouts: transformers`"
    if not is_vllm_available():
        raise BadInput(f"rollouts=vllm: no usable vllm is installed; install one that fits this torch, {way_out}")
    if not torch.cuda.is_available():
        raise BadInput(f"rollouts=vllm: this machine has no CUDA device; train on one that has, {way_out}")


def _claim(folder: Path, what: Mapping[str, object]) -> None:
    """Refuse a folder that holds a training with other settings; budgets may differ from call to call."""
    file = folder / "settings.json"
    text = json.dumps(what, indent=2) + "\n"
    if not file.exists():
        file.write_text(text, encoding="utf-8")
        return
    earlier = json.loads(file.read_text(encoding="utf-8"))
    for document in (earlier, now := json.loads(text)):
        for free in ("minutes", "steps", "vllm_server", "vllm_memory"):
            document["settings"].pop(free, None)
    changed = sorted(
        {key for key in ("start", "examples") if earlier[key] != now[key]}
        | {key for key, value in now["settings"].items() if earlier["settings"].get(key) != value}
    )
    if changed:
        raise BadInput(
            f"{folder}: holds a training with another {', '.join(changed)}; "
            "name another folder, or give the same settings to go on"
        )


def _load(start: Path, settings: TrainSettings) -> tuple[Any, Any]:
    auto_model: Any = AutoModelForImageTextToText
    auto_processor: Any = AutoProcessor
    try:
        model = auto_model.from_pretrained(start, dtype=weights_dtype(settings), local_files_only=True)
        processor = auto_processor.from_pretrained(start, local_files_only=True, padding_side="left")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInput(f"{start}: cannot be loaded: {str(error).splitlines()[0]}") from error
    if settings.freeze_vision:
        visual = model.model.visual
        visual.requires_grad_(requires_grad=False)
        # Gradient checkpointing asks for gradients at every embedding, patches included: the backward pass would run
        # through the frozen tower, and change nothing.
        visual.forward = torch.no_grad()(visual.forward)
    return model, processor


def _lora(settings: TrainSettings) -> LoraConfig | None:
    if settings.lora is None:
        return None
    return LoraConfig(
        r=settings.lora.r, lora_alpha=settings.lora.alpha, target_modules=settings.lora.targets, task_type="CAUSAL_LM"
    )


def _config(checkpoints: Path, settings: TrainSettings, profile: PrompterProfile) -> GRPOConfig:
    per_pass, passes = questions_per_process(settings)
    return GRPOConfig(
        output_dir=str(checkpoints),
        per_device_train_batch_size=per_pass * settings.group_size,
        gradient_accumulation_steps=passes,
        num_generations=settings.group_size,
        max_completion_length=settings.max_new_tokens or profile.max_new_tokens,
        temperature=settings.temperature,
        # The paper's loss: mean over replies of the mean over tokens, rewards divided by their group's deviation.
        loss_type="grpo",
        scale_rewards="group",
        beta=settings.kl_weight,
        epsilon=settings.clip,
        num_iterations=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        max_steps=settings.steps,
        use_vllm=settings.rollouts == "vllm",
        vllm_mode="colocate" if settings.vllm_server is None else "server",
        vllm_server_base_url=settings.vllm_server,
        vllm_gpu_memory_utilization=settings.vllm_memory,
        save_total_limit=3,
        **shared_arguments(settings),
    )


def _reward(rows: Rows, judge: MaskReward, tokenizer: Any) -> RewardFunction:
    """The reward as TRL calls it; its parts become curves."""
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}

    def reply(ids: Sequence[int]) -> RawReply:
        stopped = bool(ids) and ids[-1] in ends
        # Tags may be special tokens of a small vocabulary: TRL's own text would lack them.
        text = tokenizer.decode(ids[:-1] if stopped else ids, skip_special_tokens=False)
        return RawReply(text, truncated=not stopped, n_tokens=len(ids))

    def reward(
        completion_ids: list[list[int]], index: list[int], log_metric: Callable[[str, float], None], **_: Any
    ) -> list[float | None]:
        found = judge.score([rows.example(i) for i in index], [reply(ids) for ids in completion_ids])
        for part, values in (
            ("mask", [one.iou for one in found]),
            ("schema", [one.schema_ok for one in found]),
            ("tags", [one.tags_ok for one in found]),
        ):
            log_metric(f"rewards/{part}_reward/mean", sum(values) / len(values))
        return [one.total for one in found]

    return reward


def _measured(measure: Measure, prompter: Prompter, model: Any) -> dict[str, float]:
    """Measure without leaving a trace: the next step must be the same as if nobody had looked."""
    training, state = model.training, torch.get_rng_state()
    model.eval()
    try:
        return {f"held_out/{name}": value for name, value in measure(prompter).items()}
    finally:
        model.train(training)
        torch.set_rng_state(state)


def _after_clicks(
    start: Path, examples: ExampleSet, profile: PrompterProfile, folder: Path, settings: TrainSettings
) -> Path:
    """The directory of the model after its supervised stage, which is run unless it was finished before."""
    target = folder / "supervised-model"
    if not target.exists():
        set_seed(settings.seed)
        model, processor = _load(start, settings)
        rows = Rows(examples, profile, processor.tokenizer)
        learn_clicks(model, processor, rows, folder=folder / "supervised", settings=settings)
        with main_first():
            if is_main():
                _write_model(model, start, target)
    return target


def _write_model(model: Any, start: Path, target: Path) -> None:
    """A directory that loads like the one it started from: adapters merged, profile and processor beside them."""
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    # As the model it started from was stored: checkpoints keep the full precision, a version that is used need not.
    model.to(AutoConfig.from_pretrained(start, local_files_only=True).dtype or torch.float32).save_pretrained(part)
    for file in start.iterdir():
        # Everything but the weights stays as it was: a trainer's rewritten processor could ask differently.
        weights = file.suffix == ".safetensors" or file.name.endswith(".index.json")
        if file.is_file() and not weights and not (part / file.name).exists() and file.name != "README.md":
            shutil.copy2(file, part / file.name)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
