"""How far a command is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.tally import Tally, duration


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(clock)


def test_a_stage_is_at_work_until_its_steps_are_done(tally: Tally) -> None:
    part = tally.begin("segment", "alpha", 3, 1)
    assert tally.running == [part]
    assert str(part) == "segment alpha: 1 of 3 tile-queries"
    tally.advance(part, 2)
    assert tally.running == []
    assert tally.n_scenes_done == 0  # other stages follow
    tally.begin("publish", "alpha", 1, 1)
    assert tally.n_scenes_done == 1


def test_a_scene_that_goes_on_is_through_with_its_earlier_stage(tally: Tally) -> None:
    tally.begin("segment", "alpha", 3, 0)  # an area that no tile touches may end it early
    stitch = tally.begin("stitch", "alpha", 2, 0)
    other = tally.begin("segment", "beta", 3, 0)
    assert tally.running == [stitch, other]


def test_what_is_left_follows_from_what_this_command_did(tally: Tally, clock: Clock) -> None:
    tally.n_scenes = 4
    assert tally.left_s() is None
    part = tally.begin("segment", "alpha", 100, 50)  # half was there: it says nothing about how fast this goes
    assert tally.left_s() is None
    clock.now_s = 60.0
    tally.advance(part, 5)
    clock.now_s = 62.0
    tally.advance(part, 5)  # of another worker that began at the same time: both had to load their models
    assert tally.left_s() is None
    clock.now_s = 72.0
    tally.advance(part, 10)
    assert tally.left_s() == pytest.approx(10 / 0.1 * (4 - 0.7))
    assert part.rate(clock.now_s) == pytest.approx(1.0)


def test_a_scene_without_tiles_leaves_nothing_to_do(tally: Tally, clock: Clock) -> None:
    tally.n_scenes = 2
    tally.begin("segment", "alpha", 0, 0)
    part = tally.begin("segment", "beta", 10, 0)
    clock.now_s = 8.0
    tally.advance(part, 1)
    clock.now_s = 16.0
    tally.advance(part, 4)
    assert tally.left_s() == pytest.approx(8 / 0.4 * 0.5)


def test_a_first_look_is_not_the_work_itself(tally: Tally, clock: Clock) -> None:
    part = tally.begin("look", "alpha", 4, 0)
    clock.now_s = 2.0
    tally.advance(part, 4)
    assert tally.left_s() is None


def test_the_summary_counts_time_in_which_at_least_one_scene_was_at_a_stage(tally: Tally, clock: Clock) -> None:
    first = tally.begin("segment", "alpha", 2, 0)
    clock.now_s = 5.0
    second = tally.begin("segment", "beta", 2, 1)
    tally.advance(first, 2)
    clock.now_s = 9.0
    tally.advance(second, 1)
    stitch = tally.begin("stitch", "alpha", 3, 0)
    clock.now_s = 70.0
    tally.advance(stitch, 1)
    assert tally.summary() == ("segment 4 tile-queries (1 of them before) in 9 s, stitch 1 of 3 mosaics in 1 min 01 s")


def test_nothing_done_is_nothing_to_say(tally: Tally) -> None:
    assert tally.summary() == ""


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8), st.floats(0.1, 1e5))
def test_time_that_is_left_is_never_negative_and_ends_at_zero(scenes: list[tuple[int, int]], seconds: float) -> None:
    clock = Clock()
    tally = Tally(clock, n_scenes=len(scenes))
    parts = [tally.begin("segment", str(number), max(of), min(of)) for number, of in enumerate(scenes)]
    clock.now_s = seconds
    for part in parts:
        left_s = tally.left_s()
        assert left_s is None or left_s >= 0
        for _ in range(part.total - part.found):
            tally.advance(part, 1)
    left_s = tally.left_s()
    assert left_s is None or left_s == pytest.approx(0, abs=1e-6 * seconds)
    assert tally.running == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (0.2, "1 s"),
        (59.1, "1 min 00 s"),
        (61.0, "1 min 01 s"),
        (3599.5, "1 h 00 min"),
        (7505.0, "2 h 05 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said
