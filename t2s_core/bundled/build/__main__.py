"""Make the bundled models again: `python -m t2s_core.bundled.build all --folder CHECKPOINTS`.

The stages can be run by themselves: `segmenter`, `prompter`, `export`, `evaluate`. Training stages go on from the
checkpoints in the folder. Two cores suffice: the segmenter takes about half an hour, the prompter an hour and more.
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
    args = parser.parse_args()
    folder, threads = ["--folder", str(args.folder)], ["--threads", str(args.threads)]
    commands = {
        "segmenter": ["train_segmenter", *folder, *threads],
        "prompter": ["train_prompter", *folder, *threads],
        "export": ["export", *folder],
        "evaluate": ["evaluate", *threads, "--out", str(args.folder / "scores.json")],
    }
    for stage in _STAGES if args.stage == "all" else (args.stage,):
        module, *rest = commands[stage]
        subprocess.run([sys.executable, "-m", f"t2s_core.bundled.build.{module}", *rest], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
