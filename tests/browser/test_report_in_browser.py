"""The report as people meet it: opened from a file, offline, clicked, and read with a keyboard."""

import json
from pathlib import Path
from typing import Any

import pytest
import shapely
from browsers import Opened
from fakes import reply_text
from regions import TILE_PX, WATER, draw_scene, make_models, run, spec_of
from shapely.geometry import Polygon
from typer.testing import CliRunner

from flows.cli.app import app
from pipeline.manifest import read_run
from pipeline.report import write_report
from pipeline.storage import Store
from pipeline.tiling import TileGrid, TileKey
from t2s_core.prompts import InstancePrompt

EVIL = "<img src=x onerror=alert(1)>"
EVIL_THOUGHT = "</script><script>alert(2)</script> $$x$$ <b onmouseover=alert(3)>I see roads"
GRIDS = {"near": TileGrid(200, 150, TILE_PX, 16), "far": TileGrid(150, 120, TILE_PX, 16)}
TILES = [TileKey(s, 1, row, col) for s, grid in GRIDS.items() for row in range(grid.rows) for col in range(grid.cols)]
FAILED = TileKey("near", 1, 1, 1)
"""Nobody recorded a reply for it."""
BOX = InstancePrompt((6, 8, 44, 50), ((20, 20), (30, 30)))
VIEW = """(() => { const p = Bokeh.documents[0].get_model_by_name('map');
  return [p.x_range.start, p.y_range.start, p.x_range.end, p.y_range.end]; })()"""
CONTROLS = """[...document.querySelectorAll('a[href], button, select, input, summary, [tabindex="0"]')]
  .filter((one) => !one.disabled && one.checkVisibility())"""
FOCUSED = f"""(() => {{ const one = document.activeElement;
  return {{ index: {CONTROLS}.indexOf(one), tag: one.outerHTML.slice(0, 80),
    outline: getComputedStyle(one).outlineStyle,
    name: one.getAttribute('aria-label') || (one.labels && one.labels[0] || one).textContent }}; }})()"""
CONTRASTS = """(() => {
  const luminance = (c) => c.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (one) => { for (; one; one = one.parentElement) {
    const c = parse(getComputedStyle(one).backgroundColor); if (c.length === 3 || c[3] === 1) return c.slice(0, 3); }
    return [255, 255, 255]; };
  return [...document.querySelectorAll('body *')].filter((one) => one.checkVisibility() && !one.closest('#map, script')
    && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
    && !(one.disabled || one.closest(':disabled'))).map((one) => {
    const style = getComputedStyle(one), ink = parse(one.closest('svg') ? style.fill : style.color).slice(0, 3);
    const [low, high] = [luminance(ink), luminance(behind(one))].sort((a, b) => a - b);
    return { contrast: (high + .05) / (low + .05), text: one.textContent.slice(0, 40), ink }; });
})()"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over two scenes in two zones; a query and what the model says are markup; one tile fails."""
    folder = tmp_path_factory.mktemp("browser")
    replies = [
        ("*", WATER, reply_text([BOX], "Blue means water.")),
        *((str(tile), EVIL, reply_text([BOX], EVIL_THOUGHT)) for tile in TILES if tile != FAILED),
    ]
    models = make_models(folder, replies)
    near, far = draw_scene(folder / "near.tif", 150, 200), draw_scene(folder / "far.tif", crs="EPSG:32634", seed=2)
    spec = spec_of(models, near, far, queries=(WATER, EVIL), tile_px=TILE_PX)
    run(spec, folder / "out")
    return folder / "out"


def data_of(page: Any) -> dict[str, Any]:
    return dict(json.loads(page.locator("#t2s-data").text_content()))


def on_screen(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a point of the map is on the page."""
    left, bottom, right, top = page.evaluate(VIEW)
    box = page.locator("#map").bounding_box()
    return (
        box["x"] + (x - left) / (right - left) * box["width"],
        box["y"] + (top - y) / (top - bottom) * box["height"],
    )


def seen(page: Any, query: int) -> tuple[int, tuple[float, float]]:
    """A feature of a query that the map shows: its row in the table, and a point of it on the page."""
    page.locator("#map").scroll_into_view_if_needed()
    data = data_of(page)
    shapes, (left, bottom, right, top) = data["shapes"][query], data["view"]
    for row, xs, ys in zip(shapes["row"], shapes["xs"], shapes["ys"], strict=True):
        rings = [list(zip(*ring, strict=True)) for ring in zip(xs[0], ys[0], strict=True)]
        point = shapely.point_on_surface(Polygon(rings[0], rings[1:]))
        if left < point.x < right and bottom < point.y < top:
            return int(row), on_screen(page, point.x, point.y)
    raise AssertionError("the map shows no feature of this query")


def test_it_opens_offline_without_a_complaint(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    opened.shoot("report")
    assert opened.complaints == []
    assert opened.requests == []
    assert page.title().startswith("t2s r")
    assert page.locator("#map canvas").count() > 0


def test_layers_are_switched_by_their_legend(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    visible = "name => Bokeh.documents[0].get_model_by_name('map').renderers.find(r => r.name === name).visible"
    for name, at_first in (("query-0", True), ("query-1", True), ("tiles", False), ("pictures", True)):
        box = page.locator(f"[data-layer={name}]")
        assert (page.evaluate(visible, name), box.is_checked()) == (at_first, at_first)
        box.focus()
        page.keyboard.press("Space")
        assert page.evaluate(visible, name) is not at_first
    page.get_by_role("button", name="None").click()
    assert not any(page.evaluate(visible, f"query-{i}") for i in range(2))
    page.wait_for_timeout(300)
    opened.shoot("report-layers")
    assert opened.complaints == []


def test_a_click_on_a_feature_says_why_it_was_drawn(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    page.locator("[data-layer=query-1]").click()  # where both lie on each other, the upper one would be hit
    data = data_of(page)
    page.locator("[data-layer=failed]").click()
    row, point = seen(page, 0)
    page.mouse.click(*point)
    page.wait_for_selector("#detail blockquote")
    detail = page.locator("#detail").inner_text()
    assert "Blue means water." in detail
    assert WATER in detail
    assert f"{data['features']['score'][row]:.2f}" in detail
    assert "box" in detail
    drawn = page.evaluate(
        "Bokeh.documents[0].get_model_by_name('map').renderers.find(r => r.name === 'boxes').data_source.data.xs"
    )
    assert len(drawn) == len(data["features"]["prompts"][row]) > 0
    page.wait_for_timeout(300)
    opened.shoot("report-feature")
    assert opened.complaints == []


def test_pointing_at_a_feature_shows_its_score(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    page.locator("[data-layer=query-0]").click()
    page.mouse.move(*seen(page, 1)[1])
    page.wait_for_selector("#tip:not([hidden])")
    tip = page.locator("#tip").inner_text()
    assert EVIL in tip
    assert "score" in tip
    assert opened.complaints == []


def test_a_failed_tile_is_red_and_says_why(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    page.get_by_role("button", name="None").click()
    data = data_of(page)
    assert [data["tiles"]["tile"][i] for i, s in enumerate(data["tiles"]["status"]) if s == "failed"] == [str(FAILED)]
    corners = page.evaluate(
        "(() => { const s = Bokeh.documents[0].get_model_by_name('map').renderers.find(r => r.name === 'failed')"
        ".data_source; return [s.get('xs')[0], s.get('ys')[0]]; })()"
    )
    x, y = (sum(values) / 4 for values in corners)
    page.locator("#map").scroll_into_view_if_needed()
    page.mouse.click(*on_screen(page, x, y))
    detail = page.locator("#detail").inner_text()
    assert str(FAILED) in detail
    assert "holds no reply" in detail
    opened.shoot("report-failed-tile")
    assert opened.complaints == []


def test_texts_are_text_wherever_they_are_shown(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    page.locator("#filter").select_option(label=page.locator("#filter option", has_text=EVIL).inner_text())
    page.locator("#rows button").first.click()
    for place in ("section table", "#layers", "#detail", "#rows", "#gallery", "#command"):
        assert EVIL in page.locator(place).first.inner_text(), place
    assert EVIL_THOUGHT in page.locator("#detail blockquote").inner_text()
    assert page.locator("img").count() == 0
    assert page.locator("b[onmouseover]").count() == 0
    page.wait_for_timeout(300)
    opened.shoot("report-markup-is-text")
    assert opened.complaints == []
    assert opened.requests == []


def test_a_script_that_got_in_would_not_run(out: Path, opened: Opened, tmp_path: Path) -> None:
    """The page's own policy is a second wall behind escaping."""
    html = (out / "report.html").read_text()
    broken = tmp_path / "broken.html"
    broken.write_text(
        html.replace("<main>", "<main><script>document.title='taken'</script><img src=x onerror=alert(1)>")
    )
    page = opened.open(broken)
    assert page.title() != "taken"
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)
    assert not any(complaint.startswith("dialog") for complaint in opened.complaints)


def test_all_of_it_works_with_keys(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    first = page.locator("#rows button").first
    first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail blockquote")
    data = data_of(page)
    shown = page.locator("#detail dd").all_inner_texts()
    assert data["features"]["id"][int(first.get_attribute("data-row") or -1)] in shown
    page.locator("#detail").get_by_role("button", name="Next").focus()
    page.keyboard.press("Enter")
    assert page.locator("#detail dd").all_inner_texts() != shown
    page.locator("#map").focus()
    before = on_screen(page, 0, 0)
    page.keyboard.press("ArrowRight")
    moved = on_screen(page, 0, 0)
    page.keyboard.press("+")
    page.keyboard.press("Home")
    assert moved[0] < before[0]
    left, bottom, right, top = data["all"]
    corner, end = on_screen(page, left, top), on_screen(page, right, bottom)
    box = page.locator("#map").bounding_box()
    assert box["x"] - 1 <= corner[0] < end[0] <= box["x"] + box["width"] + 1
    assert opened.complaints == []


def test_a_picture_of_the_gallery_leads_to_its_place(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    card = page.locator(".card").first
    row = int(card.get_attribute("data-row") or -1)
    card.click()
    x0, y0, x1, y1 = data_of(page)["features"]["box"][row]
    box = page.locator("#map").bounding_box()
    x, y = on_screen(page, (x0 + x1) / 2, (y0 + y1) / 2)
    assert abs(x - box["x"] - box["width"] / 2) < 3
    assert abs(y - box["y"] - box["height"] / 2) < 3
    assert card.get_attribute("aria-current") == "true"


def test_a_telephone_shows_it_without_sideways_scrolling(out: Path, opened: Opened) -> None:
    opened.page.set_viewport_size({"width": 390, "height": 844})
    page = opened.open(out / "report.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.wait_for_timeout(300)
    opened.shoot("report-telephone")
    assert opened.complaints == []


def test_in_print_all_is_there_but_the_buttons(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    on_page, view = page.locator("#map").bounding_box(), page.evaluate(VIEW)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 643, "height": 900})  # 17 cm
    page.wait_for_timeout(300)
    assert not page.locator("#copy").is_visible()
    assert page.locator("#rows").is_visible()
    canvas, on_paper = page.locator("#map canvas").first, page.locator("#map").bounding_box()
    assert canvas.is_visible()
    assert canvas.bounding_box()["width"] <= on_paper["width"] + 2 <= 645
    assert on_paper["width"] / on_paper["height"] == pytest.approx(on_page["width"] / on_page["height"], rel=0.01)
    assert page.evaluate(VIEW) == view
    assert page.evaluate("document.documentElement.scrollWidth") <= 643
    opened.shoot("report-print")


def test_every_control_is_reached_with_tab_has_a_name_and_shows_its_focus(out: Path, opened: Opened) -> None:
    page = opened.open(out / "report.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#features"
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(200):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found["index"] in reached:
            break
        if found["index"] == -1:  # the browser's own, at the end of the page
            continue
        reached.append(found["index"])
        assert found["name"].strip(), found
        assert found["outline"] != "none", found
    assert sorted(reached) == list(range(page.evaluate(f"{CONTROLS}.length")))
    assert opened.complaints == []


def test_all_text_stands_out_from_what_is_behind_it(out: Path, opened: Opened) -> None:
    """By WCAG 2.2, AA: a contrast of 4.5 to 1."""
    page = opened.open(out / "report.html")
    page.locator("#rows button").first.click()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [one for one in found if not one["contrast"] >= 4.5] == []


def test_long_and_many_words_stay_on_the_page(out: Path, opened: Opened, tmp_path: Path) -> None:
    store = Store.at(str(out))
    manifest, long = read_run(store), "Donaudampfschifffahrtselektrizitätenhauptbetriebswerk" * 4
    queries = [{**query, "query": f"{long} {long}", "label": long} for query in manifest["queries"]]
    scenes = [{**entry, "href": f"/{long}/{entry['scene_id']}.tif"} for entry in manifest["scenes"]]
    failures = [{**failure, "reason": long * 3} for failure in manifest["failures"]]
    before = store.read("report.html")
    write_report(store, {**manifest, "queries": queries, "scenes": scenes, "failures": failures})
    page_of = tmp_path / "long.html"
    page_of.write_bytes(store.read("report.html"))
    store.write("report.html", before)
    for width in (1200, 390):
        opened.page.set_viewport_size({"width": width, "height": 900})
        page = opened.open(page_of)
        page.locator("#rows button").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        heads = page.locator(".facts div").evaluate_all("all => all.map((one) => one.scrollWidth - one.clientWidth)")
        assert max(heads) <= 0
    assert opened.complaints == []


def test_the_page_of_explain_shows_what_the_models_saw(out: Path, opened: Opened, tmp_path: Path) -> None:
    report = opened.open(out / "report.html")
    features = data_of(report)["features"]
    row = next(i for i, query in enumerate(features["query"]) if query == 1)
    page = tmp_path / "why.html"
    result = CliRunner().invoke(app, ["explain", str(out), "--feature", features["id"][row], "--html", str(page)])
    assert result.exit_code == 0
    opened.page.goto(page.as_uri())
    tiles = opened.page.locator("svg.tile")
    assert tiles.count() == opened.page.locator("svg.tile image").count() > 0
    assert opened.page.locator("svg.tile .box").count() > 0
    assert EVIL_THOUGHT in opened.page.locator("blockquote").first.inner_text()
    assert EVIL in opened.page.locator("h2").first.inner_text()
    opened.shoot("explain")
    assert (opened.complaints, opened.requests) == ([], [])


def test_the_preview_of_a_plan_shows_its_tiles(out: Path, opened: Opened, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    scenes = [str(out.parent / f"{name}.tif") for name in GRIDS]
    words = ["plan", *scenes, "--query", EVIL, "--tile-px", "64", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--preview", str(page)])
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out").exists()
    shown = opened.open(page)
    assert sorted(data_of(shown)["tiles"]["tile"]) == sorted(map(str, TILES))
    assert EVIL in shown.locator("section table").first.inner_text()
    assert shown.locator("#features").count() == 0
    shown.locator("#map").scroll_into_view_if_needed()
    box = shown.locator("#map").bounding_box()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.wait_for_selector("#tip:not([hidden])")
    assert "planned" in shown.locator("#tip").inner_text()
    opened.shoot("plan")
    assert (opened.complaints, opened.requests) == ([], [])
