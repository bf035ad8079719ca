"""Going on from a trainer's checkpoint."""

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers.trainer_utils import get_last_checkpoint


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint in a folder, which need not exist; None where there is none."""
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


class ReloadsPublishedNames:
    """Mixed into a trainer of transformers, before it.

    `save_pretrained` writes some models (Qwen2.5-VL) under the names of their published weights, which are not the
    names of their modules. The trainer's own loading then finds nothing, warns, and goes on with the weights that it
    started with: a resumed training would silently be another one. `from_pretrained` knows both names.
    """

    model: Any

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target = self.model if model is None else model
        if isinstance(target, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        saved = type(target).from_pretrained(Path(resume_from_checkpoint), dtype=target.dtype, local_files_only=True)
        target.load_state_dict(saved.state_dict())
