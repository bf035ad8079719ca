"""What a person at a terminal sees: the screen itself, of the command in a pseudo-terminal."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
from regions import WATER, draw_scene, make_models
from terminals import in_terminal


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A run of three scenes."""
    folder = tmp_path_factory.mktemp("terminal")
    models = make_models(folder)
    scenes = [draw_scene(folder / f"{name}.tif", seed=n) for n, name in enumerate(("alpha", "beta", "gamma"))]
    named = ["--prompter", models.prompter, "--segmenter", models.segmenter, "--batch-tiles", "2"]
    return ["segment", *scenes, "--query", WATER, "--direct", "--device", "cpu", *named]


@pytest.mark.parametrize(("columns", "environment"), [(80, {}), (50, {"NO_COLOR": "1"})])
def test_progress_is_a_few_lines_that_are_gone_at_the_end(
    asked: list[object], tmp_path: Path, columns: int, environment: Mapping[str, str]
) -> None:
    with in_terminal([*asked, "--out", tmp_path / "out"], environment, columns=columns) as terminal:
        seen = terminal.see(lambda screen: "gamma" in screen and "━" in screen)
        assert len([line for line in seen.splitlines() if "━" in line]) <= 3  # two scenes at a time, and all of them
        assert re.search(r"scenes .*\d/3 done", seen)
        assert terminal.end() == 0
    assert "━" not in terminal.shown
    done = " ".join(terminal.shown.split())
    assert "segment 27 tile-queries in" in done
    assert "publish 3 layers in" in done
    assert "SUCCESS: 3 scenes" in done
    assert not terminal.screen.cursor.hidden
    assert bool(terminal.colours) == (not environment)


def test_a_terminal_that_cannot_draw_gets_lines(asked: list[object], tmp_path: Path) -> None:
    with in_terminal([*asked, "--out", tmp_path / "out"], {"TERM": "dumb"}) as terminal:
        assert terminal.end() == 0
    assert b"\x1b" not in terminal.written
    assert re.search(
        rb"\d\d:\d\d:\d\d segment (alpha|beta): 0 of 9 tile-queries; 0 of 3 scenes are done", terminal.written
    )


def test_ctrl_c_leaves_a_run_that_the_said_command_finishes(asked: list[object], tmp_path: Path) -> None:
    """Its workers are processes of their own, which the terminal tells, too."""
    out = tmp_path / "out"
    given = [*asked, "--out", out, "--fresh", "--workers", 1]
    with in_terminal(given, here=False) as terminal:
        terminal.see(lambda screen: re.search(r"segment .* [1-9]\d?/9", screen) is not None)
        terminal.press(b"\x03")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    said = re.search(r"interrupted; what was finished is kept. To go on: t2s (.*)\r\n", terminal.written.decode())
    assert said is not None, terminal.shown
    assert "--fresh" not in said[1]
    assert "━" not in terminal.shown
    with in_terminal(["status", out]) as terminal:
        assert terminal.end() == 0
    assert "INTERRUPTED" in terminal.shown
    with in_terminal(shlex.split(said[1])) as terminal:
        assert terminal.end() == 0
    assert "SUCCESS: 3 scenes" in terminal.shown
    assert (out / "report.html").exists()
