"""Bands by name: what a STAC item says of them, else what the file says."""

from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.enums import ColorInterp
from stac_items import COG, band_asset, write_item
from tiffs import draw_tiff, noise

from pipeline import bands
from pipeline.bands import Named
from pipeline.scenes import resolve
from t2s_core.errors import BadInput


def described(path: Path, *names: str | None, colours: tuple[ColorInterp, ...] | None = None) -> Path:
    draw_tiff(path, noise(len(names), 8, 8), **({} if colours is None else {"colorinterp": colours}))
    with rasterio.open(path, "r+") as file:
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)
    return path


@pytest.mark.parametrize(
    ("asset", "expected"),
    [
        (
            {"bands": [{"name": "B04", "eo:common_name": "red"}, {"name": "B08"}]},
            (Named("red", "b04"), Named("", "b08")),
        ),
        ({"eo:bands": [{"name": "B04", "common_name": "Red"}]}, (Named("red", "b04"),)),
        ({"bands": [{"name": "B04"}], "eo:bands": [{"name": "4", "common_name": "red"}]}, (Named("red", "b04"),)),
        ({"eo:common_name": "nir"}, (Named("nir", ""),)),
        ({"bands": [{}, {"eo:common_name": "red"}]}, (Named(), Named("red"))),
        ({"bands": "red"}, ()),
        ({"name": "visual"}, ()),
    ],
)
def test_assets_name_their_bands_in_both_spellings(asset: dict[str, Any], expected: tuple[Named, ...]) -> None:
    assert bands.of_asset(asset) == expected


def test_a_common_name_goes_before_a_name_and_two_of_one_are_refused() -> None:
    found = (Named("nir", "red"), Named("red", "b04"), Named("rededge", "b05"), Named("rededge", "b06"))
    assert [bands.place(name, found) for name in ("RED", "B04", "nir", "B06", "blue")] == [2, 2, 1, 4, None]
    with pytest.raises(BadInput, match=r"2 of its bands are called rededge: .*3 rededge \(b05\), 4 rededge \(b06\)"):
        bands.place("rededge", found)


def chosen(path: Path, *names: str) -> tuple[int, ...] | str:
    found = resolve([str(path)], bands=names)
    return found.scenes[0].bands if found.scenes else found.problems[0].problem


def test_a_file_is_asked_for_its_descriptions_else_for_its_colours(tmp_path: Path) -> None:
    by_name = described(tmp_path / "a.tif", "nir", "Red", "green", "blue")
    assert chosen(by_name, "red", "green", "blue") == (2, 3, 4)
    assert chosen(by_name, "nir") == (1, 1, 1)
    plain = draw_tiff(tmp_path / "b.tif", noise(3, 8, 8), photometric="RGB")
    assert chosen(plain, "blue", "green", "red") == (3, 2, 1)
    free = described(tmp_path / "c.tif", "B8", "B4", "B3")
    assert chosen(free, "b8", "b4", "B3") == (1, 2, 3)


def test_colours_that_descriptions_contradict_are_not_believed(tmp_path: Path) -> None:
    """Every three-band file says red, green, blue; who describes bands knows better."""
    rgb = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    path = described(tmp_path / "a.tif", "nir", "red", "green", colours=rgb)
    assert chosen(path, "red") == (2, 2, 2)
    assert "no band is called blue; it has 1 nir" in str(chosen(path, "blue"))


def test_what_is_not_there_is_a_line_that_lists_what_is(tmp_path: Path) -> None:
    mute = draw_tiff(tmp_path / "a.tif", noise(4, 8, 8), colorinterp=(ColorInterp.undefined,) * 4)
    assert chosen(mute, "red") == "no band is called red; it has 1, 2, 3, 4; give numbers: --bands 3,2,1."
    twice = described(tmp_path / "b.tif", "red", "red")
    assert chosen(twice, "red") == "2 of its bands are called red: 1 red (red), 2 red (red); give numbers."


def test_an_item_s_word_goes_before_the_file_s(tmp_path: Path) -> None:
    draw_tiff(tmp_path / "a.tif", noise(3, 8, 8), photometric="RGB")
    item = write_item(tmp_path / "item.json", {"image": band_asset("a.tif", "nir", "red", "green")})
    assert chosen(item, "nir", "red", "green") == (1, 2, 3)
    assert "no band is called blue; it has 1 nir, 2 red, 3 green" in str(chosen(item, "blue"))
    mute = write_item(tmp_path / "mute.json", {"image": {"href": "a.tif", "type": COG}})
    assert chosen(mute, "blue") == (3, 3, 3), "the item is silent: the file is asked"


def test_how_many_bands_there_may_be(tmp_path: Path) -> None:
    path = draw_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    for wanted in (("red", "green"), (1, 2), (0, 1, 2)):
        (problem,) = resolve([str(path)], bands=wanted).problems
        assert problem.href == "--bands"
