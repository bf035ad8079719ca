from hypothesis import given
from hypothesis import strategies as st

from t2s_core.prompts import Frame, InstancePrompt

sides = st.integers(1, 5000)
frames = st.builds(Frame, sides, sides)
fractions = st.floats(0, 1)


@given(frames, frames, fractions, fractions)
def test_what_is_within_a_frame_stays_within_the_other(source: Frame, target: Frame, u: float, v: float) -> None:
    (a, b), (c, d) = source, target
    x, y = u * a, v * b
    moved = InstancePrompt((x, y, a, b), ((x, y),)).rescaled(source, target)
    assert moved.box[2:] == (c, d)
    assert 0 <= moved.box[0] <= c
    assert 0 <= moved.points[0][1] <= d


def test_each_axis_has_its_own_scale() -> None:
    prompt = InstancePrompt((100, 100, 200, 400), ((150, 300),))
    moved = prompt.rescaled(Frame(1000, 1000), Frame(500, 2000))
    assert moved == InstancePrompt((50, 200, 100, 800), ((75, 600),))
    assert moved.rescaled(Frame(500, 2000), Frame(1000, 1000)) == prompt
