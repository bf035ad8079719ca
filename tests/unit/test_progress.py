"""Progress in a log: lines at a rate that a person can read."""

import logging
import re

import pytest

from flows import progress
from flows.progress import progress_for


class Clock:
    """Stands for `time.monotonic` of a tally."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made, tally = Clock(), progress.Tally
    monkeypatch.setattr(progress, "Tally", lambda: tally(made))
    return made


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)")


def test_a_log_gets_lines_with_the_time_and_what_is_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_for() as shown:
        shown.expect(2)
        alpha = shown.start("segment", "alpha", 100, 0)
        beta = shown.start("segment", "beta", 50, 0)
        for _ in range(40):
            clock.now_s += 1
            alpha(1)
        beta(10)
        shown.note("something happened")
    said = capsys.readouterr()
    assert said.out == ""
    assert "\x1b" not in said.err
    beta_waits = "segment beta: 0 of 50 tile-queries; 0 of 2 scenes are done"
    lines = [match[1] for match in map(LINE.fullmatch, said.err.splitlines()) if match is not None]
    assert len(lines) == len(said.err.splitlines())
    assert lines == [
        "segment alpha: 0 of 100 tile-queries; 0 of 2 scenes are done",
        f"segment alpha: 15 of 100 tile-queries; {beta_waits}; about 3 min 05 s left",
        f"segment alpha: 30 of 100 tile-queries; {beta_waits}; about 2 min 50 s left",
        "something happened",
        "segment 50 of 150 tile-queries in 40 s",
    ]


@pytest.mark.parametrize(("hours", "at_most"), [(1 / 60, 6), (1, 80), (10, 190), (240, 3000)])
def test_a_long_run_fills_no_log(hours: float, at_most: int, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    steps = 10_000
    with progress_for() as shown:
        advance = shown.start("segment", "alpha", steps, 0)
        for _ in range(steps):
            clock.now_s += hours * 3600 / steps
            advance(1)
    assert 3 <= len(capsys.readouterr().err.splitlines()) <= at_most


def test_many_small_scenes_fill_no_log_either(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_for() as shown:
        shown.expect(1000)
        for number in range(1000):
            for stage in ("segment", "stitch", "vectorise", "publish"):
                clock.now_s += 0.01
                shown.start(stage, f"scene-{number}", 1, 0)(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) < 6
    assert "segment 1,000 tile-queries in" in lines[-1]


def test_where_logs_are_json_lines_are_records(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("T2S_LOG", "json")
    with caplog.at_level(logging.INFO, logger="flows.voice"), progress_for() as shown:
        shown.start("segment", "alpha", 1, 0)(1)
    assert caplog.messages == ["segment alpha: 0 of 1 tile-queries", "segment 1 tile-queries in 1 s"]
    assert capsys.readouterr().err == ""
