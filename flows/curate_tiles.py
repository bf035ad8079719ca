"""Curation as a Prefect flow: the same steps as `t2s curate`, one task per scene, with the counts as an artifact."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from pipeline.curate import Steps, run_curation
from pipeline.curate_prepare import prepare_curation
from pipeline.curate_spec import CurationSpec
from pipeline.curate_summary import count_rows
from pipeline.progress import Silent
from tasks.curation import add_absent, cut_scene, list_hard


@flow(name="curate-tiles", persist_result=False)
def curate_tiles(spec: CurationSpec, out: str, *, fresh: bool = False) -> dict[str, Any]:
    """Cut chips with true masks into `out` (a path or any fsspec URL); returns dataset.json.

    Raises `BadInput` on input that cannot work, `MachineFault` where a scene no longer opens.
    """
    prepared = prepare_curation(spec, out, fresh=fresh)
    steps = Steps(cut_scene, add_absent, list_hard)
    document = run_curation(prepared, Silent(), steps=steps, fresh=fresh)
    create_table_artifact(
        key="curated-tiles",
        table=count_rows(document),
        description=f"{document['counts']['samples']} samples in {out}, fingerprint {document['fingerprint']}",
    )
    return document
