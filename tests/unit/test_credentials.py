"""Addresses without what opens them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.credentials import public
from pipeline.queries import parse_queries
from pipeline.spec import RunSpec
from pipeline.storage import Store
from t2s_core.errors import BadInput

AMAZON = "?X-Amz-Algorithm=AWS4&X-Amz-Credential=ID%2F2026&X-Amz-Signature=cafe&versionId=7"
AZURE = "?st=2026&se=2027&sp=rl&sv=2025&sr=c&skoid=1&sig=ca%2Ffe%3D"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://u:pw@example.org:8443/a.tif", "https://example.org:8443/a.tif"),
        (f"https://b.example.org/a.tif{AMAZON}", "https://b.example.org/a.tif?versionId=7"),
        (f"https://b.example.org/a.tif{AZURE}", "https://b.example.org/a.tif"),
        ("https://example.org/tile?id=4&ACCESS_TOKEN=x&b=", "https://example.org/tile?id=4&b="),
        ("s3://key:secret@bucket/a.tif", "s3://bucket/a.tif"),
    ],
)
def test_what_opens_is_left_out_and_what_names_stays(address: str, expected: str) -> None:
    assert public(address) == expected


@pytest.mark.parametrize(
    "address",
    ["/data/a?sig=1.tif", "s3://bucket/a b.tif", "https://example.org/a.tif?b=%20&&c", "memory://x", "gs://b/keys/a"],
)
def test_other_addresses_stay_as_they_were_spelled(address: str) -> None:
    assert public(address) == address


@given(st.text(), st.text())
def test_nothing_is_left_to_hide_and_nothing_raises(before: str, after: str) -> None:
    once = public(f"{before}https://{after}")
    assert public(once) == once


def test_a_spec_is_written_without_them_and_works_with_them() -> None:
    scene = f"https://example.org/a.tif{AZURE}"
    spec = RunSpec(scenes=(scene,), queries=parse_queries(["water"]), aoi=f"https://u:pw@example.org/a.gpkg{AMAZON}")
    assert spec.scenes == (scene,)
    written = spec.model_dump_json()
    assert "cafe" not in written
    assert "pw" not in written
    assert spec.model_dump()["scenes"] == ("https://example.org/a.tif",)


def test_results_have_no_address_that_opens() -> None:
    with pytest.raises(BadInput, match=r"^s3://bucket/run: its address holds a password") as caught:
        Store.at("s3://key:cafe@bucket/run")
    assert "cafe" not in str(caught.value)
