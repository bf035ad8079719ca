"""`t2s models` and runs that name the champion."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from regions import TILE_PX, WATER, draw_scene, make_models, results, run, spec_of, work_here
from tiny_models import save_qwen2_5_vl

from pipeline.model_registry import Registry
from pipeline.spec import Models, RunSpec
from pipeline.status import run_status
from pipeline.work import InProcess
from t2s_core.errors import BadInput

T = TypeVar("T")
R = TypeVar("R")
N_TILES = 9
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # of the cache
    monkeypatch.delenv("T2S_REGISTRY", raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("trained")
    settings = {"model_px": TILE_PX, "tile_px": TILE_PX, "max_new_tokens": 6}
    return [save_qwen2_5_vl(folder / str(seed), seed=seed, **settings) for seed in range(2)]


@pytest.fixture(params=["local", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    return Registry.at(str(tmp_path / "registry") if request.param == "local" else f"memory://{tmp_path.name}/registry")


@pytest.fixture
def versions(registry: Registry, trained: list[Path]) -> list[str]:
    """Two of them; the first is champion."""
    names = [publish(registry, directory) for directory in trained]
    registry.promote(names[0], "the first")
    return names


def publish(registry: Registry, directory: Path) -> str:
    scores = {"giou": {"value": 0.5, "ci95": [0.4, 0.6]}}
    return registry.publish(
        directory, card="# Small", scores=scores, parent="bundled", data_fingerprint="d1", training={"steps": 3}
    )


@pytest.fixture
def spec(registry: Registry, tmp_path: Path) -> RunSpec:
    segmenter = make_models(tmp_path).segmenter
    models = Models(prompter=f"champion:{registry.store.url}", segmenter=segmenter)
    return spec_of(models, draw_scene(tmp_path / "alpha.tif"))


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process: exit code, stdout, stderr."""
    from flows.cli.app import main

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["t2s", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out, captured.err

    return command


def labels(out: Path) -> set[str]:
    """Prompters of all tile results, without the fingerprint of their files."""
    tables: dict[str, Any] = results(out)
    rows = [row for name, table in tables.items() if name.startswith("tiles/") for row in table]
    return {row["prompter"].partition("+")[0] for row in rows}


def test_a_run_with_the_champion_records_its_version(
    registry: Registry, versions: list[str], spec: RunSpec, tmp_path: Path
) -> None:
    outcome = run(spec, tmp_path / "out")
    assert outcome.computed == N_TILES
    recorded = outcome.manifest["models"]["prompter"]
    assert recorded["name"] == f"registry:{registry.store.url}#{versions[0]}"
    assert recorded["version"].startswith(f"tiny@{versions[0]}+")
    assert outcome.manifest["spec"]["models"]["prompter"] == recorded["name"]
    assert labels(tmp_path / "out") == {f"tiny@{versions[0]}"}
    assert run_status(str(tmp_path / "out"))["tile_queries"]["pending"] == 0


def test_a_newer_champion_is_a_new_model_version_and_the_same_one_is_not(
    registry: Registry, versions: list[str], spec: RunSpec, tmp_path: Path
) -> None:
    run(spec, tmp_path / "out")
    assert run(spec, tmp_path / "out").computed == 0
    registry.promote(versions[1], "better")
    outcome = run(spec, tmp_path / "out")
    assert outcome.computed == N_TILES
    assert outcome.manifest["models"]["prompter"]["version"].startswith(f"tiny@{versions[1]}+")
    fixed = spec.model_copy(
        update={"models": spec.models.model_copy(update={"prompter": f"registry:{registry.store.url}#{versions[0]}"})}
    )
    assert run(fixed, tmp_path / "out").computed == 0  # its results are still there


def test_a_run_never_changes_its_model_half_way(
    registry: Registry, versions: list[str], spec: RunSpec, tmp_path: Path
) -> None:
    class Promoting(InProcess):
        """Another version is promoted while the run is at work."""

        def map(self, function: Callable[[T], R], items: Iterable[T], *, models: bool = False) -> Iterator[R]:
            for n, done in enumerate(super().map(function, items)):
                yield done
                if n == 0:
                    registry.promote(versions[1], "better")

    outcome = run(spec, tmp_path / "out", Promoting())
    assert registry.champion() == versions[1]
    assert labels(tmp_path / "out") == {f"tiny@{versions[0]}"}
    assert outcome.manifest["models"]["prompter"]["version"].startswith(f"tiny@{versions[0]}+")


def test_no_champion_is_a_problem_of_the_input(registry: Registry, spec: RunSpec, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        run(spec, tmp_path / "out")
    assert caught.value.problems == (
        f"--prompter: registry {registry.store.url} has no champion; `t2s models promote` makes one",
    )


def test_segment_takes_the_registry_from_an_option_or_the_environment(
    here: Command,
    registry: Registry,
    versions: list[str],
    spec: RunSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    work_here(monkeypatch)
    out = tmp_path / "out"
    given = [*spec.scenes, "--query", WATER, "--prompter", "champion", "--segmenter", spec.models.segmenter]
    code, _, err = here("plan", *given)
    assert code == 2
    assert "prompter 'champion': promoted where? give --registry URL or set T2S_REGISTRY" in err
    code, text, _ = here("plan", *given, "--registry", registry.store.url, "--json")
    assert (code, json.loads(text)["tiles"]) == (0, N_TILES)
    monkeypatch.setenv("T2S_REGISTRY", registry.store.url)
    code, text, _ = here("segment", *given, "--out", out, "--direct", "--json", "--max-unparsable", "1")
    assert code == 0
    assert json.loads(text)["models"]["prompter"]["name"] == f"registry:{registry.store.url}#{versions[0]}"
    assert labels(out) == {f"tiny@{versions[0]}"}


def test_a_damaged_model_stops_a_run_before_it_starts(
    here: Command, registry: Registry, versions: list[str], spec: RunSpec, tmp_path: Path
) -> None:
    name = f"versions/{versions[0]}/model/model.safetensors"
    content = registry.store.read(name)
    registry.store.write(name, content[:-1] + bytes([content[-1] ^ 1]))
    given = [*spec.scenes, "--query", WATER, "--prompter", "champion", "--registry", registry.store.url]
    code, _, err = here("segment", *given, "--segmenter", spec.models.segmenter, "--out", tmp_path / "out", "--direct")
    assert code == 1
    assert err.startswith("failed: ")
    assert "model.safetensors is damaged" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_list_show_and_promote(here: Command, registry: Registry, versions: list[str]) -> None:
    named = ("--registry", registry.store.url)
    code, text, _ = here("models", "list", *named)
    assert code == 0
    first, second, _ = text.splitlines()
    assert first.startswith(f"* {versions[0]}")
    assert second.startswith(f"  {versions[1]}")
    assert second.endswith("from bundled  gIoU 0.500")
    code, text, _ = here("models", "promote", versions[1], "--reason", "better on water", *named, "--json")
    assert code == 0
    assert {k: v for k, v in json.loads(text).items() if k != "promoted_at"} == {
        "version": versions[1], "reason": "better on water", "previous": versions[0],
    }  # fmt: skip
    assert registry.champion() == versions[1]
    document = json.loads(here("models", "list", *named, "--json")[1])
    assert (document["champion"], document["registry"]) == (versions[1], registry.store.url)
    assert [(v["version"], v["champion"]) for v in document["versions"]] == [(versions[0], False), (versions[1], True)]
    document = json.loads(here("models", "show", "champion", *named, "--json")[1])
    assert (document["version"], document["champion"], document["card"]) == (versions[1], True, "# Small")
    assert document["scores"]["giou"]["value"] == 0.5
    assert [p["reason"] for p in document["promotions"]] == ["better on water"]
    assert "model.safetensors" in [file["path"] for file in document["files"]]
    code, text, _ = here("models", "show", versions[0], *named)
    assert code == 0
    for part in (
        versions[0],
        "parent    bundled",
        "# Small",
        "the first",
        f"registry:{registry.store.url}#{versions[0]}",
    ):
        assert part in text
    code, text, _ = here("models", "promote", versions[1], "--reason", "again", *named)
    assert (code, "is champion already" in text) == (0, True)


@pytest.mark.parametrize("registry", ["local"], indirect=True)
def test_bad_input_of_the_models_commands_is_a_line_each_and_exit_2(
    here: Command, registry: Registry, versions: list[str]
) -> None:
    named = ("--registry", registry.store.url)
    for arguments, said in (
        (("list",), "no registry is named; give --registry URL or set T2S_REGISTRY"),
        (("list", "--registry", "nonsense://x"), "cannot be reached"),
        (("show", "v0099-00000000", *named), f"no version 'v0099-00000000'; it holds {', '.join(versions)}"),
        (("promote", "v0099-00000000", "--reason", "x", *named), "no version"),
        (("promote", versions[1], "--reason", " ", *named), "needs a reason"),
        (("check", "oracle"), "prompter 'oracle' is no model's name"),
        (("check", "champion"), "promoted where?"),
        (("check", f"registry:{registry.store.url}"), "names no version"),
    ):
        code, out, err = here("models", *arguments)
        assert (code, out) == (2, ""), arguments
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert said in line
    code, _, err = here("models", "check", "oracle", "--segmenter", "scissors")
    assert (code, len(err.splitlines())) == (2, 2)
    code, _, err = here("models", "check", "champion", *named, "--device", "cuda:99")
    assert (code, "device 'cuda:99'" in err) == (2, True)


def test_check_prints_a_line_per_check_and_exits_1_if_one_fails(
    here: Command, registry: Registry, versions: list[str]
) -> None:
    named = ("champion", "--registry", registry.store.url, "--device", "cpu")
    code, text, _ = here("models", "check", *named)
    assert code == 1  # random weights answer nothing
    loads, answers, loads_too, segments = text.splitlines()
    assert loads.startswith("ok      prompter loads")
    assert f"tiny@{versions[0]}+" in loads
    assert "float32 on cpu" in loads
    assert answers.startswith("FAILED  prompter answers")
    assert "s per tile-query" in answers
    assert loads_too.startswith("ok      segmenter loads")
    assert segments.startswith("ok      segmenter segments")
    code, out, err = here("models", "check", *named, "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["device"]) == (1, False, "cpu")
    assert [c["ok"] for c in document["checks"]] == [True, False, True, True]
    assert document["checks"][0]["dtype"] == "float32"
    assert document["checks"][1]["seconds_per_tile_query"] > 0
    assert len(err.splitlines()) == 4


@pytest.mark.parametrize("command", ["list", "show", "promote", "check"])
def test_every_models_command_has_help_with_an_example(here: Command, command: str) -> None:
    code, text, _ = here("models", command, "--help")
    assert code == 0
    assert f"t2s models {command}" in text.partition("Example")[2]
