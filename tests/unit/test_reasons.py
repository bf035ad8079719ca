"""One cause is one line, whatever tiles it failed; two causes are two."""

from pipeline.reasons import grouped


def failure(tile: str, reason: str) -> dict[str, str]:
    return {"scene_id": tile.split("/", maxsplit=1)[0], "tile": tile, "query_id": "water", "reason": reason}


def test_what_differs_by_tile_alone_is_one_group_with_an_example() -> None:
    told = [
        failure("alpha/1/0/1", "pixels cannot be read: IReadBlock failed at X offset 0, Y offset 1; window (0, 64, 64, 128); /a.tif"),  # noqa: E501
        failure("alpha/1/7/2", "pixels cannot be read: IReadBlock failed at X offset 3, Y offset 9; window (9, 64, 73, 128); /a.tif"),  # noqa: E501
        failure("alpha/1/8/8", "m@1 holds no reply for tile 'alpha/1/8/8' and query 'x'"),
        failure("beta/1/8/9", "m@1 holds no reply for tile 'beta/1/8/9' and query 'x'"),
        failure("beta/1/9/9", "m@1 holds no reply for tile 'beta/1/9/9' and query 'x'"),
    ]  # fmt: skip
    assert grouped(told) == [
        {"reason": "m@1 holds no reply for tile '*' and query 'x'", "count": 3, "example_tile": "alpha/1/8/8"},
        {
            "reason": "pixels cannot be read: IReadBlock failed at X offset *, Y offset *; window *; /a.tif",
            "count": 2,
            "example_tile": "alpha/1/0/1",
        },
    ]


def test_numbers_that_tell_causes_apart_stay() -> None:
    told = [failure(f"a/1/0/{i}", f"http://gpu7:8000/v1: {status}") for i, status in enumerate((503, 429, 503))]
    assert [(g["reason"], g["count"]) for g in grouped(told)] == [
        ("http://gpu7:8000/v1: 503", 2),
        ("http://gpu7:8000/v1: 429", 1),
    ]


def test_counts_add_up_and_nothing_gives_nothing() -> None:
    assert grouped([]) == []
    told = [failure(f"a/1/{i}/0", f"reason {i % 3}") for i in range(10)]
    assert sum(g["count"] for g in grouped(told)) == 10
