"""What the training flows show in Prefect, read back from a real, temporary server."""

import asyncio
import base64
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage
from tiny_models import save_qwen2_5_vl

from pipeline.evaluation import EvaluationSpec
from pipeline.nightly import NightSpec
from pipeline.training import TrainSpec
from t2s_core.training.settings import TrainSettings

# Read when Prefect is imported: a busy machine needs longer than its 20 s, and tests report to nobody.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
SETTINGS = TrainSettings(
    group_size=2, questions_per_step=1, steps=2, max_new_tokens=6, dtype="float32", held_out=2, held_out_steps=1,
    learning_rate=1e-3,
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"qwen_vl:{save_qwen2_5_vl(tmp_path_factory.mktemp('start'))}"


def artifacts(of_run: object) -> dict[str, Any]:
    """The newest artifact of each key of one flow run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    async def read() -> dict[str, Any]:
        async with get_client() as client:
            chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[of_run]))
            return {one.key: one for one in await client.read_artifacts(artifact_filter=chosen)}

    return asyncio.run(read())


def picture(artifact: Any) -> PillowImage.Image:
    assert artifact.type == "image"
    head, _, data = artifact.data.partition(";base64,")
    image = PillowImage.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:{image.get_format_mimetype()}"  # type: ignore[attr-defined]
    return image


@pytest.mark.usefixtures("server")
def test_training_shows_its_curves_as_a_table_and_a_picture(start: str, tmp_path: Path) -> None:
    from flows.train_prompter import train_prompter

    state = train_prompter(TrainSpec(dataset="world", prompter=start, settings=SETTINGS), tmp_path, return_state=True)
    assert state.is_completed(), state
    shown = artifacts(state.state_details.flow_run_id)
    assert shown.keys() == {"training-curves", "training-plot"}
    table = json.loads(shown["training-curves"].data)
    assert [row["step"] for row in table] == [0, 1, 2]
    assert table[0].keys() == {"step", "held-out gIoU", "held-out format rate"}
    assert {"reward (0 to 4)", "mask IoU (0 to 1)", "KL, nats per token", "reply length, tokens"} <= table[1].keys()
    assert shown["training-plot"].description.startswith("finished at step 2")
    drawn = picture(shown["training-plot"])
    assert drawn.tobytes() == PillowImage.open(tmp_path / "curves.png").tobytes()


@pytest.mark.usefixtures("server")
def test_an_evaluation_shows_its_scores_and_its_worst_cases(start: str, tmp_path: Path) -> None:
    from flows.evaluate_prompter import evaluate_prompter

    spec = EvaluationSpec(dataset="world", prompter=start, limit=5)
    state = evaluate_prompter(spec, str(tmp_path), "cpu", return_state=True)
    assert state.is_completed(), state
    shown = artifacts(state.state_details.flow_run_id)
    assert shown.keys() == {"scores-world", "worst-world"}
    assert "5 samples of world/test" in shown["worst-world"].description
    drawn = picture(shown["worst-world"])
    assert drawn.width > drawn.height > 500, "two rows of four"
    assert drawn.convert("L").getextrema() != (255, 255)


@pytest.mark.usefixtures("server")
def test_a_night_shows_every_step_and_why_it_decided_so(start: str, tmp_path: Path) -> None:
    from flows.retrain_nightly import retrain_nightly

    spec = NightSpec(
        registry=str(tmp_path / "registry"), start=start, dataset="world", test_limit=5, settings=SETTINGS, device="cpu"
    )
    state = retrain_nightly(spec, tmp_path / "nights", return_state=True)
    assert state.is_completed(), state
    shown = artifacts(state.state_details.flow_run_id)
    scored = {f"{what}-world-{who}" for what in ("scores", "worst") for who in ("champion", "challenger")}
    assert shown.keys() == {"training-curves", "training-plot", "nightly-decision"} | scored
    outcome = state.result()
    decision = shown["nightly-decision"].data
    assert decision.startswith(f"**{outcome.decision.why}**")
    assert f"| challenger | {outcome.challenger} |" in decision
    assert f"| samples that both were scored on | {outcome.decision.n} |" in decision
