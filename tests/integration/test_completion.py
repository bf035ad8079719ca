"""Tab in real shells that have read what `t2s --install-completion` wrote."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from doc_blocks import commands
from outputs import finished_run
from terminals import in_terminal
from tiny_models import save_qwen2_5_vl

from pipeline.model_registry import Registry

Complete = Callable[..., list[str]]
_ASK = """\
source "$HOME/.bashrc"
COMP_WORDS=("$@")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
function=$(complete -p t2s | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function t2s
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a newcomer with an empty home, who has `t2s` on the path."""
    folder = tmp_path_factory.mktemp("c")
    with commands(folder / "t") as given:
        environment = {**given, "HOME": str(folder / "home"), "T2S_CACHE": str(folder / "cache")}
        environment.pop("T2S_REGISTRY", None)
        Path(environment["HOME"]).mkdir()
        yield environment


def install(shell: str, environment: Mapping[str, str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here; on Debian: apt-get install {shell}")
    installed = subprocess.run(
        ["bash", "-c", f"t2s --install-completion {shell}"],
        env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr


@pytest.fixture(scope="module")
def complete(environment: dict[str, str]) -> Complete:
    """Of words that were typed, the last one perhaps in part: what bash offers."""
    install("bash", environment)

    def completed(*words: str, **variables: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", _ASK, "bash", "t2s", *words],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=True,
            cwd=environment["HOME"],
            timeout=60,
        )
        assert done.stderr == ""
        return done.stdout.split()

    return completed


def test_commands_and_options(complete: Complete) -> None:
    assert complete("seg") == ["segment"]
    assert complete("models", "p") == ["promote"]
    assert {"--threshold", "--tile-px"} <= set(complete("segment", "--t"))
    assert complete("export", "x", "--form") == ["--format"]


def test_values_that_are_few(complete: Complete) -> None:
    assert complete("export", "results", "--format", "g") == ["gpkg", "geojson"]
    assert complete("evaluate", "--dataset", "r") == ["rrsisd", "refsegrs", "risbench"]
    assert complete("segment", "--segmenter", "s") == ["sam_hf:", "segment_anything:"]
    assert complete("restitch", "x", "--mode", "i") == ["instance"]
    assert complete("train", "--split", "") == ["train", "val", "test"]


def test_versions_of_the_registry_and_queries_of_the_run(complete: Complete, tmp_path: Path) -> None:
    registry = Registry.at(str(tmp_path / "registry"))
    trained = save_qwen2_5_vl(tmp_path / "prompter", model_px=64, tile_px=64)
    version = registry.publish(trained, card="", scores={}, parent="bundled", data_fingerprint="d", training={})
    url = registry.store.url
    assert complete("models", "promote", "v", T2S_REGISTRY=url) == [version]
    assert complete("models", "show", "--registry", url, "") == [version, "champion"]
    assert f"registry:{url}#{version}" in complete("segment", "--prompter", "", T2S_REGISTRY=url)
    run = finished_run(tmp_path, cog=False)
    assert "the-water" in complete("export", str(run), "--query", "the")
    assert "the-water=" in complete("restitch", str(run), "--query", "the")


def test_where_nothing_is_to_be_offered_bash_hears_of_no_fault(complete: Complete, tmp_path: Path) -> None:
    assert complete("models", "show", "", T2S_REGISTRY=str(tmp_path / "none")) == []
    assert complete("export", str(tmp_path), "--query", "") == []
    assert complete("segment", "sce") == []  # then bash itself offers files


def test_fish_offers_them_with_what_they_do(environment: dict[str, str]) -> None:
    install("fish", environment)

    def offered(line: str) -> dict[str, str]:
        asked = ["fish", "-c", f"complete --do-complete '{line}'"]
        done = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True, timeout=60)
        assert done.stderr == ""
        return {word: what for word, _, what in (entry.partition("\t") for entry in done.stdout.splitlines())}

    assert offered("t2s seg").keys() == {"segment"}
    assert "questions" in offered("t2s seg")["segment"]
    assert offered("t2s restitch x --mode i").keys() == {"instance"}


def test_zsh_completes_the_line(environment: dict[str, str]) -> None:
    install("zsh", environment)
    with in_terminal(["-i"], {**environment, "PS1": "> "}, program="zsh") as terminal:
        terminal.see(lambda screen: screen.endswith(">"))
        terminal.press(b"t2s seg\t\t")  # Typer's script reads itself in at the first
        terminal.see(lambda screen: "t2s segment" in screen, timeout_s=60)
        terminal.press(b"--segmenter sam_\t")
        terminal.see(lambda screen: "--segmenter sam_hf:" in screen, timeout_s=60)
