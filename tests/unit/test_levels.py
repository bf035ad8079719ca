"""Ground sampling distances become overview factors, scene by scene."""

import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from tiffs import draw_tiff, noise, scene_of

from pipeline.levels import gsd_problems, levels_of, said_levels
from pipeline.queries import Query
from pipeline.scenes import Scene
from pipeline.spec import RunSpec


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Scene]:
    """By the side of their pixels in metres."""
    folder = tmp_path_factory.mktemp("scenes")
    return {
        side: scene_of(
            draw_tiff(
                folder / f"of-{side:g}m.tif", noise(3, 8, 8), transform=Affine(side, 0, 500_000, 0, -side, 4_000_000)
            )
        )
        for side in (0.5, 2.0, 10.0)
    }


def spec(gsd_m: float | None = None, levels: tuple[int, ...] = (1,)) -> RunSpec:
    return RunSpec(scenes=("a.tif",), queries=(Query(query_id="q", text="q"),), gsd_m=gsd_m, levels=levels)


@pytest.mark.parametrize(
    ("side", "gsd_m", "levels", "expected"),
    [
        (0.5, None, (1,), (1,)),
        (0.5, None, (4, 1), (1, 4)),
        (0.5, 2.0, (1,), (4,)),
        (0.5, 2.0, (1, 4), (4, 16)),
        (2.0, 2.0, (1,), (1,)),
        (10.0, 30.0, (1,), (4,)),
        (10.0, 25.0, (1,), (2,)),
        (10.0, 2.0, (1, 2), (1, 2)),
    ],
)
def test_the_nearest_factor_is_taken(
    scenes: dict[float, Scene], side: float, gsd_m: float | None, levels: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert levels_of(scenes[side], spec(gsd_m, levels)) == expected


@given(gsd_m=st.floats(0.51, 60))
def test_no_other_factor_is_nearer_in_proportion(scenes: dict[float, Scene], gsd_m: float) -> None:
    (level,) = levels_of(scenes[2.0], spec(gsd_m))
    assert level & (level - 1) == 0
    assert level == 1 or max(gsd_m / (2 * level), 2 * level / gsd_m) < 1.42


def test_impossible_distances_are_problems(scenes: dict[float, Scene]) -> None:
    every = list(scenes.values())
    assert gsd_problems(None, every, (1,), 512) == gsd_problems(2.0, every, (1, 4), 512) == []
    for none in (0.0, -1.0, float("nan"), float("inf")):
        assert "is no size of a pixel" in gsd_problems(none, every, (1,), 512)[0].problem
    assert "px span 10240 scene pixels" in gsd_problems(5.0, every, (1, 2), 640)[0].problem
    (problem,) = gsd_problems(20.0, every, (1, 4), 128)
    assert problem.href == "--gsd"
    assert "gsd=20 makes level 128 of" in problem.problem
    assert problem.problem.endswith("whose pixels are of 0.5 m; at most 64.")


def test_what_was_chosen_is_said(scenes: dict[float, Scene]) -> None:
    lines = said_levels([scenes[0.5], scenes[2.0]], spec(), 512)
    assert lines[0] == "levels of of-0-5m and one other scene: 1 (0.5 m pixels, tiles 256 m wide)"
    assert lines[1:] == [
        (
            "one level of tiles, by the scenes' own pixels, is right where objects fit in a tile; where they are "
            "longer, --levels 1,2 or --levels 1,4 shows them whole, and where they are not it costs precision"
        )
    ]
    assert "by --gsd 4, is right" in said_levels([scenes[2.0]], spec(4.0), 512)[1]
    assert "--levels 2,4 or --levels 2,8 shows" in said_levels([scenes[2.0]], spec(levels=(2,)), 512)[1]
    lines = said_levels(list(scenes.values()), spec(4.0, (1, 4)), 500)
    assert lines[:2] == [
        "levels of of-0-5m: 8 (4 m pixels, tiles 2 km wide), 32 (16 m pixels, tiles 8 km wide)",
        "levels of of-2m: 2 (4 m pixels, tiles 2 km wide), 8 (16 m pixels, tiles 8 km wide)",
    ]
    coarse = "levels of of-10m: 1 (10 m pixels, tiles 5 km wide), 4 (40 m pixels, tiles 20 km wide)"
    assert lines[2:] == [f"{coarse}; its pixels are no finer, so --gsd 4 cannot be had"]
