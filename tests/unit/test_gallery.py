import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from example_sets import SAMPLES, ListedExamples, example, rectangle, says, with_valid
from fakes import BoxSegmenter, ScriptedPrompter, fake_profile
from PIL import Image

from t2s_core.training.evaluate import Evaluation, Setting, evaluate
from t2s_core.training.examples import Example
from t2s_core.training.gallery import NEGATIVE, PREDICTED, PROMPT, TRUTH, page, picture
from t2s_core.training.prompt_kinds import PromptKind

EVIL = '</pre><script src="https://example.org/x.js">alert(1)</script><img src=x onerror=alert(1)>'


def run(examples: list[Example], reply: str, kind: str = "box+points") -> Evaluation:
    prompter = ScriptedPrompter(lambda _k, _q: reply, fake_profile(model_px=64, tile_px=64))
    settings = [Setting(BoxSegmenter(), PromptKind.parse(kind))]
    return evaluate(prompter, settings, ListedExamples(examples, name="<b>set</b>"), n_worst=5)[0]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))


def parsed(html: bytes) -> Tags:
    tags = Tags()
    tags.feed(html.decode())
    return tags


def test_the_page_holds_the_worst_cases_and_loads_nothing() -> None:
    html = page(run(SAMPLES[:3], says((0, 0, 32, 16), thought="It is blue.")))
    tags = parsed(html)
    images = [attributes["src"] or "" for tag, attributes in tags.found if tag == "img"]
    assert len(images) == 6
    assert all(src.startswith("data:image/png;base64,") for src in images)
    sizes = [Image.open(io.BytesIO(base64.b64decode(src.partition(",")[2]))).size for src in images[:2]]
    assert sizes == [(64, 64), (512, 512)]
    assert {(a["width"], a["height"]) for tag, a in tags.found if tag == "img"} == {("512", "512")}
    assert not [t for t, a in tags.found if t in {"script", "link", "iframe"} or "href" in a]
    text = html.decode()
    assert "It is blue." in text
    assert "box (0.0, 0.0, 32.0, 16.0) +(1.0, 1.0) +(31.0, 15.0)" in text
    assert re.search(r"1\. IoU 0\.000: the (forest|quay)", text)


def test_everything_that_others_wrote_is_escaped() -> None:
    bad = example(EVIL, EVIL, EVIL, rectangle(0, 0, 5, 5), category=EVIL)
    for reply in (EVIL, says((0, 0, 9, 9), thought=EVIL)):
        html = page(run([bad], reply))
        tags = parsed(html)
        assert "script" not in {tag for tag, _ in tags.found}
        assert not [a for _, a in tags.found if "onerror" in a]
        assert b"&lt;script" in html
        assert b"<b>set</b>" not in html


@pytest.mark.parametrize("side_px", [40, 64, 480, 1000])
def test_pictures_show_truth_prediction_and_prompts_where_they_are(side_px: int) -> None:
    unit = side_px / 40
    box = tuple(round(v * unit) for v in (4, 4, 20, 20))
    x0, y0, x1, y1 = box
    one = Example("a", "a", np.zeros((side_px, side_px, 3), np.uint8), "it", "", rectangle(x0, y0, x1, y1, side_px))
    replied = says(*[tuple(round(v * 64 / 40) for v in (10, 10, 36, 36))])  # type: ignore[arg-type]
    case = run([one], replied).worst[0]
    shown = picture(case, case.answer.prompts_tile_px)
    assert max(shown.shape[:2]) in range(240, 961)
    scale = shown.shape[0] / 40

    def near(x: float, y: float, colour: tuple[int, int, int]) -> bool:
        column, row = round(x * scale), round(y * scale)
        window = shown[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5]
        return bool((window == colour).all(axis=-1).any())

    assert near(4, 12, TRUTH)
    assert near(36, 23, PROMPT)
    assert near(11, 11, PROMPT)
    assert not near(38, 38, PROMPT)
    inside = shown[round(30 * scale), round(30 * scale)]
    assert inside[0] > inside[2] > -1
    assert not shown[round(38 * scale), round(38 * scale)].any()


def test_negatives_are_drawn_and_pixels_that_are_not_valid_are_dark() -> None:
    grey = np.full((64, 64, 3), 200, np.uint8)
    one = with_valid(Example("a", "a", grey, "it", "", rectangle(0, 0, 5, 5)), rectangle(0, 0, 64, 40))
    found = run([one], says((2, 2, 12, 12), (40, 2, 60, 12)), "box+points+negatives")
    case = found.worst[0]
    shown = picture(case, found.kind.altered(case.answer.prompts_tile_px))
    colours = {tuple(int(v) for v in c) for c in shown.reshape(-1, 3)}
    assert {NEGATIVE, PROMPT, TRUTH, PREDICTED} <= colours
    np.testing.assert_array_equal(shown[-1, -1], [50, 50, 50])
    assert b"-(" in page(found)
