"""Which of a STAC item's assets are the scene, and which items an area of interest leaves out unopened."""

from pathlib import Path
from typing import Any

import pytest
import shapely
from stac_items import COG, COLOURS, band_asset, draw_bands, item_of, sentinel, write_item
from tiffs import draw_tiff, noise

from pipeline.areas import Area
from pipeline.inputs import expand
from pipeline.items import NotAnItem, Source, Wanted, source_of
from pipeline.scenes import resolve

RGB = ("red", "green", "blue")
JP2 = {"type": "image/jp2"}
VISUAL = band_asset("tci.tif", *RGB, roles=["visual"])
BANDS: dict[str, Any] = {key: band_asset(f"{key}.tif", common, name=key) for key, common in COLOURS.items()}
NIR, RED_GREEN = band_asset("n.tif", "nir"), band_asset("rg.tif", "red", "green")
BOTH_FORMATS = {**BANDS, **{f"{key}-jp2": {**asset, **JP2} for key, asset in BANDS.items()}}


def chosen(assets: dict[str, Any], asset: str = "", bands: tuple[Any, ...] | None = None) -> list[str]:
    """Names of the files without their suffix, and numbers or names of bands where there are three."""
    source = source_of(item_of("i", assets), "/x/item.json", Wanted(asset, bands), [])
    assert source is not None
    layers = [f"{Path(layer.href).stem}:{layer.band}" for layer in source.layers]
    return layers or [Path(source.href).stem]


@pytest.mark.parametrize(
    ("assets", "asset", "bands", "expected"),
    [
        (BANDS, "", RGB, ["B04:red", "B03:green", "B02:blue"]),
        (BANDS, "", ("B03", "b04", "Blue"), ["B03:B03", "B04:b04", "B02:Blue"]),
        (BANDS, "", ("red",), ["B04"]),
        (BANDS, "", ("red", "red", "red"), ["B04"]),
        ({**BANDS, "visual": VISUAL}, "", RGB, ["tci"]),
        ({**BANDS, "visual": VISUAL, "nir": NIR}, "", ("nir", *RGB[:2]), ["n:nir", "B04:red", "B03:green"]),
        (BOTH_FORMATS, "", RGB, ["B04:red", "B03:green", "B02:blue"]),
        ({"rg": RED_GREEN, "b": BANDS["B02"]}, "", RGB, ["rg:red", "rg:green", "B02:blue"]),
        (BANDS, "B02,B03,B04", None, ["B02:None", "B03:None", "B04:None"]),
        (BANDS, "B02, B03, B04", (2, 1, 1), ["B02:2", "B03:1", "B04:1"]),
        (BANDS, "B02,B03,B04", (4,), ["B02:4", "B03:4", "B04:4"]),
        ({"a,b,c": band_asset("one.tif", "red"), **BANDS}, "a,b,c", None, ["one"]),
        ({**BANDS, "visual": VISUAL}, "", None, ["tci"]),
        ({**BANDS, "visual": VISUAL}, "B04", RGB, ["B04"]),
        ({"a": {"href": "a.tif", "type": COG}}, "", RGB, ["a"]),
    ],
)  # fmt: skip
def test_assets_are_chosen_by_key_by_band_and_by_what_they_are(
    assets: dict[str, Any], asset: str, bands: tuple[Any, ...] | None, expected: list[str]
) -> None:
    assert chosen(assets, asset, bands) == expected


@pytest.mark.parametrize(
    ("assets", "asset", "bands", "said"),
    [
        (BANDS, "TCI", None, "has no asset TCI; it has B04, B03, B02."),
        (BANDS, "B04,TCI,B02", None, "has no asset TCI; it has B04, B03, B02."),
        (BANDS, "B04,B03", None, "is to be shown by the assets B04,B03, which are not one or three; use e.g. red,"),
        (BANDS, "", None, "has several raster assets (B04, B03, B02); name one: --asset B04."),
        (BANDS, "", ("nir", *RGB[:2]), "with the bands blue (b02), green (b03), red (b04), and not all of nir, red"),
        (
            {"a": band_asset("a.tif", "red"), "b": band_asset("b.tif", "red"), **BANDS}, "", RGB,
            "has several assets with a band red (a, b, B04); name three: --asset A,B,C.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_chosen_is_a_line_with_what_there_is(
    assets: dict[str, Any], asset: str, bands: tuple[Any, ...] | None, said: str
) -> None:
    with pytest.raises(NotAnItem) as refusal:
        chosen(assets, asset, bands)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_file_of_three_must_lie_where_it_may() -> None:
    far = {**BANDS, "B02": band_asset("https://elsewhere.org/B02.tif", "blue")}
    with pytest.raises(NotAnItem, match=r"on elsewhere\.org, which you did not name"):
        chosen(far, "", RGB)
    with pytest.raises(NotAnItem, match=r"on elsewhere\.org, which you did not name"):
        chosen(far, "B02,B03,B04")


def test_the_asset_of_the_command_is_for_all_items_and_that_of_an_input_goes_before_it(tmp_path: Path) -> None:
    draw_bands(tmp_path, 8, 8)
    draw_tiff(tmp_path / "B08.tif", noise(1, 8, 8))
    item = sentinel(tmp_path)
    assert [s.href for s in resolve([str(item)], asset="B03").scenes] == [str(tmp_path / "B03.tif")]
    assert [s.href for s in resolve([f"{item}#B08"], asset="B03").scenes] == [str(tmp_path / "B08.tif")]
    (stacked,) = resolve([f"{item}#B08,B04,B03"]).scenes
    assert [Path(part.href).stem for part in stacked.parts] == ["B08", "B04", "B03"]
    assert len(resolve([f"{item}#B08,B04,B03", f"{item}#B04,B08,B03"]).scenes) == 2
    assert len({s.scene_id for s in resolve([f"{item}#B08,B04,B03", f"{item}#B08,B03,B04"]).scenes}) == 2


def test_a_choice_among_several_is_said_once_for_all_items(tmp_path: Path) -> None:
    draw_bands(tmp_path, 8, 8)
    for name in ("one", "two"):
        write_item(tmp_path / f"{name}.json", {"visual": {"href": "all.tif", "type": COG}, **BANDS}, id=name)
        draw_tiff(tmp_path / f"{name}.tif", noise(3, 8, 8))
    write_item(tmp_path / "two.json", {"visual": {"href": "two.tif", "type": COG}, **BANDS}, id="two")
    found = resolve([str(tmp_path / "*.json")])
    assert found.notes == ("asset visual of visual, B04, B03, B02 is taken for 2 scenes; --asset names another",)
    assert resolve([str(tmp_path / "*.json")], asset="visual").notes == ()
    single = write_item(tmp_path / "single.json", {"a": {"href": "two.tif", "type": COG}})
    assert resolve([str(single)]).notes == ()


AREA = Area(shapely.box(10, 50, 11, 51))


@pytest.mark.parametrize(
    ("changes", "is_outside"),
    [
        ({"bbox": [10.5, 50.5, 12, 52]}, False),
        ({"bbox": [12, 50, 13, 51]}, True),
        ({"bbox": [10.5, 50.5, 0, 12, 52, 900]}, False),
        ({"bbox": [12, 50, 0, 13, 51, 900]}, True),
        ({"geometry": {"type": "Point", "coordinates": [10.5, 50.5]}}, False),
        ({"geometry": {"type": "Point", "coordinates": [20.5, 50.5]}}, True),
        ({}, False),
        ({"bbox": ["a"], "geometry": None}, False),
        ({"bbox": [12, 51, 13, 50]}, False),
        ({"geometry": {"type": "Nonsense"}}, False),
    ],
)
def test_an_item_is_left_out_only_where_it_says_that_it_lies_elsewhere(
    changes: dict[str, Any], is_outside: bool
) -> None:
    item = item_of("i", {"a": {"href": "a.tif", "type": COG}}, **changes)
    assert (source_of(item, "/x/item.json", Wanted(area=AREA), []) is None) is is_outside


def test_items_outside_are_counted_and_nothing_of_them_is_a_problem(tmp_path: Path) -> None:
    write_item(tmp_path / "here.json", {"a": {"href": "a.tif", "type": COG}}, bbox=[10, 50, 10.1, 50.1])
    write_item(tmp_path / "far.json", {}, bbox=[50, 50, 50.1, 50.1])
    found = expand(str(tmp_path / "*.json"), wanted=Wanted(area=AREA))
    assert ([source.name for source in found.sources], found.problems, found.n_outside) == (["here"], [], 1)
    assert isinstance(found.sources[0], Source)
