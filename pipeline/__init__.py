"""The dataflow: scenes, tiles, tile results, mosaics, features. Runs without Prefect, in pytest or a notebook.

What is public is `open_run`, the `FinishedRun` that it gives, and `BadInput`, which both raise: these keep their names
and meaning from version to version. All other modules and names may change; they are imported from inside t2s only.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.runs import FinishedRun, open_run
    from t2s_core.errors import BadInput

__all__ = ["BadInput", "FinishedRun", "open_run"]

_HOMES = {"BadInput": "t2s_core.errors", "FinishedRun": "pipeline.runs", "open_run": "pipeline.runs"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- what a module holds
    """Imported when first asked for: `import pipeline` opens no GDAL and no Dask."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
