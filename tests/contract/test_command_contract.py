"""What every command keeps to, those that will be added later, too: all of the app is gone through."""

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from curations import ground, write_labels
from outputs import finished_run
from regions import WATER, draw_scene, make_models
from tiny_models import save_qwen2_5_vl
from workers_here import Here

from flows.cli import completion
from flows.cli.app import app, main, way_on
from pipeline import open_run
from pipeline.model_registry import Registry


def commands(group: Any = None, path: str = "t2s") -> Iterator[tuple[str, Any]]:
    """(`t2s models list`, the command) of every command that does something."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


ALL = dict(commands())
every = pytest.mark.parametrize("path", ALL)


@dataclass(frozen=True)
class Desk:
    """What commands are tried on."""

    folder: Path
    scene: Path
    run: Path
    """Finished."""
    labels: Path
    registry: str
    """With a champion."""
    prompter: str
    """Trainable, and knows nothing."""
    segmenter: str
    settings: Path

    @property
    def models(self) -> list[object]:
        return ["--prompter", self.prompter, "--segmenter", self.segmenter]

    @property
    def asked(self) -> list[object]:
        recorded = f"recorded:{self.folder / 'replies.jsonl'}"
        named = ["--prompter", recorded, "--segmenter", self.segmenter]
        return [self.scene, "--query", WATER, "--out", "out", "--device", "cpu", *named]


class Try(NamedTuple):
    """How a command is tried."""

    arguments: Callable[[Desk], list[object]]
    bad: Callable[[Desk], list[object]]
    """Arguments that cannot work."""
    at: str | None = None
    """Of a command that may take long: a function that it comes to in the middle, where Ctrl-C is pressed."""


def registered(desk: Desk) -> str:
    return Registry.at(desk.registry).versions()[0].version


TRIES = {
    "t2s demo": Try(
        lambda _: ["--out", "out", "--size", "256", "--direct"],
        lambda d: ["--out", d.scene],
        "pipeline.worker.write_batch",
    ),
    "t2s segment": Try(
        lambda d: [*d.asked, "--direct"], lambda d: [*d.asked, "--aoi", "nowhere.gpkg"], "pipeline.worker.write_batch"
    ),
    "t2s plan": Try(lambda d: d.asked, lambda _: ["nowhere.tif", "--query", "x"]),
    "t2s status": Try(lambda d: [d.run], lambda _: ["nowhere"]),
    "t2s report": Try(lambda d: [d.run], lambda _: ["nowhere"]),
    "t2s explain": Try(
        lambda d: [d.run, "--feature", open_run(str(d.run)).features()["feature_id"][0]],
        lambda d: [d.run, "--at", "here"],
    ),
    "t2s validate": Try(lambda d: [d.run], lambda _: ["nowhere"], "pipeline.validate._outcome"),
    "t2s export": Try(lambda d: [d.run], lambda d: [d.run, "--query", "no-such"], "pipeline.export._write"),
    "t2s restitch": Try(
        lambda d: [d.run, "--threshold", "0.6"],
        lambda d: [d.run, "--query", "x"],
        "pipeline.stages.vectorise_scene_query",
    ),
    "t2s latest": Try(lambda d: [d.run], lambda _: ["nowhere"]),
    "t2s train": Try(
        lambda d: ["--dataset", "world", "--out", "training", "--settings", d.settings, "--device", "cpu", *d.models],
        lambda _: ["--dataset", "no-such", "--out", "training"],
        "t2s_core.rewards.MaskReward.iou",
    ),
    "t2s evaluate": Try(
        lambda d: ["--dataset", "world", "--limit", "2", "--device", "cpu", *d.models],
        lambda _: ["--dataset", "no-such"],
        "pipeline.evaluation.evaluate",
    ),
    "t2s curate": Try(
        lambda d: [d.scene, "--labels", d.labels, "--query", WATER, "--tile-px", "64", "--block-m", "100000"],
        lambda _: ["nowhere.tif"],
        "pipeline.curate.write_samples",
    ),
    "t2s models list": Try(lambda d: ["--registry", d.registry], lambda _: []),
    "t2s models show": Try(
        lambda d: ["champion", "--registry", d.registry], lambda d: ["v9", "--registry", d.registry]
    ),
    "t2s models promote": Try(
        lambda d: [registered(d), "--reason", "it is good", "--registry", d.registry],
        lambda d: ["v9", "--reason", "it is good", "--registry", d.registry],
    ),
    "t2s models check": Try(
        lambda d: [d.prompter, "--segmenter", d.segmenter, "--device", "cpu"], lambda _: ["oracle"]
    ),
}  # fmt: skip
LONG = [path for path, one in TRIES.items() if one.at is not None]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    models = make_models(folder)
    trained = save_qwen2_5_vl(folder / "prompter", model_px=64, tile_px=64, max_new_tokens=6)
    registry = Registry.at(str(folder / "registry"))
    version = registry.publish(trained, card="# Small", scores={}, parent="bundled", data_fingerprint="d", training={})
    registry.promote(version, "the first")
    settings = folder / "settings.yaml"
    settings.write_text(
        "{group_size: 2, questions_per_step: 1, steps: 1, max_new_tokens: 6, dtype: float32, held_out: 0}"
    )
    labels = write_labels(folder / "labels.gpkg", [{"geometry": ground(0, 0, 150, 60)}])
    (folder / "finished").mkdir()
    run = finished_run(folder / "finished", cog=False)
    scene = draw_scene(folder / "alpha.tif")
    return Desk(folder, scene, run, labels, registry.store.url, f"qwen_vl:{trained}", str(models.segmenter), settings)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def t2s(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """A command in this process, in an empty folder, its workers being itself: exit code, stdout, stderr."""
    import flows.run
    import flows.workers

    for module in (flows.run, flows.workers):
        monkeypatch.setattr(module, "WorkersOnDemand", Here)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("T2S_REGISTRY", raising=False)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["t2s", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        said = capsys.readouterr()
        return int(ending.value.code or 0), said.out, said.err

    return command


def test_each_has_its_try() -> None:
    assert TRIES.keys() == ALL.keys()


@every
def test_help_shows_what_it_does_by_example(path: str, t2s: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = t2s(*path.split()[1:], "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"^ *Examples?:\s+{path} ", out, re.MULTILINE), out
    assert "\x1b" not in out
    assert t2s(*path.split()[1:], "-h")[1] == out


@every
def test_every_parameter_says_what_it_is(path: str) -> None:
    unsaid = [p.name for p in ALL[path].params if not (p.help or "").strip().endswith((".", "}."))]
    assert [name for name in unsaid if name != "help"] == []


def test_the_same_name_is_the_same_thing_everywhere() -> None:
    """One spelling and one kind of value for each option, whatever the command."""
    kinds: dict[str, dict[tuple[object, ...], list[str]]] = {}
    for path, command in ALL.items():
        for option in (p for p in command.params if p.param_type_name == "option" and p.name != "help"):
            annotation = option.type_descriptor.annotation
            kind = str if annotation in {Path, list[str]} else annotation
            key = max(option.opts, key=len)
            kinds.setdefault(key, {}).setdefault((tuple(option.opts), kind, option.envvar), []).append(path)
    # runs take the registry's variable late, for run.yaml goes before it
    differing = {name: found for name, found in kinds.items() if len(found) > 1 and name != "--registry"}
    assert differing == {}
    shorts = {short: name for name, found in kinds.items() for (opts, *_) in found for short in opts if short != name}
    assert shorts == {"-o": "--out", "-q": "--query", "-c": "--config"}


@pytest.mark.parametrize("path", [path for path in ALL if path not in LONG])
def test_json_is_one_document_and_all_that_stdout_carries(path: str, t2s: Command, desk: Desk) -> None:
    code, out, err = t2s(*path.split()[1:], *TRIES[path].arguments(desk), "--json")
    assert code == 0 or path == "t2s models check", err  # which finds that a prompter with random weights is none
    only_a_document(out)
    assert "\x1b" not in err


def only_a_document(out: str) -> None:
    assert out.count("\n") == 1
    assert isinstance(json.loads(out), dict)


@every
def test_bad_input_is_lines_on_stderr_and_exit_code_2(path: str, t2s: Command, desk: Desk) -> None:
    code, out, err = t2s(*path.split()[1:], *TRIES[path].bad(desk))
    assert (code, out) == (2, "")
    assert err
    assert all(line.startswith("error: ") for line in err.splitlines()), err


@every
def test_wrong_usage_is_one_line(path: str, t2s: Command) -> None:
    code, out, err = t2s(*path.split()[1:], "--no-such-option")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"error: .*; see {path} --help\n", err), err
    assert t2s(*path.split()[1:], "--json=maybe") == (2, "", "error: Option '--json' does not take a value\n")


@pytest.mark.parametrize("path", ["t2s", "t2s models"])
def test_a_command_that_does_not_exist_is_one_line(path: str, t2s: Command) -> None:
    assert t2s(*path.split()[1:], "bogus") == (2, "", f"error: No such command 'bogus'; see {path} --help\n")


def test_the_version_is_said(t2s: Command) -> None:
    code, out, _ = t2s("--version")
    assert code == 0
    assert re.fullmatch(r"t2s \d+\.\d+\.\d+\S*\n", out)


@pytest.mark.parametrize("path", LONG)
def test_ctrl_c_says_the_command_that_goes_on_and_that_one_succeeds(
    path: str, t2s: Command, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = TRIES[path].at
    assert at is not None
    pressed: list[str] = []

    def press(*_: object, **__: object) -> None:
        pressed.append(at)
        raise KeyboardInterrupt

    words = [*path.split()[1:], *TRIES[path].arguments(desk)]
    with monkeypatch.context() as patch:
        patch.setattr(at, press)
        code, out, err = t2s(*words, "--json")
    assert pressed
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    said = re.search(r"^interrupted; .*: t2s (.*)$", err, re.MULTILINE)
    assert said is not None, err
    code, out, err = t2s(*shlex.split(said[1]))
    assert code == 0, err
    only_a_document(out)


def test_what_is_said_after_an_interruption_throws_nothing_away(tmp_path: Path) -> None:
    assert way_on(["segment", "a b.tif", "--fresh", "--out", "x"]) == (
        "what was finished is kept. To go on: t2s segment 'a b.tif' --out x"
    )
    assert way_on(["segment", "--config", "run.yaml"]).endswith("t2s segment --config run.yaml --no-fresh")
    assert way_on(["evaluate", "--dataset", "world"]) == "to start anew: t2s evaluate --dataset world"


def test_completion_knows_the_data_sets() -> None:
    from t2s_core.training.datasets.opening import DATASETS

    assert completion.DATASETS == DATASETS


@pytest.mark.skipif(os.environ.get("FORCE_COLOR") is not None, reason="FORCE_COLOR asks for colours")
def test_a_table_in_a_pipe_has_no_colours(t2s: Command, desk: Desk) -> None:
    _, out, _ = t2s("evaluate", *TRIES["t2s evaluate"].arguments(desk))
    assert "gIoU" in out
    assert "\x1b" not in out
