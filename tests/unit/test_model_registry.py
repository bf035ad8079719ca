"""The registry: the same promises on a disk, in memory and (tests/integration) in a bucket."""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tiny_models import save_qwen2_5_vl

from pipeline.model_names import addressed, find, local
from pipeline.model_registry import Registry
from pipeline.model_versions import FileRecord
from pipeline.storage import Store
from t2s_core.errors import BadInput, MachineFault
from t2s_core.registry import check_prompter, prompter_version

SCORES = {"giou": {"value": 0.71, "ci95": [0.68, 0.74]}, "n": 400}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2_5_vl(tmp_path_factory.mktemp("trained"), name="tiny-prompter")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # of the cache


@pytest.fixture(params=["local", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    if request.param == "local":
        yield Registry.at(str(tmp_path / "registry"))
        return
    yield Registry.at(f"memory://{tmp_path.name}/registry")
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def publish(registry: Registry, directory: Path, **changes: Any) -> str:
    given = {
        "card": "# A card",
        "scores": SCORES,
        "parent": "bundled",
        "data_fingerprint": "d1",
        "training": {"steps": 3},
    }
    return registry.publish(directory, **{**given, **changes})


def damage(store: Store, name: str) -> None:
    """One bit, the size stays."""
    content = bytearray(store.read(name))
    content[len(content) // 2] ^= 1
    store.write(name, bytes(content))


def test_an_empty_registry_has_no_versions_and_no_champion(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.champion() is None
    assert registry.promotions() == []
    with pytest.raises(BadInput, match=r"no version 'v0001-aaaaaaaa'; it holds none yet"):
        registry.record("v0001-aaaaaaaa")


def test_what_is_published_is_shown_and_fetched(registry: Registry, trained: Path, cache: Path) -> None:
    version = publish(registry, trained)
    shown = registry.show(version)
    record = shown.record
    assert (shown.card, shown.scores) == ("# A card", SCORES)
    assert (record.version, record.parent, record.data_fingerprint) == (version, "bundled", "d1")
    assert record.training == {"steps": 3}
    assert [file.path for file in record.files] == sorted(path.name for path in trained.iterdir())
    fetched = registry.fetch(version, cache)
    for path in trained.iterdir():
        if path.name != "profile.json":
            assert (fetched / path.name).read_bytes() == path.read_bytes()
    check_prompter(f"qwen_vl:{fetched}")
    assert registry.fetch(version, cache) == fetched


def test_the_version_is_part_of_what_results_say_of_the_model(registry: Registry, trained: Path, cache: Path) -> None:
    before = (trained / "profile.json").read_bytes()
    first, second = publish(registry, trained), publish(registry, trained)
    labels = [prompter_version(f"qwen_vl:{registry.fetch(version, cache)}") for version in (first, second)]
    assert [label.partition("+")[0] for label in labels] == [f"tiny-prompter@{first}", f"tiny-prompter@{second}"]
    assert (trained / "profile.json").read_bytes() == before


def test_versions_are_numbered_as_they_come_and_named_by_their_content(
    registry: Registry, trained: Path, tmp_path: Path
) -> None:
    other = save_qwen2_5_vl(tmp_path / "other", seed=1)
    names = [publish(registry, directory) for directory in (trained, other, trained)]
    assert [record.version for record in registry.versions()] == names
    assert [name.partition("-")[0] for name in names] == ["v0001", "v0002", "v0003"]
    contents = [name.partition("-")[2] for name in names]
    assert contents[0] == contents[2] != contents[1]


def test_a_publisher_that_dies_leaves_no_version_and_its_number_to_nobody(
    registry: Registry, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(self: Store, source: Path, name: str) -> None:
        raise ConnectionError("the plug was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "upload", die)
        with pytest.raises(ConnectionError):
            publish(registry, trained)
    assert registry.versions() == []
    assert publish(registry, trained).startswith("v0002-")


def test_a_publisher_that_did_not_see_the_other_takes_the_next_number(
    registry: Registry, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(registry, trained)
    before = registry.store.read(f"versions/{first}/version.json")
    monkeypatch.setattr(Registry, "_names", lambda *_: [])  # as a listing that is a moment old
    assert publish(registry, trained, card="another").startswith("v0002-")
    monkeypatch.undo()
    assert registry.store.read(f"versions/{first}/version.json") == before
    assert registry.show(first).card == "# A card"


def test_publishers_at_the_same_time_do_not_clobber_each_other(trained: Path, tmp_path: Path) -> None:
    url, n = str(tmp_path / "registry"), 8
    start = threading.Barrier(n)

    def one(number: int) -> str:
        start.wait()
        return publish(Registry.at(url), trained, card=f"card {number}")

    with ThreadPoolExecutor(n) as pool:
        names = list(pool.map(one, range(n)))
    registry = Registry.at(url)
    assert sorted(names) == [record.version for record in registry.versions()]
    assert len(set(names)) == n
    assert [registry.show(name).card for name in names] == [f"card {i}" for i in range(n)]
    for name in names:
        registry.fetch(name)


def test_what_could_not_be_loaded_again_is_not_published(registry: Registry, trained: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(BadInput, match=r"profile\.json"):
        publish(registry, broken)
    for path in trained.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="safetensors"):
        publish(registry, broken)
    (broken / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="merge it"):
        publish(registry, broken)
    with pytest.raises(ValueError, match="JSON compliant"):
        publish(registry, trained, scores={"giou": float("nan")})
    assert registry.versions() == []
    assert not registry.store.names("numbers")


def test_the_champion_is_promoted_with_a_reason_and_history_is_kept(registry: Registry, trained: Path) -> None:
    first, second = publish(registry, trained), publish(registry, trained)
    registry.promote(first, "the first")
    assert registry.champion() == first
    promotion = registry.promote(second, "gIoU 0.71 against 0.68")
    assert promotion == registry.promotion()
    assert (promotion.version, promotion.previous, promotion.reason) == (second, first, "gIoU 0.71 against 0.68")
    registry.promote(first, "second fails on water")
    history = [(p.version, p.previous) for p in registry.promotions()]
    assert history == [(first, None), (second, first), (first, second)]
    assert json.loads(registry.store.read("champion.json")) == registry.promotions()[-1].model_dump()


def test_promoting_the_champion_again_changes_nothing(registry: Registry, trained: Path) -> None:
    version = publish(registry, trained)
    first = registry.promote(version, "good")
    assert registry.promote(version, "good again") == first
    assert registry.promotions() == [first]


def test_only_versions_that_exist_are_promoted_and_only_with_a_reason(registry: Registry, trained: Path) -> None:
    version = publish(registry, trained)
    registry.promote(version, "good")
    for other in ("v0009-00000000", "../champion", "", "champion"):
        with pytest.raises(BadInput, match="no version"):
            registry.promote(other, "why not")
    with pytest.raises(BadInput, match="needs a reason"):
        registry.promote(version, "  ")
    assert registry.champion() == version


def test_a_promotion_that_dies_leaves_the_old_champion(
    registry: Registry, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish(registry, trained), publish(registry, trained)
    registry.promote(first, "good")

    def die(*_: object) -> None:
        raise ConnectionError("the plug was pulled")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", die)
        with pytest.raises(BadInput, match="cannot be reached: the plug was pulled"):
            registry.promote(second, "better")
    assert registry.champion() == first


def test_readers_of_the_champion_see_the_old_one_or_the_new_one(trained: Path, tmp_path: Path) -> None:
    registry = Registry.at(str(tmp_path / "registry"))
    names = [publish(registry, trained) for _ in range(2)]
    registry.promote(names[0], "the first")
    over = threading.Event()
    seen: set[str | None] = set()

    def look() -> None:
        while not over.is_set():
            seen.add(registry.champion())

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(50):
        registry.promote(names[(i + 1) % 2], f"round {i}")
    over.set()
    reader.join()
    assert seen <= set(names)
    assert len(registry.promotions()) == 51


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "profile.json"])
def test_a_damaged_file_is_one_clear_error_and_is_never_loaded(
    registry: Registry, trained: Path, cache: Path, name: str
) -> None:
    version = publish(registry, trained)
    damage(registry.store, f"versions/{version}/model/{name}")
    with pytest.raises(MachineFault) as caught:
        registry.fetch(version, cache)
    assert len(str(caught.value).splitlines()) == 1
    assert f"{version}/model/{name} is damaged" in str(caught.value)
    assert not [path for path in cache.glob("*") if path.is_dir()]
    with pytest.raises(MachineFault):
        local(f"registry:{registry.store.url}#{version}")


def test_files_that_are_missing_or_foreign_are_noticed(registry: Registry, trained: Path, cache: Path) -> None:
    version = publish(registry, trained)
    there = f"versions/{version}/model"
    if registry.store.is_local:
        registry.store.write(f"{there}/modeling.py", b"print('hello')")
        with pytest.raises(MachineFault, match=r"modeling\.py was not published"):
            registry.fetch(version, cache)
        registry.store.remove(f"{there}/modeling.py")
    registry.fetch(version, cache)
    registry.store.remove(f"{there}/config.json")
    if registry.store.is_local:
        with pytest.raises(MachineFault, match=r"config\.json is missing"):
            registry.fetch(version, cache)
    else:
        registry.fetch(version, cache)  # a copy is here
        with pytest.raises(BadInput, match="cannot be copied"):
            registry.fetch(version, cache / "another")


def test_a_damaged_copy_in_the_cache_is_noticed_and_fetched_again_once_deleted(
    trained: Path, tmp_path: Path, cache: Path
) -> None:
    registry = Registry.at(f"memory://{tmp_path.name}/registry")
    version = publish(registry, trained)
    copy = registry.fetch(version, cache)
    damage(Store.at(str(copy)), "model.safetensors")
    with pytest.raises(MachineFault, match=f"delete {copy}"):
        registry.fetch(version, cache)
    for path in copy.iterdir():
        path.unlink()
    copy.rmdir()
    assert registry.fetch(version, cache) == copy


def test_copies_are_whole_whoever_asks_at_the_same_time(
    trained: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry.at(f"memory://{tmp_path.name}/registry")
    version = publish(registry, trained)
    downloads: list[str] = []
    plain = Store.download
    monkeypatch.setattr(Store, "download", lambda self, name, to: (downloads.append(name), plain(self, name, to)))
    with ThreadPoolExecutor(6) as pool:
        (copy,) = set(pool.map(lambda _: registry.fetch(version, cache), range(6)))
    assert len(downloads) == len(registry.record(version).files)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [copy.name]


def test_a_registry_that_names_files_outside_the_cache_is_refused(registry: Registry, trained: Path) -> None:
    for path in ("../x", "/etc/x", "a/../../x", "a//b", "", "..\\x", "./x"):
        with pytest.raises(ValueError, match="does not stay"):
            FileRecord(path=path, size=0, sha256="")
    version = publish(registry, trained)
    name = f"versions/{version}/version.json"
    good = json.loads(registry.store.read(name))
    registry.store.write(name, json.dumps(good | {"files": [good["files"][0] | {"path": "../x"}]}).encode())
    with pytest.raises(BadInput, match=r"version\.json is no VersionRecord.*does not stay"):
        registry.fetch(version)
    registry.store.write(name, json.dumps(good | {"version": "../../x"}).encode())
    with pytest.raises(BadInput, match="says that it is"):
        registry.fetch(version)


def test_an_address_that_leads_nowhere_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"nonsense://x cannot be reached: Protocol not known"):
        Registry.at("nonsense://x").champion()
    with pytest.raises(BadInput, match="cannot be reached"):
        Registry.at("nonsense://x").versions()
    (tmp_path / "champion.json").write_text("{")
    with pytest.raises(BadInput, match="is no Promotion"):
        Registry.at(str(tmp_path)).champion()


def test_names_of_prompters(registry: Registry, trained: Path) -> None:
    url = registry.store.url
    assert addressed("champion", url) == f"champion:{url}"
    assert addressed("champion", None) == "champion"
    assert addressed("bundled", url) == "bundled"
    for name in ("bundled", "champion", "qwen_vl:/x", "nonsense"):
        assert (find(name).name, find(name).local) == (name, name)
    with pytest.raises(BadInput, match="has no champion"):
        find(f"champion:{url}")
    first, second = publish(registry, trained), publish(registry, trained)
    registry.promote(first, "good")
    found = find(f"champion:{url}")
    assert found.name == f"registry:{url}#{first}"
    check_prompter(found.local)
    registry.promote(second, "better")
    assert find(found.name) == found
    assert find(f"champion:{url}").name.endswith(second)
    for name in (f"registry:{url}", "registry:#v0001-00000000", f"registry:{url}#"):
        with pytest.raises(BadInput, match="names no version"):
            find(name)


def test_a_relative_address_is_recorded_as_an_absolute_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry.at("models")
    registry.promote(publish(registry, trained), "good")
    assert find("champion:models").name.startswith(f"registry:{tmp_path}{os.sep}models#v0001-")


def test_the_store_creates_a_name_once(registry: Registry) -> None:
    assert registry.store.create("numbers/0001.json", b"first")
    assert not registry.store.create("numbers/0001.json", b"second")
    assert registry.store.read("numbers/0001.json") == b"first"
    assert registry.store.names("numbers") == ["numbers/0001.json"]
