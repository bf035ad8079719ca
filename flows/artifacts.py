"""What a flow shows of its work in Prefect's pages: tables, and pictures that are part of the page.

A picture is an image artifact with a data URI: both of Prefect's user interfaces show it, with no file server between,
while the newer one drops data URIs from markdown.
"""

import base64
import threading
import time
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from pipeline.evaluation import WORST, EvaluationSpec
from pipeline.nightly import NightOutcome
from pipeline.normalise import Stretch
from pipeline.pixels import UnreadablePixels
from pipeline.progress import Advance
from pipeline.quicklook import data_url, quicklook
from pipeline.region import Outcome
from pipeline.scenes import Scene
from pipeline.storage import Store
from t2s_core.training.curves import NAMES, CurveTable
from t2s_core.training.evaluation_tables import ablation_rows, score_rows
from t2s_core.training.grpo import TrainOutcome

_MAX_ROWS = 60
"""Of the table of curves: a page is to be read. `curves.parquet` has every step."""


_PROGRESS_EVERY_S = 5.0
"""Each is a request to the server."""
_MAX_PICTURES = 4
"""Of a region's scenes, of those that come first."""


class ShownProgress:
    """`pipeline.progress.Progress` as a bar on the page of a flow run: tile-queries answered, scenes counting alike."""

    def __init__(self) -> None:
        """The bar is there from now on."""
        self._n_scenes, self._shares = 1, dict[str, float]()
        self._told_s = time.monotonic()
        self._lock = threading.Lock()
        made = create_progress_artifact(0.0, key="region-progress", description="tile-queries answered")
        self._artifact = cast("UUID", made)  # a coroutine only where a loop runs, and flows here are plain functions

    def expect(self, n_scenes: int) -> None:
        """See `Progress.expect`."""
        self._n_scenes = max(n_scenes, 1)

    def start(self, stage: str, scene_id: str, total: int, done: int) -> Advance:
        """See `Progress.start`."""
        if stage != "segment":
            return lambda _: None

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            with self._lock:
                self._shares[scene_id] = done / total if total else 1.0
                now_s = time.monotonic()
                if now_s - self._told_s < _PROGRESS_EVERY_S and done < total:
                    return
                self._told_s = now_s
                percent = round(100 * sum(self._shares.values()) / self._n_scenes, 1)
            update_progress_artifact(self._artifact, percent)

        advance(0)
        return advance

    def note(self, message: str) -> None:
        """Said in the log already."""


def show_region(outcome: Outcome, store: Store) -> None:
    """What a run came to as a summary, its questions as a table, and its first scenes as pictures."""
    manifest, counts = outcome.manifest, outcome.manifest["counts"]
    facts = {
        "scenes": len(manifest["scenes"]),
        "tile-queries": counts["total"],
        "computed by this run": outcome.computed,
        **{name: n for name, n in counts.items() if n and name != "total"},
        "seconds": manifest["timings"]["wall_s"],
        "results": f"`{store.url}`",
        **{f"skipped {number}": f"`{scene['href']}`: {scene['problem']}" for number, scene in
           enumerate(manifest["skipped_scenes"], start=1)},
    }  # fmt: skip
    rows = "".join(f"| {name} | {_cell(value)} |\n" for name, value in facts.items())
    create_markdown_artifact(
        key="region-summary",
        markdown=f"**{outcome.status.value}**\n\n| | |\n|---|---|\n{rows}",
        description=f"What the run into {store.url} came to",
    )
    create_table_artifact(
        key="region-features",
        table=[{"query": q["query"], "features": manifest["features"][q["query_id"]]} for q in manifest["queries"]],
        description="Features of all scenes by question",
    )
    for number, entry in enumerate(manifest["scenes"][:_MAX_PICTURES], start=1):
        try:
            picture = quicklook(Scene.from_json(entry), Stretch.from_json(entry["stretch"]))
        except UnreadablePixels:
            continue  # its tiles have failed, and the summary counts them
        create_image_artifact(data_url(picture), key=f"region-scene-{number}", description=entry["scene_id"])


def _cell(value: object) -> str:
    """Text that stays within its cell."""
    return " ".join(str(value).replace("|", "\\|").split())


def show_training(folder: Path, outcome: TrainOutcome) -> None:
    """The curves as a table and as a picture."""
    said = f"{outcome.status.value} at step {outcome.steps}. {outcome.reason}".strip()
    rows = CurveTable(folder).thinned(_MAX_ROWS)
    create_table_artifact(
        key="training-curves",
        table=[{"step": step, **{NAMES[name]: round(value, 4) for name, value in row.items()}} for step, row in rows],
        description=said,
    )
    _show_picture("training-plot", (folder / "curves.png").read_bytes(), "png", said)


def show_scores(spec: EvaluationSpec, document: dict[str, Any], out: str | None, who: str = "") -> None:
    """The scores as a table and, where the evaluation wrote them, its worst cases as a picture.

    Args:
        spec: What was scored.
        document: What came of it.
        out: Where the evaluation wrote.
        who: Tells artifacts of one flow apart: `champion`, `challenger`.

    """
    place = "-".join(part for part in (spec.dataset, who) if part)
    said = (
        f"{document['n']} samples of {document['dataset']} ({document['n_bad']} could not be used), "
        f"prompter {document['prompter']}"
    )
    table = ablation_rows(document) if spec.is_ablation else score_rows(document)
    create_table_artifact(key=f"scores-{place}", table=table, description=said)
    if out is not None and not spec.is_ablation:
        legend = "worst cases: truth outlined in white, prediction in orange, boxes and points in cyan"
        _show_picture(f"worst-{place}", Store.at(out).read(WORST), "jpeg", f"{said}; {legend}")


def show_decision(outcome: NightOutcome) -> None:
    """Whether tonight's prompter became champion, and why."""
    decision = outcome.decision
    low, high = decision.giou_gain_ci95
    facts = {
        "samples that both were scored on": decision.n,
        "gIoU, challenger minus champion": f"{decision.giou_gain:+.4f} (95 % interval {low:+.4f} to {high:+.4f})",
        "accuracy on absent targets, champion": decision.no_target_champion,
        "accuracy on absent targets, challenger": decision.no_target_challenger,
        "challenger": outcome.challenger,
        "champion now": outcome.champion,
    }
    rows = "".join(f"| {name} | {'-' if value is None else value} |\n" for name, value in facts.items())
    create_markdown_artifact(
        key="nightly-decision",
        markdown=f"**{decision.why}**\n\n| | |\n|---|---|\n{rows}",
        description="Whether tonight's prompter became champion, and why",
    )


def _show_picture(key: str, data: bytes, kind: str, description: str) -> None:
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    create_image_artifact(image_url=uri, key=key, description=description)
