"""Scenes behind signed addresses: they are read, and the signature is nowhere afterwards."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from range_server import serving
from regions import draw_scene, make_models, run, spec_of

from pipeline.manifest import RunStatus, read_manifest
from pipeline.prepare import look
from pipeline.storage import Store
from pipeline.work import InProcess

T = TypeVar("T")
R = TypeVar("R")

SECRET = "cafe0123456789abcdef"  # noqa: S105 -- of this test
SIGNED = f"?sv=2025&sr=b&sig={SECRET}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "served"
    made.mkdir()
    draw_scene(made / "alpha.tif")
    return made


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    with serving(folder, SECRET) as made:
        yield made.url


def assert_secret_is_nowhere(out: Path, *texts: str) -> None:
    written = [path for path in out.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    assert [text for text in texts if SECRET in text] == []


def test_a_signed_scene_is_asked_about_and_its_next_signature_is_no_new_scene(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, out = spec_of(make_models(tmp_path), Path("unused")), tmp_path / "out"
    first = run(spec.model_copy(update={"scenes": (f"{server}/alpha.tif{SIGNED}",)}), out)
    assert first.status is RunStatus.SUCCESS
    manifest = read_manifest(Store.at(str(out)))
    assert manifest is not None
    assert manifest["scenes"][0]["href"] == f"{server}/alpha.tif"
    assert_secret_is_nowhere(out, caplog.text)
    again = run(spec.model_copy(update={"scenes": (f"{server}/alpha.tif{SIGNED}&se=2031",)}), out)
    assert again.computed == 0


def test_pixels_that_go_away_are_failures_that_name_no_signature(server: str, folder: Path, tmp_path: Path) -> None:
    spec, out = spec_of(make_models(tmp_path), Path("unused")), tmp_path / "out"
    spec = spec.model_copy(update={"scenes": (f"{server}/alpha.tif{SIGNED}",)})

    class Gone(InProcess):
        """Workers before whom the file is gone."""

        def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
            (folder / "alpha.tif").unlink(missing_ok=True)
            return super().map(function, items, models=models)

    outcome = run(spec, out, Gone())
    assert outcome.status is RunStatus.FAILED
    reason = outcome.manifest["failures"][0]["reason"]
    assert re.search(r"cannot be opened|has changed", reason)
    assert f"{server}/alpha.tif" in reason
    assert_secret_is_nowhere(out, reason, repr(outcome))


@pytest.mark.parametrize("name", ["missing.tif", "item.json"])
def test_problems_name_no_signature(server: str, folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "item.json").write_text("{}")
    spec = spec_of(make_models(tmp_path), Path("unused"))
    looked = look(spec.model_copy(update={"scenes": (f"{server}/{name}{SIGNED}",)}), str(tmp_path / "out"))
    assert [problem.href for problem in looked.problems] == [f"{server}/{name}"]
    assert_secret_is_nowhere(tmp_path / "out", *map(str, looked.problems))
