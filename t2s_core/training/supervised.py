"""The optional first stage: replies with boxes and points drawn from the masks, learned word for word (TRL's SFT)."""

from pathlib import Path
from typing import Any

from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from t2s_core.devices import machine_faults
from t2s_core.training.arguments import on_one_device, questions_per_process, shared_arguments
from t2s_core.training.checkpoints import ReloadsPublishedNames, last_checkpoint
from t2s_core.training.rows import Rows
from t2s_core.training.settings import TrainSettings


class _Trainer(ReloadsPublishedNames, SFTTrainer):
    """TRL's, but resuming."""


def learn_clicks(model: Any, processor: Any, rows: Rows, *, folder: Path, settings: TrainSettings) -> None:
    """Train the model in place for `settings.supervised_steps`; a later call on the folder goes on.

    Raises `MachineFault` where the device failed, `BadInput` where processes cannot share a step's questions.
    """
    per_pass, passes = questions_per_process(settings)
    config = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=per_pass,
        gradient_accumulation_steps=passes,
        max_length=None,  # a truncated prompt would lack part of its image
        completion_only_loss=True,
        learning_rate=settings.supervised_learning_rate,
        lr_scheduler_type="cosine",
        max_steps=settings.supervised_steps,
        save_total_limit=1,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        **shared_arguments(settings),
    )
    with machine_faults("supervised training"):
        trainer = _Trainer(
            model=model,
            args=on_one_device(config),
            train_dataset=rows.dataset(taught=True),
            processing_class=processor,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
