"""A slice of `make fuzz`: any bytes are read, or refused in lines; nothing else comes out."""

from pathlib import Path

import pytest
from fuzzing import READERS, fuzz

from pipeline.queries import parse_queries
from t2s_core.errors import BadInput


def test_replies(tmp_path: Path) -> None:
    fuzz("replies", tmp_path, 20_000, seed=1)


@pytest.mark.filterwarnings("ignore:Unsupported geometry type", "ignore:.*RFC 7946")
@pytest.mark.parametrize("name", [name for name in READERS if name != "replies"])
def test_files(tmp_path: Path, name: str) -> None:
    fuzz(name, tmp_path, 400, seed=1)


def test_aliases_that_stand_for_a_billion_values_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (tmp_path / "q.yaml").write_text("\n".join(lines))
    with pytest.raises(BadInput, match="aliases"):
        parse_queries([], tmp_path / "q.yaml")


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    for suffix in ("yaml", "json", "csv"):
        with (tmp_path / f"q.{suffix}").open("wb") as file:
            file.truncate(2**30)
        with pytest.raises(BadInput, match="more than 16 MB"):
            parse_queries([], tmp_path / f"q.{suffix}")
