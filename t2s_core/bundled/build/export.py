"""Write checkpoints as the directories that ship: bf16 weights, configs, tokenizer, processor and profile."""

import argparse
import json
from pathlib import Path

import torch
from transformers import Qwen3VLProcessor, SamImageProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from t2s_core.bundled.build import prompter_model, segmenter_model
from t2s_core.bundled.build.tokenizer import CHAT_TEMPLATE, SYSTEM, make_tokenizer

SIDE_PX = prompter_model.SIDE_PX
VERSION = "1"
PROMPTER_PROFILE = {
    "name": "bundled", "version": VERSION, "model_px": SIDE_PX, "coordinates": "pixel", "points_per_instance": 2,
    "max_instances": 12, "max_new_tokens": 192, "tile_px": SIDE_PX, "template": {"system": SYSTEM, "user": "{query}"},
}  # fmt: skip
SEGMENTER_PROFILE = {"name": "bundled", "version": VERSION, "model_px": SIDE_PX}


def export_prompter(checkpoint: Path, target: Path) -> None:
    """The averaged weights of `prompter.pt` as a directory that `from_pretrained` loads."""
    tokenizer = make_tokenizer()
    model = prompter_model.make_model(tokenizer)
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["average"])
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    _save(model, target)
    images = prompter_model.make_image_processor()
    videos = Qwen3VLVideoProcessor(patch_size=prompter_model.PATCH_PX, merge_size=2, temporal_patch_size=2)
    processor = Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=CHAT_TEMPLATE
    )
    processor.save_pretrained(target)
    _write_profile(target, PROMPTER_PROFILE)


def export_segmenter(checkpoint: Path, target: Path) -> None:
    """The averaged weights of `segmenter.pt` as a directory that `from_pretrained` loads."""
    model = segmenter_model.make_model()
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["average"])
    _save(model, target)
    square = {"height": SIDE_PX, "width": SIDE_PX}
    low = {"height": segmenter_model.MASK_PX, "width": segmenter_model.MASK_PX}
    SamImageProcessor(
        size={"longest_edge": SIDE_PX},
        pad_size=square,
        mask_size={"longest_edge": segmenter_model.MASK_PX},
        mask_pad_size=low,
    ).save_pretrained(target)
    _write_profile(target, SEGMENTER_PROFILE)


def _save(model: torch.nn.Module, target: Path) -> None:
    model.to(torch.bfloat16)
    model.save_pretrained(target)  # type: ignore[operator]
    (target / "model.safetensors").chmod(0o644)  # written readable by its owner alone, which no package should be


def _write_profile(target: Path, profile: dict[str, object]) -> None:
    (target / "profile.json").write_text(json.dumps(profile, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """The command line of this stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints are")
    parser.add_argument("--target", type=Path, default=Path(__file__).parents[1], help="gets prompter/ and segmenter/")
    parser.add_argument("--only", choices=("prompter", "segmenter"))
    args = parser.parse_args()
    if args.only != "segmenter":
        export_prompter(args.folder / "prompter.pt", args.target / "prompter")
    if args.only != "prompter":
        export_segmenter(args.folder / "segmenter.pt", args.target / "segmenter")


if __name__ == "__main__":
    main()
