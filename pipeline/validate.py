"""`t2s validate`: whether everything a run left is whole, agrees with itself, and is what run.json says.

Nothing of the run that made the outputs is believed: files are opened with independent readers where there are some,
and every law is looked at pixel by pixel and row by row, a block at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline import validate_features as features
from pipeline import validate_masks as masks
from pipeline import validate_objects as objects
from pipeline import validate_published as published
from pipeline.findings import Findings, Published
from pipeline.manifest import read_run
from pipeline.progress import Advance, Progress, Silent
from pipeline.rebuilt import plans_of
from pipeline.storage import Store


class Check(NamedTuple):
    """One law."""

    name: str
    unit: str
    """What it counts where all is well."""
    look: Callable[[Published, Findings], None]


CHECKS = (
    Check("run", "invocations", published.check_run),
    Check("checksums", "objects", published.check_checksums),
    Check("provenance", "outputs", published.check_provenance),
    Check("zarr", "groups", masks.check_groups),
    Check("coverage", "groups", masks.check_coverage),
    Check("mask", "groups", masks.check_masks),
    Check("overviews", "groups", masks.check_overviews),
    Check("valid-data", "groups", masks.check_valid_data),
    Check("geoparquet", "partitions", features.check_partitions),
    Check("bbox", "partitions", features.check_bboxes),
    Check("geometry", "partitions", features.check_geometries),
    Check("feature-ids", "partitions", features.check_ids),
    Check("features-mask", "partitions", features.check_against_masks),
    Check("objects", "tables", objects.check_objects),
    Check("cog", "files", masks.check_cogs),
    Check("stac", "documents", published.check_stac),
)


def validate_run(out_url: str, progress: Progress | None = None) -> dict[str, Any]:
    """The document of `t2s validate --json`: `ok`, `checks: [{name, ok, detail}]`. `progress` hears of every look.

    Raises `BadInput` where there is no run, or where its run.json cannot be read.
    """
    store = Store.at(out_url)
    store.fs.invalidate_cache()  # listings are cached per process; this is about what lies there now
    manifest = read_run(store)
    try:
        run = Published(store, manifest, tuple(plans_of(manifest, store)))
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        detail = f"run.json lacks or twists what a run is: {type(error).__name__}: {' '.join(str(error).split())}"
        return {"ok": False, "checks": [{"name": "run", "ok": False, "detail": detail}]}
    steps = max(1, len(run.plans) * len(run.queries))
    advance = (progress or Silent()).start("validate", manifest["run_id"], steps * len(CHECKS), 0)
    checks = [_outcome(check, run, steps, advance) for check in CHECKS]
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def _outcome(check: Check, run: Published, steps: int, advance: Advance) -> dict[str, Any]:
    """Look, and advance by `steps`: most checks look at every mosaic or partition, and the bar goes with them."""
    left = steps

    def looked() -> None:
        nonlocal left
        if left:
            left -= 1
            advance(1)

    findings = Findings(looked=looked)
    check.look(run, findings)
    advance(left)
    return {"name": check.name, "ok": findings.n_problems == 0, "detail": findings.detail(check.unit)}
