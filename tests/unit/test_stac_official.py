"""Our reading of the STAC extensions beside their own schemas, which a package that we cannot install ships.

`eopf` holds them and pins other versions of what we need, so its wheel is only looked into; `.ci/run` fetches it.
"""

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from outputs import finished_run
from stac_schemas import FOLDER

WHEELS = sorted((Path(__file__).parents[2] / "build/wheels").glob("eopf-*.whl"))
EXTENSIONS = {"projection": "v2.0.0", "processing": "v1.2.0"}
pytestmark = pytest.mark.skipif(
    not WHEELS, reason="needs eopf's wheel: python3 -m pip download --no-deps --dest build/wheels eopf==2.8.1"
)


def ours(extension: str) -> Draft7Validator:
    return Draft7Validator(json.loads((FOLDER / f"{extension}-{EXTENSIONS[extension]}.json").read_text()))


def official(extension: str) -> Draft7Validator:
    name = f"eopf/product/stac_extensions/extensions/{extension}_{EXTENSIONS[extension]}.json"
    with zipfile.ZipFile(WHEELS[-1]) as wheel:
        schema = json.loads(wheel.read(name))
    assert schema["$id"].rstrip("#") == ours(extension).schema["$id"]
    return Draft7Validator(schema)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What a run writes, by name: an item of a scene with a code and the collection."""
    stac = finished_run(tmp_path_factory.mktemp("run")) / "stac"
    return {name: json.loads((stac / path).read_text()) for name, path in
            {"item": "items/alpha.json", "collection": "collection.json"}.items()}  # fmt: skip


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_a_run_writes_is_valid_by_the_extensions_own_schemas(
    extension: str, documents: dict[str, dict[str, Any]]
) -> None:
    declared = [d for d in documents.values() if official(extension).schema["$id"].rstrip("#") in d["stac_extensions"]]
    assert declared
    for document in declared:
        official(extension).validate(document)


FIELDS = {
    "projection": ["code", "wkt2", "bbox", "centroid", "shape", "transform", "epsg"],
    "processing": ["lineage", "level", "facility", "version", "datetime", "expression", "software", "license"],
}
PREFIX = {"projection": "proj", "processing": "processing"}
VALUES = st.one_of(
    st.none(), st.integers(-9, 9), st.lists(st.integers(-9, 9) | st.floats(-1, 1), max_size=10),
    st.sampled_from(["EPSG:4326", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00", ""]),
    st.lists(st.none() | st.text(max_size=2), max_size=3),
    st.dictionaries(
        st.sampled_from(["lat", "lon", "format", "expression", "t2s"]), st.integers(-200, 200) | st.text(max_size=2)
    ),
)  # fmt: skip
_REMOVED = "removed"


@pytest.mark.parametrize("extension", EXTENSIONS)
@given(
    kind=st.sampled_from(["item", "collection"]), place=st.sampled_from(["properties", "asset", "provider"]),
    field=st.integers(0, 7), value=VALUES | st.just(_REMOVED), only=st.booleans(),
)  # fmt: skip
@example(kind="item", place="properties", field=4, value="2026-01-02T03:04:05+02:00", only=False)
@example(kind="item", place="properties", field=0, value=_REMOVED, only=True)
@example(kind="collection", place="provider", field=0, value=_REMOVED, only=True)
def test_what_we_let_pass_the_extension_lets_pass(
    documents: dict[str, dict[str, Any]], extension: str, kind: str, place: str, field: int, value: Any, only: bool
) -> None:
    """Ours may be stricter: of a code that is null it wants the CRS spelt out, and a code has an authority."""
    document = copy.deepcopy(documents[kind])
    holder = document.get("properties", document)
    if place == "asset":
        holder = next(iter(document["assets"].values()))
    elif place == "provider" and kind == "collection":
        holder = document["providers"][0]
    fields = FIELDS[extension]
    name = f"{PREFIX[extension]}:{fields[field % len(fields)]}"
    if only:
        for other in [key for key in holder if key.startswith(f"{PREFIX[extension]}:")]:
            del holder[other]
    if value == _REMOVED:
        holder.pop(name, None)
    else:
        holder[name] = value
    if ours(extension).is_valid(document):
        official(extension).validate(document)
