"""Make the bundled models again: `python -m t2s_core.bundled.build all --folder CHECKPOINTS`.

The stages can be run by themselves: `segmenter`, `prompter`, `export`, `evaluate`. Training stages go on from the
checkpoints in the folder. With a GPU and a dozen cores ten minutes each make good models (`--device cuda --workers 7
--minutes 9`); on two cores the same takes hours.
"""

import argparse
import subprocess
import sys
from pathlib import Path

_STAGES = ("segmenter", "prompter", "export", "evaluate")


def main() -> None:
    """Run the stages one after another, each as a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("all", *_STAGES))
    parser.add_argument("--folder", type=Path, default=Path("checkpoints/bundled"), help="where checkpoints go")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where to train")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw what is trained on")
    parser.add_argument("--minutes", type=float, help="of each training; its own default if not given")
    args = parser.parse_args()
    folder, threads = ["--folder", str(args.folder)], ["--threads", str(args.threads)]
    training = [*folder, *threads, "--device", args.device, "--workers", str(args.workers)]
    if args.minutes is not None:
        training += ["--minutes", str(args.minutes)]
    commands = {
        "segmenter": ["train_segmenter", *training],
        "prompter": ["train_prompter", *training],
        "export": ["export", *folder],
        "evaluate": ["evaluate", *threads, "--out", str(args.folder / "scores.json")],
    }
    for stage in _STAGES if args.stage == "all" else (args.stage,):
        module, *rest = commands[stage]
        subprocess.run([sys.executable, "-m", f"t2s_core.bundled.build.{module}", *rest], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
