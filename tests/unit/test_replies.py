import json
import time

import pytest
from fakes import fake_profile, reply_text
from hypothesis import example, given
from hypothesis import strategies as st

from t2s_core.prompts import InstancePrompt
from t2s_core.replies import DUPLICATE_IOU, Answer, Unparsable, box_iou, parse_reply, reply_format

PROFILE = fake_profile()
SIDE = PROFILE.reply_px
A = InstancePrompt((10.0, 20.0, 60.0, 80.0), ((30.0, 40.0), (35.0, 50.0)))
B = InstancePrompt((100.0, 120.0, 160.0, 180.0), ((130.0, 140.0), (135.0, 150.0)))


def parse(text: str, *, truncated: bool = False) -> Answer | Unparsable:
    return parse_reply(text, truncated=truncated, profile=PROFILE)


def instances(text: str, *, truncated: bool = False) -> tuple[InstancePrompt, ...]:
    answer = parse(text, truncated=truncated)
    assert isinstance(answer, Answer), answer
    return answer.instances_model_px


def entry(box: object = (10, 20, 60, 80), points: object = ((30, 40), (35, 50))) -> str:
    return json.dumps({"bbox_2d": box, "positive_points": points})


@st.composite
def separate_instances(draw: st.DrawFn) -> list[InstancePrompt]:
    """Instances in cells of a grid, so that none duplicates another."""
    cells = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), unique=True, max_size=10))
    out = []
    for column, row in cells:
        x0, y0 = column * 32 + draw(st.integers(0, 10)), row * 32 + draw(st.integers(0, 10))
        x1, y1 = x0 + draw(st.integers(1, 20)), y0 + draw(st.integers(1, 20))
        points = draw(st.lists(st.tuples(st.floats(x0, x1), st.floats(y0, y1)), min_size=1, max_size=2))
        out.append(InstancePrompt((float(x0), float(y0), float(x1), float(y1)), tuple(points)))
    return out


json_noise = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
objects = st.fixed_dictionaries({}, optional={"bbox_2d": json_noise, "positive_points": json_noise, "x": json_noise})
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "```json", "```"]
JSON = ["[", "]", "{", "}", ",", ":", "1", "-9", "NaN", "true", "1e300", "\\", '"', " ", "[1,2,3,4]", "[[1,2],[3,4]]"]
PIECES = [*TAGS, *JSON, '"bbox_2d"', '"positive_points"']
near_misses = st.lists(st.sampled_from([*PIECES, entry()]), max_size=40).map("".join)
texts = st.text(max_size=200) | near_misses | st.lists(objects, max_size=4).map(json.dumps)


@given(text=texts, truncated=st.booleans())
@example(text='{"bbox_2d":[1e300,2,3,Infinity],"positive_points":[[NaN,1]]}', truncated=False)
@example(text="{" + '"bbox_2d":' + "9" * 3000 + "}", truncated=False)
@example(text="{0", truncated=False)
def test_never_raises_and_never_leaves_the_frame(text: str, *, truncated: bool) -> None:
    answer = parse(text, truncated=truncated)
    reply_format(text, profile=PROFILE)
    if isinstance(answer, Unparsable):
        assert answer.reason
        return
    assert len(answer.instances_model_px) <= PROFILE.max_instances
    for instance in answer.instances_model_px:
        x0, y0, x1, y1 = instance.box
        assert 0 <= x0 < x1 <= SIDE
        assert 0 <= y0 < y1 <= SIDE
        assert 1 <= len(instance.points) <= PROFILE.points_per_instance
        assert all(0 <= x < SIDE and 0 <= y < SIDE for x, y in instance.points)


@given(
    st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 4), max_size=5),
    st.tuples(st.floats(), st.floats()),
)
def test_any_coordinates_stay_in_the_frame(boxes: list[tuple[float, ...]], point: tuple[float, float]) -> None:
    text = "[" + ",".join(entry(box, [point, (1, 1)]) for box in boxes) + "]"
    test_never_raises_and_never_leaves_the_frame.hypothesis.inner_test(text, truncated=False)


@given(separate_instances(), st.text(max_size=30).filter(lambda t: "<" not in t))
def test_valid_replies_round_trip(wanted: list[InstancePrompt], thought: str) -> None:
    text = reply_text(wanted, thought)
    answer = parse(text)
    assert isinstance(answer, Answer)
    assert answer.instances_model_px == tuple(wanted)
    assert answer.reasoning == thought.strip()
    assert answer.dropped == ()


@given(separate_instances(), st.data())
def test_a_prefix_of_a_reply_gives_a_prefix_of_its_instances(wanted: list[InstancePrompt], data: st.DataObject) -> None:
    text = reply_text(wanted)
    cut = data.draw(st.integers(0, len(text)))
    answer = parse(text[:cut], truncated=True)
    if isinstance(answer, Unparsable):
        assert answer.truncated
        assert text[:cut].count("}") == 0
    else:
        assert answer.instances_model_px == tuple(wanted)[: text[:cut].count("}")]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(1, 50)), max_size=80))
def test_no_two_kept_boxes_are_near_duplicates(squares: list[tuple[int, int, int]]) -> None:
    text = "[" + ",".join(entry((x, y, x + s, y + s), ((x, y),)) for x, y, s in squares) + "]"
    kept = instances(text)
    assert all(box_iou(a.box, b.box) <= DUPLICATE_IOU for i, a in enumerate(kept) for b in kept[:i])
    assert len(kept) <= PROFILE.max_instances
    assert bool(kept) == bool(squares)


@pytest.mark.parametrize("text", ["[]", "<think>none</think><answer>[]</answer>", "```json\n[ ]\n```", "[]]", "So: []"])
def test_no_target(text: str) -> None:
    assert instances(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing here",
        "[",
        "null",
        "{}",
        "[{}]",
        "<think>[]",
        "a[0] and b[] and c[1]",
        "[[1,2,3,4]]",
        "<answer>",
        "][",
    ],
)
def test_unparsable_is_not_no_target(text: str) -> None:
    assert isinstance(parse(text), Unparsable)


@pytest.mark.parametrize(
    "text",
    [
        f"[{entry()}]",
        f"[{entry()}",
        f"{entry()}]",
        entry(),
        f"[{entry()}]]",
        f"[[{entry()}]",
        f"Sure! Here [it] is:\n```json\n[{entry()}]\n```\nAnything else?",
        "<answer>[" + entry()[:-2] + "}]</answer>",  # a missing ]
        "<answer>[" + entry()[:-1] + "]}]</answer>",  # a stray ]
        "<answer>[" + entry()[:-1] + "]</answer>",  # a missing }
        "<answer>\n```json\n[" + entry()[:-1] + "]\n```\n</answer>",
        '[{"bbox": [60, 80, 10, 20], "points": [[30, 40], [35, 50]], "label": "roof"}]',
        '[{"bbox_2d": [10, 20, 60, 80, "positive_points": [[30, 40], [35, 50]]}]',
    ],
)
def test_small_slips_survive(text: str) -> None:
    assert instances(text) == (A,)


def test_a_missing_brace_before_the_next_object_survives_even_when_cut_off_later() -> None:
    first, second = entry()[:-1], entry(B.box, B.points)
    assert instances(f"[{first}, {second}, ", truncated=True) == (A, B)


def test_a_truncated_list_says_so() -> None:
    answer = parse(reply_text([A, B])[:-60], truncated=True)
    assert isinstance(answer, Answer)
    assert answer.instances_model_px == (A,)
    assert any("cut off" in line for line in answer.dropped)


def test_numbers_cut_in_half_are_never_used() -> None:
    text = '<answer>[{"bbox_2d":[10,20,60,80],"positive_points":[[30,40],[35,5'
    for cut in range(len(text)):
        assert isinstance(parse(text[:cut], truncated=True), Unparsable)


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((5, 5, 5, 9), "empty"),
        ((300, 300, 400, 400), "empty"),
        ((1, 2, 3), "four finite"),
        ((1, 2, 3, True), "four finite"),
        ((1, 2, 3, "4"), "four finite"),
        ((1, 2, 3, 1e300), "four finite"),
        ((1, 2, 3, float("nan")), "four finite"),
        (None, "four finite"),
    ],
)
def test_bad_boxes_are_dropped_with_their_reason(box: object, why: str) -> None:
    alone = parse(f"[{entry(box)}]")
    assert isinstance(alone, Unparsable)
    assert why in alone.reason
    answer = parse(f"[{entry(box)}, {entry(B.box, B.points)}]")
    assert isinstance(answer, Answer)
    assert answer.instances_model_px == (B,)
    assert why in answer.dropped[0]


def test_points_are_never_invented() -> None:
    assert isinstance(parse(f"[{entry(points=())}]"), Unparsable)
    assert isinstance(parse('[{"bbox_2d": [1, 2, 30, 40]}]'), Unparsable)
    assert isinstance(parse(f"[{entry(points=(('a', 1), (None, 2)))}]"), Unparsable)
    assert instances(f"[{entry(points=(('a', 1), (30, 40)))}]")[0].points == ((30.0, 40.0),)
    assert instances(f"[{entry(points=((300, -4), (30, 40), (9, 9)))}]")[0].points == ((255.5, 0.0), (30.0, 40.0))


def test_the_larger_of_two_near_duplicates_is_kept() -> None:
    small, large = entry((12, 22, 58, 78)), entry()
    assert instances(f"[{small}, {large}]") == instances(f"[{large}, {small}]") == (A,)


def test_permille_replies_are_read_in_their_own_frame() -> None:
    answer = parse_reply(
        entry((0, 0, 1000, 999), ((999, 500),)), truncated=False, profile=fake_profile(coordinates="permille")
    )
    assert isinstance(answer, Answer)
    assert answer.instances_model_px[0].box == (0.0, 0.0, 1000.0, 999.0)


@pytest.mark.parametrize(
    "unit", ["[", "]", "{", "}", "[]", "{}", '{"', "[{", "<think>", "<answer>[", '{"bbox_2d":[', " ", '"a":', entry()]
)
def test_floods_take_linear_time_and_do_not_recurse(unit: str) -> None:
    started = time.perf_counter()
    for text in (unit * 1_000_000, "[" + unit * 30_000 + "</answer>"):
        parse(text)
        reply_format(text, profile=PROFILE)
    assert time.perf_counter() - started < 10  # a quadratic parser would take hours


def test_reasons_are_bounded() -> None:
    answer = parse("[" + entry() + ",{}" * 10_000 + "]")
    assert isinstance(answer, Answer)
    assert len(answer.dropped) < 30


def test_reply_format_is_strict() -> None:
    good = reply_format(reply_text([A]), profile=PROFILE)
    assert good.tags_ok
    assert good.schema_ok
    assert reply_format(reply_text([]), profile=PROFILE) == good
    one_point = InstancePrompt(A.box, A.points[:1])
    assert not reply_format(reply_text([one_point]), profile=PROFILE).schema_ok
    assert reply_format(reply_text([one_point]), profile=PROFILE).tags_ok
    assert not reply_format("Well, " + reply_text([A]), profile=PROFILE).tags_ok
    assert not reply_format("<answer></answer><think></think>", profile=PROFILE).tags_ok
    assert reply_format(f"[{entry()}]", profile=PROFILE) == type(good)(tags_ok=False, schema_ok=True)
    assert not reply_format(f"[{entry()}", profile=PROFILE).schema_ok
