"""A pickle may hold anything; only plain values are let in, and nothing is run."""

import datetime as dt
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2s_core.errors import BadInput
from t2s_core.training.datasets.plain_pickle import load_plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back_whatever_the_protocol(value: Any, protocol: int) -> None:
    assert load_plain(pickle.dumps(value, protocol), "x") == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_sets_are_plain(protocol: int) -> None:
    assert load_plain(pickle.dumps([{1, 2}, frozenset({3})], protocol), "x") == [{1, 2}, frozenset({3})]


def test_texts_of_python_2_are_read() -> None:
    assert load_plain(b"(lp0\nS'a road'\np1\na.", "x") == ["a road"]
    assert load_plain(b"U\x05caf\xc3\xa9.", "x") == "caf\u00e9"


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "made"
    with pytest.raises(BadInput, match=r"it asks for \w+\.mkdir") as raised:
        load_plain(pickle.dumps([_Runs(target)], protocol), "refs")
    assert not target.exists()
    assert len(raised.value.problems) == 1
    assert "\n" not in raised.value.problems[0]


@pytest.mark.parametrize(
    "value", [np.zeros(2), np.float64(1), OrderedDict(a=1), dt.date(2020, 1, 1), Path("x"), len, print, 1j]
)
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(BadInput, match="asks for"):
        load_plain(pickle.dumps(value), "x")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2, 3])[:-3],
        b"U\x01\xff.",  # no UTF-8
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\nset.__class__\n.",
        b"Pname\n.",  # a persistent id
        b"\x82\x01.",  # an extension
        b"]}h\x07.",  # an unknown memo
        b"]r\xff\xff\xff\x7f.",  # a memo of 2**31 places
    ],
)
def test_what_is_no_plain_pickle_is_bad_input(raw: bytes) -> None:
    with pytest.raises(BadInput, match=r"^refs: is no pickle of plain"):
        load_plain(raw, "refs")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_bad_input(raw: bytes) -> None:
    try:
        load_plain(raw, "x")
    except BadInput as problem:
        assert len(problem.problems) == 1  # noqa: PT017 -- both ways are right
