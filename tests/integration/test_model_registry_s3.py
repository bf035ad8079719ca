"""The registry in a bucket: conditional writes, atomic pointers, verified copies."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from buckets import bucket_on_loopback
from tiny_models import save_qwen2_5_vl

from pipeline.model_names import find
from pipeline.model_registry import Registry
from pipeline.storage import Store
from t2s_core.errors import BadInput, MachineFault
from t2s_core.registry import prompter_version


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_on_loopback("models") as url:
        yield url


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_qwen2_5_vl(tmp_path_factory.mktemp("trained"))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # of the cache


def publish(registry: Registry, directory: Path, card: str = "# Small") -> str:
    return registry.publish(directory, card=card, scores={}, parent="bundled", data_fingerprint="d1", training={})


def test_a_name_is_created_once(bucket: str) -> None:
    store = Store.at(f"{bucket}/names")
    assert store.create("a.json", b"first")
    assert not store.create("a.json", b"second")
    assert store.read("a.json") == b"first"


def test_publish_promote_and_fetch(bucket: str, trained: Path, tmp_path: Path) -> None:
    registry = Registry.at(f"{bucket}/round")
    assert (registry.versions(), registry.champion()) == ([], None)
    first, second = publish(registry, trained), publish(registry, trained)
    assert [record.version for record in registry.versions()] == [first, second]
    registry.promote(first, "good")
    registry.promote(second, "better")
    assert [p.version for p in registry.promotions()] == [first, second]
    found = find(f"champion:{bucket}/round")
    assert found.name == f"registry:{bucket}/round#{second}"
    assert found.local.startswith(f"qwen_vl:{tmp_path}/home/.cache/t2s/models/{second}-")
    assert prompter_version(found.local).startswith(f"tiny@{second}+")
    name = f"versions/{second}/model/model.safetensors"
    content = registry.store.read(name)
    registry.store.write(name, bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(MachineFault, match=r"s3://models/round/versions/.*/model\.safetensors is damaged"):
        registry.fetch(second, tmp_path / "another")


def test_publishers_at_the_same_time_do_not_clobber_each_other(bucket: str, trained: Path) -> None:
    n = 4
    start = threading.Barrier(n)

    def one(number: int) -> str:
        start.wait()
        return publish(Registry.at(f"{bucket}/busy"), trained, card=f"card {number}")

    with ThreadPoolExecutor(n) as pool:
        names = list(pool.map(one, range(n)))
    registry = Registry.at(f"{bucket}/busy")
    assert sorted(names) == [record.version for record in registry.versions()]
    assert len(set(names)) == n
    assert [registry.show(name).card for name in names] == [f"card {i}" for i in range(n)]


def test_a_bucket_that_is_not_there_is_said(bucket: str) -> None:
    with pytest.raises(BadInput, match=r"s3://nowhere.*(has no champion|cannot be reached)"):
        find("champion:s3://nowhere/registry")
