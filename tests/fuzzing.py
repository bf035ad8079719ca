"""Readers of what others wrote, fed with changed examples: `python tests/fuzzing.py [READER ...] --cases N --seed S`.

Each reader has examples and a law. A case is an example with a few pieces cut, doubled, swapped, or replaced by what
has hurt parsers before. The first case that breaks a law is shown: its seed and number say it again.

`--guided` lets Atheris (`make guided-fuzz` brings it) choose the changes for one reader, by the lines that they reach.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import shapely
import yaml
from fakes import fake_profile, reply_text

from flows.request import RunRequest
from flows.run_file import requested
from pipeline.aoi import Aoi, read_aoi
from pipeline.areas import Area
from pipeline.inputs import Wanted, expand
from pipeline.manifest import NAME, SCHEMA_VERSION, read_manifest
from pipeline.queries import parse_queries
from pipeline.storage import Store
from pipeline.texts import yaml_value
from pipeline.training import read_settings
from t2s_core.errors import BadInput
from t2s_core.prompts import InstancePrompt
from t2s_core.replies import Answer, Unparsable, parse_reply, reply_format

SECONDS_PER_CASE = 10
"""A thousand times what the longest takes."""
PROFILES = (fake_profile(), fake_profile(coordinates="permille", max_instances=3))
_HOSTILE = [
    b"", b"\0", b"\xff", b"\xc3(", b"\xed\xa0\x80", b"[", b"]", b"{", b"}", b'"', b"'", b":", b",", b"-", b"#",
    b"&a ", b"*a", b"\n", b"\t", b"\r\n", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"null", b"true", b"9" * 400,
    b"9" * 5_000, b"-0", b"0x1F", b"../../x", b"C:\\con", b"\xe2\x80\xae", b"\xef\xbb\xbf", b"<think>", b"</think>",
    b"<answer>", b"</answer>", b"```json\n", b"[" * 2_000, b"{" * 2_000, b'{"a":' * 1_500,
    b"!!python/object/apply:os.system [id]", b"!!binary x", b"!!set {a}", b"!!omap x", b"<<: ", b"2024-99-99",
    b"2024-01-01T99:99:99Z", b"? [a]\n: b", b"SRID=4326;", b"POLYGON((0 0, 1 0, 1 1, 0 0))", b"http://127.0.0.1:9/",
    b"file:///etc/passwd", b"\x1b[31m", b"%s%n{0.__class__}", b"{query}", b"1" + b",1" * 500,
]  # fmt: skip
"""What has hurt parsers before."""


@dataclass(frozen=True)
class Reader:
    """What reads, from what it is fed, and what has to hold."""

    examples: Sequence[bytes]
    check: Callable[[bytes], Any]
    """Raises where a law is broken."""


def mutated(draw: random.Random, examples: Sequence[bytes]) -> bytes:
    """One example with one to four changes."""
    data = draw.choice(examples)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        a, b = sorted((draw.randint(0, len(data)), draw.randint(0, len(data))))
        b = min(b, a + draw.choice((0, 1, 1, 4, 16, 200)))
        change = draw.randrange(7)
        if change == 0:
            data = data[:a] + data[b:]
        elif change == 1:
            data = data[:b] + data[a:b] * draw.choice((1, 2, 30)) + data[b:]
        elif change == 2:
            data = data[:a] + draw.choice(_HOSTILE) + data[b:]
        elif change == 3:
            data = data[:a] + bytes(draw.randrange(256) for _ in range(draw.randint(1, 4))) + data[b:]
        elif change == 4:
            data = data[:a]
        elif change == 5:
            other = draw.choice(examples)
            data = data[:a] + other[draw.randint(0, len(other)) :]
        elif data:
            at = draw.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    return data[:50_000]


def check_reply(data: bytes) -> None:
    """Never raises, says the same twice, stays in the frame and within bounds."""
    text = data.decode("utf-8", "surrogateescape")
    profile, truncated = PROFILES[len(text) % 2], bool(len(text) & 2)
    answer = parse_reply(text, truncated=truncated, profile=profile)
    assert isinstance(reply_format(text, profile=profile).tags_ok, bool)
    assert len(answer.reasoning) <= len(text)
    if isinstance(answer, Unparsable):
        assert 0 < len(answer.reason) < 300
        assert answer.truncated == truncated
        return
    assert isinstance(answer, Answer)
    side = profile.reply_px
    assert len(answer.instances_model_px) <= profile.max_instances
    assert sum(map(len, answer.dropped)) < 6_000
    for instance in answer.instances_model_px:
        x0, y0, x1, y1 = instance.box
        assert 0 <= x0 < x1 <= side
        assert 0 <= y0 < y1 <= side
        assert 1 <= len(instance.points) <= profile.points_per_instance
        assert all(0 <= x < side and 0 <= y < side for x, y in instance.points)
    if answer.instances_model_px and len(text) % 16 == 0:  # what was read, written again, is read as the same
        again = parse_reply(reply_text(answer.instances_model_px), truncated=False, profile=profile)
        assert isinstance(again, Answer)
        assert again.instances_model_px == answer.instances_model_px


def or_bad_input(call: Callable[[], Any]) -> Any:
    """What `call` gives; None where it is `BadInput`, which is checked to be lines that can be read."""
    problems: Sequence[str] | None = None
    try:
        found = call()
    except BadInput as error:
        problems, found = error.problems, None
    assert problems is None or problems
    for problem in problems or ():
        assert problem
        assert "\n" not in problem, problem
        assert len(problem) < 2_000, problem
    return found


def replies() -> Reader:
    a = InstancePrompt((10.0, 20.0, 60.0, 80.0), ((30.0, 40.0), (35.0, 50.0)))
    b = InstancePrompt((100.5, 120.0, 160.0, 180.0), ((130.0, 140.0), (135.0, 150.0)))
    texts = [reply_text([]), reply_text([a]), reply_text([a, b]), reply_text([b] * 4, "Two roads, [no] {lake}.")]
    texts.append('[{"bbox": [60, 80, 10, 20], "points": [[30, 40]], "label": "roof"}]')
    return Reader([text.encode() for text in texts], check_reply)


def in_file(folder: Path, name: str, call: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    path = folder / name

    def check(data: bytes) -> Any:
        path.write_bytes(data)
        return or_bad_input(lambda: call(path))

    return check


def query_files(folder: Path, suffix: str) -> Reader:
    entries: list[Any] = ["the lake", {"query": "roofs", "query_id": "r", "threshold": 0.3, "mode": "instance"}]
    examples = {
        "json": [json.dumps(entries), json.dumps({"queries": entries})],
        "yaml": [
            "- the lake\n- {query: roofs, query_id: r, threshold: 0.3}\n",
            "queries:\n  - query: a\n    label: b\n",
        ],
        "csv": ['query,query_id,threshold\nthe lake,l,0.3\n"a, b",,\n'],
    }

    def call(path: Path) -> None:
        for query in parse_queries([], path):
            assert query.query_id.isascii()
            assert not set("/\\.") & set(query.query_id)
            assert "\n" not in query.text

    return Reader([text.encode() for text in examples[suffix]], in_file(folder, f"q.{suffix}", call))


def settings(folder: Path) -> Reader:
    examples = [b"steps: 500\nlora: {r: 8, alpha: 16}\ndtype: bfloat16\n", b"seed: 1\nwatch:\n  max_kl: 3.5\n"]
    return Reader(examples, in_file(folder, "s.yaml", read_settings))


def run_files(folder: Path) -> Reader:
    questions = ["the lake", {"query": "roofs", "threshold": 0.6, "mode": "instance"}]
    search = {"api": "https://host/stac", "collections": ["naip"], "bbox": [10.5, 50, 11, 50.5], "limit": 5}
    examples: list[dict[str, Any]] = [
        {"scenes": ["a.tif", "s3://b/c/"], "queries": questions, "out": "o", "levels": [1, 4], "bands": "3,2,1",
         "max_failed": "5%", "cluster": "tcp://x:1"},
        {"env": ["HOME"], "stac": search, "out": "${HOME}/runs", "query": ["the lake"], "skip_bad_scenes": True},
    ]  # fmt: skip

    def call(path: Path) -> None:
        assert isinstance(requested(str(path)), RunRequest)

    return Reader([yaml.safe_dump(example).encode() for example in examples], in_file(folder, "run.yaml", call))


def areas(folder: Path, suffix: str) -> Reader:
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    feature = {"type": "Feature", "properties": {"a": 1}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    examples = {
        "geojson": [json.dumps({"type": "FeatureCollection", "features": [feature]}), json.dumps(feature)],
        "wkt": ["SRID=4326;POLYGON((0 0, 1 0, 1 1, 0 0))", "SRID=32633;MULTIPOLYGON(((0 0, 9 0, 9 9, 0 0)))"],
    }

    def call(path: Path) -> None:
        found = read_aoi(str(path))
        assert isinstance(found, Aoi)
        assert found.geometry.is_valid
        assert not found.geometry.is_empty

    return Reader([text.encode() for text in examples[suffix]], in_file(folder, f"a.{suffix}", call))


def manifests(folder: Path) -> Reader:
    scene = {
        "scene_id": "alpha", "href": "/a.tif", "etag": "0", "crs": "EPSG:32633", "shape": [10, 20], "bands": [1, 2, 3],
        "transform": [2.0, 0.0, 5e5, 0.0, -2.0, 4e6], "dtype": "uint8", "nodata": {"kind": "none", "value": None},
        "datetime": None, "warped": False,
    }  # fmt: skip
    query = {"query_id": "lake", "text": "the lake"}
    document = {
        "schema_version": SCHEMA_VERSION, "status": "SUCCESS", "scenes": [scene],
        "queries": [{"query_id": "lake", "query": "the lake"}], "spec": {"scenes": ["/a.tif"], "queries": [query]},
    }  # fmt: skip

    def call(path: Path) -> None:
        found = read_manifest(Store.at(str(path.parent)))
        assert found is not None
        names = [
            *(s["scene_id"] for s in found.get("scenes", [])),
            *(q.get("query_id") for q in found.get("queries", [])),
        ]
        assert not any(set("/\\.") & set(name) for name in names if name is not None)

    return Reader([json.dumps(document).encode()], in_file(folder, NAME, call))


def items(folder: Path) -> Reader:
    asset = {"href": "a.tif", "type": "image/tiff", "roles": ["data"]}
    item = {"type": "Feature", "stac_version": "1.0.0", "id": "i", "properties": {"datetime": "2024-05-01T00:00:00Z"}}

    def call(path: Path) -> None:
        found = expand(str(path), wanted=Wanted(bands=("red",), area=Area(shapely.box(0, 0, 2, 3))))
        assert found.sources or found.problems or found.n_outside
        assert all(problem and "\n" not in problem for _, problem in found.problems)
        assert all("://" not in source.href for source in found.sources), "no host was named"

    catalog = {"type": "Catalog", "stac_version": "1.1.0", "id": "c", "links": [{"rel": "child", "href": "./i.json"}]}
    named = {"b": {**asset, "href": "b.tif", "eo:bands": [{"name": "B04", "common_name": "red"}]}}
    documents = [
        item | {"assets": {"a": asset}},
        item | {"bbox": [1, 2, 3, 4], "assets": {"a": asset, **named}},
        catalog,
    ]
    return Reader([json.dumps(document).encode() for document in documents], in_file(folder, "i.json", call))


READERS: dict[str, Callable[[Path], Reader]] = {
    "replies": lambda _: replies(),
    "queries.json": lambda folder: query_files(folder, "json"),
    "queries.yaml": lambda folder: query_files(folder, "yaml"),
    "queries.csv": lambda folder: query_files(folder, "csv"),
    "settings": settings,
    "run.yaml": run_files,
    "areas.geojson": lambda folder: areas(folder, "geojson"),
    "areas.wkt": lambda folder: areas(folder, "wkt"),
    "manifests": manifests,
    "items": items,
}


def fuzz(name: str, folder: Path, n_cases: int, seed: int = 0, seconds: int | None = None) -> None:
    """Raises `AssertionError` with the case at the first that breaks the reader's law.

    `seconds`: after so many a case counts as endless.
    """
    reader = READERS[name](folder)
    draw = random.Random(seed)
    for example in reader.examples:
        reader.check(example)
    for number in range(n_cases):
        data = mutated(draw, reader.examples)
        if seconds is not None:
            signal.alarm(seconds)
        try:
            reader.check(data)
        except BaseException as error:
            raise AssertionError(f"{name}, seed {seed}, case {number}: {data[:3_000]!r}") from error
    if seconds is not None:
        signal.alarm(0)


def fuzz_guided(name: str, folder: Path, n_cases: int, seed: int) -> None:
    """Raises with the first case that breaks a law; Atheris writes it to a file and ends the process."""
    import atheris

    reader, corpus = READERS[name](folder), folder / "corpus"
    corpus.mkdir()
    for number, example in enumerate(reader.examples):
        (corpus / str(number)).write_bytes(example)
    for function in (parse_reply, parse_queries, yaml_value, read_settings, read_aoi, read_manifest, expand):
        # all functions of these modules
        for value in vars(sys.modules[function.__module__]).values():
            if isinstance(value, FunctionType) and value.__module__ == function.__module__:
                value.__code__ = atheris.instrument_func(value).__code__
    options = [
        f"-runs={n_cases}",
        f"-seed={seed + 1}",
        "-max_len=50000",
        f"-timeout={SECONDS_PER_CASE}",
        "-rss_limit_mb=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], reader.check)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"all of {', '.join(READERS)} by default")
    parser.add_argument("--cases", type=int, default=1_000_000, help="of replies; a fiftieth of it of each other")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="by coverage, with Atheris; one reader")
    given = parser.parse_args()
    if given.guided:
        with tempfile.TemporaryDirectory() as folder:
            fuzz_guided(*given.readers, Path(folder), given.cases, given.seed)
        return
    for name in given.readers or READERS:
        n_cases = given.cases if name == "replies" else given.cases // 50
        start_s = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            fuzz(name, Path(folder), n_cases, given.seed, SECONDS_PER_CASE)
        sys.stdout.write(f"{name}: {n_cases:,} cases in {time.perf_counter() - start_s:.0f} s, no law broken\n")


if __name__ == "__main__":
    main()
