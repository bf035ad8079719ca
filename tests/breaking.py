"""Ways to break the outputs of a finished run, and to see which laws find it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from pipeline.geodesy import areas_m2
from pipeline.validate import CHECKS, validate_run


def failing(out: Path | str) -> dict[str, str]:
    """Details by name of the checks that are not ok."""
    document = validate_run(str(out))
    assert [check["name"] for check in document["checks"]] == [check.name for check in CHECKS]
    assert document["ok"] == all(check["ok"] for check in document["checks"])
    assert all("\n" not in check["detail"] for check in document["checks"])
    return {check["name"]: check["detail"] for check in document["checks"] if not check["ok"]}


def rows_of(out: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change rows of a partition; its metadata stay."""
    table = pq.read_table(out / name, partitioning=None)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), out / name)


def described(geometry: shapely.Geometry) -> dict[str, Any]:
    """Columns that follow from a geometry."""
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), geometry.bounds, strict=True))
    area_m2 = areas_m2([geometry], CRS("OGC:CRS84"))[0]  # type: ignore[list-item]
    return {"geometry": shapely.to_wkb(geometry), "bbox": box, "area_m2": area_m2}
