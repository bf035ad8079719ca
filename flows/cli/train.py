"""`t2s train`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli import options as o
from flows.voice import say

EXIT_CODES = {"finished": 0, "paused": 0, "stopped": 1}


def train(
    dataset: o.Dataset,
    out: Annotated[Path, typer.Option("--out", "-o", help="Local directory for checkpoints, curves and the model.")],
    root: Annotated[Path | None, typer.Option(help="Directory of the data set; the world needs none.")] = None,
    prompter: o.PrompterName = "bundled",
    registry: o.Registry = None,
    segmenter: o.SegmenterName = "bundled",
    split: Annotated[str, typer.Option(help="What is trained on.", autocompletion=o.Split)] = "train",
    held_out_split: Annotated[
        str, typer.Option(help="What the curve of held-out gIoU is measured on.", autocompletion=o.Split)
    ] = "val",
    settings: Annotated[Path | None, typer.Option(help="YAML file of settings; see the reference.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the optimiser in all; overrides the file.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long, with a checkpoint.")] = None,
    device: o.Device = "auto",
    as_json: o.AsJson = False,
) -> None:
    """Train a prompter from masks alone (GRPO); the segmenter stays as it is.

    Run the same command again after an interruption or when its minutes are spent: it goes on where it stopped.
    On several GPUs: `accelerate launch --config_file infra/accelerate/ddp.yaml -m flows.cli.app train ...`
    shares each step's questions among them.

    Examples:
      t2s train --dataset world --out training --steps 300

      t2s train --dataset curated --root tiles --prompter champion --registry s3://models --minutes 240 --out training
    """
    import logging
    import warnings

    from pipeline.model_names import addressed
    from pipeline.training import TrainSpec, read_settings, run_training
    from t2s_core.training.settings import TrainSettings

    chosen = read_settings(settings) if settings else TrainSettings()
    changes = {key: value for key, value in (("steps", steps), ("minutes", minutes)) if value is not None}
    spec = TrainSpec(
        dataset=dataset,
        root=root,
        split=split,
        held_out_split=held_out_split,
        prompter=addressed(prompter, registry),
        segmenter=segmenter,
        settings=chosen.model_copy(update=changes),
    )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    for name in ("pipeline.training", "t2s_core.training"):
        logging.getLogger(name).setLevel(logging.INFO)  # to stderr: stdout is the outcome's
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # it says so to itself
    outcome = run_training(spec, out, device=device)
    from t2s_core.training.processes import is_main

    if not is_main():
        raise typer.Exit(EXIT_CODES[outcome.status.value])
    document = {
        "status": outcome.status.value,
        "reason": outcome.reason,
        "steps": outcome.steps,
        "model": outcome.model,
    }
    for line in outcome.bad_examples:
        say(f"not used: {line}")
    if as_json:
        sys.stdout.write(json.dumps(document | {"bad_examples": outcome.bad_examples}) + "\n")
    else:
        typer.echo(f"{outcome.status.value} at step {outcome.steps}{': ' + outcome.reason if outcome.reason else ''}")
        typer.echo(f"model   {outcome.model}     t2s evaluate --prompter qwen_vl:{outcome.model} ...")
        typer.echo(f"curves  {out / 'curves.png'}")
    raise typer.Exit(EXIT_CODES[outcome.status.value])
