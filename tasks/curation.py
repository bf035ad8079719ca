"""One Prefect task per scene and step of a curation, and one for the list of hard examples."""

from collections.abc import Sequence

from prefect import task

from pipeline import curate, curate_chips
from pipeline.curate_chips import CutSettings, Pair, SceneCut, SceneWork
from pipeline.curate_hard import HardTile
from pipeline.progress import Progress
from pipeline.runs import FinishedRun
from pipeline.storage import Store
from tasks.retries import retried

# Each step writes the same objects again.
_OPTIONS = retried()


@task(name="cut-scene", task_run_name="cut {work.scene.scene_id}", **_OPTIONS)
def cut_scene(work: SceneWork, settings: CutSettings, progress: Progress) -> SceneCut:
    """See `pipeline.curate_chips.cut_scene`."""
    return curate_chips.cut_scene(work, settings, progress)


@task(name="add-absent", task_run_name="add absent {work.scene.scene_id}", **_OPTIONS)
def add_absent(
    work: SceneWork, settings: CutSettings, pairs: Sequence[Pair], written: frozenset[str]
) -> dict[str, str]:
    """See `pipeline.curate_chips.add_absent`."""
    return curate_chips.add_absent(work, settings, pairs, written)


@task(name="list-hard", **_OPTIONS)
def list_hard(store: Store, run: FinishedRun, min_disagreement: float, min_px: int) -> list[HardTile]:
    """See `pipeline.curate.list_hard`."""
    return curate.list_hard(store, run, min_disagreement, min_px)
