"""Scenes behind signed addresses: they are read, and the signature is nowhere afterwards."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pyproj import Transformer
from range_server import serving
from regions import draw_scene, make_models, run, spec_of
from typer.testing import CliRunner

from flows.cli.app import app
from pipeline.manifest import RunStatus, read_manifest, read_run
from pipeline.prepare import look
from pipeline.storage import Store
from pipeline.work import InProcess
from t2s_core.errors import BadInput

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


def shows_a_picture(page: Path) -> bool:
    html = page.read_text()
    assert ("No picture of alpha" in html) is ('"name":"pictures"' not in html)
    return "No picture of alpha" not in html


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
    assert shows_a_picture(out / "report.html")
    again = run(spec.model_copy(update={"scenes": (f"{server}/alpha.tif{SIGNED}&se=2031",)}), out)
    assert again.computed == 0


def test_pages_that_are_made_later_have_pictures_where_the_signature_is_given_again(
    server: str, tmp_path: Path
) -> None:
    spec, out, why = spec_of(make_models(tmp_path), Path("unused")), tmp_path / "out", tmp_path / "why.html"
    run(spec.model_copy(update={"scenes": (f"{server}/alpha.tif{SIGNED}",)}), out)
    x, y = read_run(Store.at(str(out)))["scenes"][0]["transform"][2::3]
    lon, lat = Transformer.from_crs("EPSG:32633", "OGC:CRS84", always_xy=True).transform(x + 40, y - 40)
    for given in ([], [f"{server}/alpha.tif{SIGNED}"]):
        made = CliRunner().invoke(app, ["report", str(out), *given])
        assert made.exit_code == 0, made.output
        assert shows_a_picture(out / "report.html") is bool(given)
        assert ("t2s report OUT with the signed address" in (out / "report.html").read_text()) is not bool(given)
        told = CliRunner().invoke(app, ["explain", str(out), *given, "--at", f"{lon},{lat}", "--html", str(why)])
        assert told.exit_code == 0, told.output
        assert ("data:image/webp" in why.read_text()) is bool(given)
        assert_secret_is_nowhere(tmp_path / "out", made.output, told.output, why.read_text())
    wrong = CliRunner().invoke(app, ["report", str(out), f"{server}/beta.tif{SIGNED}"])
    assert isinstance(wrong.exception, BadInput)
    assert str(wrong.exception) == f"{server}/beta.tif: none of the run's scenes; it has {server}/alpha.tif"


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
