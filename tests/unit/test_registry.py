import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import fake_profile, reply_text
from tiny_models import sam_model, save_qwen2_5_vl, save_segmenter

from t2s_core import model_files, registry
from t2s_core.errors import BadInput
from t2s_core.known_profiles import RECORDED
from t2s_core.profiles import PromptTemplate

TEMPLATE = PromptTemplate(system="Look well.", user="{query}?")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2_5_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_segmenter(tmp_path_factory.mktemp("sam"), sam_model())


def copied(source: Path, target: Path) -> Path:
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("name", ["", "Bundled", "qwen", "qwen_vl", "qwen_vl:", ":x", "sam_hf:x", "gpt:4", "bundled:x"])
def test_other_spellings_of_prompters_are_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match="use one of: bundled, champion, qwen_vl:PATH-or-hub-id"):
        registry.check_prompter(name)


@pytest.mark.parametrize("name", ["", "sam", "champion", "sam_hf", "segment_anything:", "recorded:x"])
def test_other_spellings_of_segmenters_are_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match="use one of: bundled, sam_hf:PATH-or-hub-id"):
        registry.check_segmenter(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("champion", "promoted"),
        ("openai_api:http://localhost:8000/v1#m", "neither a published model"),
        ("qwen_vl:/no/such/place", "no such directory"),
        ("qwen_vl:nobody/nothing-at-all", "hf download nobody/nothing-at-all"),
        ("recorded:/no/such/file", "No such file"),
    ],
)
def test_what_cannot_be_found_says_what_to_do(name: str, why: str) -> None:
    for use in (registry.check_prompter, registry.prompter_profile, registry.prompter_version, registry.load_prompter):
        with pytest.raises(BadInput, match=why):
            use(name)


def test_faults_of_a_directory(qwen: Path, sam: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model_type is 'sam'; supported here: qwen2_5_vl"):
        registry.check_prompter(f"qwen_vl:{sam}")
    with pytest.raises(BadInput, match="supported here: sam"):
        registry.check_segmenter(f"sam_hf:{qwen}")
    broken = copied(qwen, tmp_path / "broken")
    for name, content, why in (
        ("profile.json", "{}", "Field required"),
        ("profile.json", fake_profile(model_px=65).model_dump_json(), "multiple of the model's 16 px"),
        ("tokenizer.json", None, r"no tokenizer\.json"),
        ("model.safetensors", None, "safetensors"),
        ("config.json", "{", "not JSON"),
        ("config.json", None, "No such file"),
    ):
        path = broken / name
        before = path.read_bytes()
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(BadInput, match=why):
            registry.check_prompter(f"qwen_vl:{broken}")
        path.write_bytes(before)
    registry.check_prompter(f"qwen_vl:{broken}")
    (tmp_path / "weights.pth").write_bytes(b"nonsense")
    registry.check_segmenter(f"segment_anything:{tmp_path / 'weights.pth'}")
    with pytest.raises(BadInput, match="no checkpoint of SAM"):
        registry.load_segmenter(f"segment_anything:{tmp_path / 'weights.pth'}")
    with pytest.raises(BadInput, match=r"no \.pth file"):
        registry.check_segmenter("segment_anything:/no/such.pth")


def test_a_missing_bundle_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "BUNDLED", tmp_path)
    with pytest.raises(BadInput, match="lacks"):
        registry.check_prompter("bundled")
    with pytest.raises(BadInput, match="lacks"):
        registry.check_segmenter("bundled")


def test_bundled_is_a_directory_like_any_other(
    qwen: Path, sam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(qwen, tmp_path / "prompter")
    copied(sam, tmp_path / "segmenter")
    monkeypatch.setattr(registry, "BUNDLED", tmp_path)
    assert registry.load_prompter("bundled").version == registry.prompter_version("bundled")
    assert registry.load_segmenter("bundled").version == registry.segmenter_version("bundled")
    assert registry.prompter_version("bundled") == registry.prompter_version(f"qwen_vl:{qwen}")


def test_versions_change_with_what_changes_replies(qwen: Path, tmp_path: Path) -> None:
    name = f"qwen_vl:{copied(qwen, tmp_path / 'm')}"
    first = registry.prompter_version(name)
    assert first == registry.prompter_version(f"qwen_vl:{qwen}")
    (tmp_path / "m" / "README.md").write_text("a model card")
    assert registry.prompter_version(name) == first
    custom = registry.prompter_version(name, template=TEMPLATE)
    assert custom.startswith(f"{first}+t")
    assert registry.load_prompter(name, template=TEMPLATE).version == custom
    assert registry.load_prompter(name, template=TEMPLATE).profile.template == TEMPLATE
    weights = tmp_path / "m" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    second = registry.prompter_version(name)
    assert second != first
    (tmp_path / "m" / "profile.json").write_text(fake_profile(model_px=64, max_instances=3).model_dump_json())
    assert registry.prompter_version(name) not in (first, second)


def test_large_files_are_sampled_to_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_WHOLE_FILE_BYTES", 2**20)
    path = tmp_path / "large.pth"
    content = bytearray(8 * 2**20)
    path.write_bytes(content)
    zeros = model_files.file_fingerprint(path)
    assert model_files.file_fingerprint(path) == zeros
    width = 2**16  # a small tensor; a slice of 16 KiB starts every 32 KiB of this file
    for place in (0, len(content) // 2, len(content) - width):
        changed = content[:place] + b"\1" * width + content[place + width :]
        path.write_bytes(changed)
        assert model_files.file_fingerprint(path) != zeros


def test_published_profiles_stand_in_where_a_model_brings_none(qwen: Path, tmp_path: Path) -> None:
    directory = copied(qwen, tmp_path / "Think2Seg-RS-3B")
    (directory / "profile.json").unlink()
    config = json.loads((directory / "config.json").read_text())
    config["vision_config"]["patch_size"] = 14
    (directory / "config.json").write_text(json.dumps(config))
    profile = registry.prompter_profile(f"qwen_vl:{directory}")
    assert (profile.name, profile.model_px, profile.coordinates) == ("Think2Seg-RS-3B", 840, "pixel")
    config["model_type"], config["vision_config"]["patch_size"] = "qwen3_vl", 16
    (directory / "config.json").write_text(json.dumps(config))
    profile = registry.prompter_profile(f"qwen_vl:{directory}")
    assert (profile.model_px, profile.coordinates, profile.reply_px) == (832, "permille", 1000)


def test_hub_ids_are_found_in_the_local_cache(qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny"
    (folder / "snapshots").mkdir(parents=True)
    copied(qwen, folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc\n")
    assert registry.prompter_version("qwen_vl:someone/tiny") == registry.prompter_version(f"qwen_vl:{qwen}")


def test_recorded_files(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"tile": "*", "query": "q", "reply": reply_text([])}) + "\n\n")
    assert registry.prompter_profile(f"recorded:{path}") == RECORDED
    version = registry.prompter_version(f"recorded:{path}")
    assert version.startswith("recorded@")
    path.write_text(json.dumps({"profile": fake_profile().model_dump(mode="json")}) + "\n" + path.read_text())
    assert registry.prompter_profile(f"recorded:{path}") == fake_profile()
    assert registry.prompter_version(f"recorded:{path}") != version


def test_malformed_lines_are_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    good = json.dumps({"tile": "*", "query": "q", "reply": ""})
    path.write_text("\n".join([good, "{", '{"tile": "a"}', good, good.replace('""', "1")]))
    with pytest.raises(BadInput) as caught:
        registry.check_prompter(f"recorded:{path}")
    problems = str(caught.value)
    for number in (2, 3, 4, 5):
        assert f"r.jsonl:{number}: " in problems
    assert "r.jsonl:1:" not in problems
    path.write_text("nonsense\n" * 100)
    with pytest.raises(BadInput, match="90 more"):
        registry.check_prompter(f"recorded:{path}")


def test_checks_import_neither_torch_nor_transformers(qwen: Path, sam: Path) -> None:
    code = f"""
import sys
from t2s_core import engine, masks, metrics, registry, replies, template
registry.check_prompter("qwen_vl:{qwen}"); registry.prompter_version("qwen_vl:{qwen}")
registry.prompter_profile("openai_api:http://host/v1#{qwen}")
registry.check_segmenter("sam_hf:{sam}"); registry.segmenter_version("sam_hf:{sam}")
try: registry.check_prompter("qwen_vl:nobody/nothing")
except registry.BadInput: pass
print([m for m in ("torch", "transformers", "segment_anything", "httpx2") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
