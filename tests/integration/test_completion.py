"""Tab in a real bash that has read what `t2s --install-completion` wrote."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_blocks import commands
from outputs import finished_run
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
def complete(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Of words that were typed, the last one perhaps in part: what bash offers."""
    folder = tmp_path_factory.mktemp("c")
    home = folder / "home"
    home.mkdir()
    with commands(folder / "t") as given:
        environment = {**given, "HOME": str(home), "T2S_CACHE": str(folder / "cache")}
        environment.pop("T2S_REGISTRY", None)
        installed = subprocess.run(
            ["bash", "-c", "t2s --install-completion bash"],
            env={**environment, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert installed.returncode == 0, installed.stderr

        def completed(*words: str, **variables: str) -> list[str]:
            done = subprocess.run(
                ["bash", "--norc", "-c", _ASK, "bash", "t2s", *words],
                env={**environment, **variables},
                capture_output=True,
                text=True,
                check=True,
                cwd=folder,
                timeout=60,
            )
            assert done.stderr == ""
            return done.stdout.split()

        yield completed


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
