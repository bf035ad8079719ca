"""The store: the same promises on a disk and on an object store."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.storage import Store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield Store.at(str(tmp_path / "out"))
        return
    url = f"memory://{tmp_path.name}/out"
    yield Store.at(url)
    memory = fsspec.filesystem("memory")
    if memory.exists(f"/{tmp_path.name}"):
        memory.rm(f"/{tmp_path.name}", recursive=True)


def test_what_is_written_is_read_back_and_replaced_whole(store: Store) -> None:
    assert not store.exists("a/b.bin")
    store.write("a/b.bin", b"first and long")
    assert store.exists("a/b.bin")
    store.write("a/b.bin", b"second")
    assert store.read("a/b.bin") == b"second"


def test_an_absent_object_is_not_found(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("gone.json")


def test_names_are_sorted_relative_filtered_and_never_hidden(store: Store) -> None:
    assert store.names("tiles") == []
    for name in (
        "tiles/s/2/b.parquet",
        "tiles/s/1/a.parquet",
        "tiles/s/1/.a.parquet.x.tmp",
        "tiles/s/1/n.txt",
        "run.json",
    ):
        store.write(name, b"x")
    assert store.names("tiles", ".parquet") == ["tiles/s/1/a.parquet", "tiles/s/2/b.parquet"]
    assert store.names("tiles/s/1") == ["tiles/s/1/a.parquet", "tiles/s/1/n.txt"]


def test_removing_takes_a_folder_or_an_object_or_nothing(store: Store) -> None:
    for name in ("keep.json", "tiles/a/1", "tiles/b/2"):
        store.write(name, b"x")
    store.remove("tiles")
    store.remove("never-there")
    assert not store.names("tiles")
    assert store.read("keep.json") == b"x"
    store.remove("keep.json")
    assert not store.exists("keep.json")


def test_a_child_is_the_same_place(store: Store) -> None:
    store.child("deep").write("x/y.txt", b"1")
    assert store.read("deep/x/y.txt") == b"1"
    assert store.child("deep").names("x") == ["x/y.txt"]


def test_it_travels_as_its_url_alone(store: Store) -> None:
    store.write("x", b"1")  # opens the filesystem, which must not travel
    copy = pickle.loads(pickle.dumps(store))  # noqa: S301 -- our own bytes
    assert copy == store
    assert "fs" not in vars(copy)
    assert copy.read("x") == b"1"


def test_hrefs_are_absolute(store: Store) -> None:
    store.write("a.txt", b"1")
    with fsspec.open(store.href("a.txt"), "rb") as file:
        assert file.read() == b"1"


def test_only_a_disk_is_local(tmp_path: Path) -> None:
    assert Store.at(str(tmp_path)).is_local
    assert not Store.at("memory://x").is_local


def test_a_relative_path_means_the_working_directory_at_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.at("out")
    monkeypatch.chdir("/")
    store.write("x", b"1")
    assert (tmp_path / "out" / "x").read_bytes() == b"1"


def test_slashes_at_the_end_of_a_url_change_nothing(tmp_path: Path) -> None:
    assert Store.at("memory://bucket/run/") == Store.at("memory://bucket/run")
    assert Store.at(f"{tmp_path}/") == Store.at(str(tmp_path))


def test_a_write_that_dies_leaves_the_old_object_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.at(str(tmp_path))
    store.write("run.json", b"old")

    def die(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("pipeline.storage.os.fsync", die)
    with pytest.raises(OSError, match="disk is full"):
        store.write("run.json", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert store.read("run.json") == b"old"
