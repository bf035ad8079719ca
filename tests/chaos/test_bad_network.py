"""An object store behind a bad network: what helps is tried again, what does not is said, half an object is none."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import fsspec
import pytest
from buckets import bucket_on_loopback, s3fs
from faulty_proxy import FAULTS, Proxy, proxy
from regions import WATER, results, run, work_here
from trials import SEEDS

from pipeline.manifest import RunStatus
from pipeline.spec import RunSpec
from pipeline.status import run_status
from pipeline.storage import Store, storage_options, store_errors


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with bucket_on_loopback("chaos") as url:
        yield url


@contextmanager
def behind_a_proxy(seed: int, share: float) -> Iterator[Proxy]:
    """All that s3fs sends goes through a proxy. Clients wait shorter than it is silent."""
    with proxy(os.environ["AWS_ENDPOINT_URL"], seed, share) as (made, address), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1}})
        s3fs.S3FileSystem.clear_instance_cache()
        yield made
    s3fs.S3FileSystem.clear_instance_cache()


def test_what_a_user_configures_goes_before_our_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_options("memory://x") == {}
    assert storage_options("s3://b/x")["config_kwargs"]["read_timeout"] == 60
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 7}})
    config = storage_options("s3://b/x")["config_kwargs"]
    assert (config["read_timeout"], config["retries"]["mode"]) == (7, "standard")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_object_is_read_whole_or_not_at_all(seed: int, bucket: str) -> None:
    rng = random.Random(seed)
    contents = {f"reads/{seed}/{size}": rng.randbytes(size) for size in (0, 1, 1000, 300_000)}
    plain = Store.at(bucket)
    for name, data in contents.items():
        plain.write(name, data)
    n_whole = 0
    with behind_a_proxy(seed, share=0.5) as network:
        store = Store.at(bucket)
        for name, data in contents.items():
            try:
                found = store.read(name)
            except store_errors() as error:
                assert not isinstance(error, FileNotFoundError), "a fault was taken for an absence"
                continue
            assert found == data
            n_whole += 1
    print(f"seed {seed}: {dict(network.met)}, {n_whole} of {len(contents)} read")
    assert set(network.met) & set(FAULTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_over_a_bad_network_comes_to_what_it_comes_to_on_a_disk(
    seed: int, bucket: str, spec: RunSpec, expected: dict[str, Any]
) -> None:
    out = f"{bucket}/runs/{seed}"
    endings = []
    with behind_a_proxy(seed, share=0.1) as network:
        for _ in range(5):
            try:
                outcome = run(spec, out)
            except store_errors() as error:
                endings.append(type(error).__name__)
                continue
            endings.append(outcome.status.value)
            break
    print(f"seed {seed}: {dict(network.met)}, {endings}")
    assert endings[-1] == RunStatus.SUCCESS
    assert len([name for name in network.met if name in FAULTS]) >= 3
    assert results(out) == expected
    assert run_status(out)["status"] == "SUCCESS"


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command in this process, its workers too: exit code and stderr."""
    from flows.cli.app import main

    work_here(monkeypatch)

    def command(*arguments: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["t2s", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0), capsys.readouterr().err.splitlines()

    return command


def arguments(spec: RunSpec, out: str) -> list[str]:
    models = ["--prompter", spec.models.prompter, "--segmenter", spec.models.segmenter]
    return ["segment", *spec.scenes, "--query", WATER, "--out", out, *models, "--direct"]


def test_wrong_credentials_are_one_line_and_exit_2_before_anything_is_spent(
    here: Any, bucket: str, spec: RunSpec
) -> None:
    with behind_a_proxy(0, share=0) as network:
        network.refusing = True
        code, said = here(*arguments(spec, f"{bucket}/refused"))
    assert code == 2
    assert len(said) == 1
    assert said[0].startswith(f"error: {bucket}/refused: cannot be reached: ")
    assert "check the address and the credentials" in said[0]
    assert not Store.at(f"{bucket}/refused").names("")


def test_a_bucket_that_is_not_there_is_not_one_that_refuses(here: Any, bucket: str, spec: RunSpec) -> None:
    with behind_a_proxy(0, share=0):
        code, said = here(*arguments(spec, "s3://misspelt/run"))
    assert code == 2
    assert said == ["error: s3://misspelt/run: there is no bucket misspelt; create it or check the address."]


def test_a_server_that_is_not_there_is_no_missing_bucket(
    here: Any, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"retries": {"max_attempts": 1}}})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the port of `discard`, where nobody listens
    s3fs.S3FileSystem.clear_instance_cache()
    code, said = here(*arguments(spec, "s3://anywhere/run"))
    assert code == 2
    assert said[0].startswith("error: s3://anywhere/run: cannot be reached: ")
    assert "127.0.0.1:9" in said[0]


@pytest.mark.parametrize("fault", ["credentials", "bucket"])
def test_what_goes_away_in_the_middle_is_one_line_and_exit_1(
    here: Any, fault: str, bucket: str, spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.worker

    url = f"s3://going-{fault}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=f"going-{fault}")
    write = pipeline.worker.write_batch

    def go(*args: Any) -> None:
        write(*args)
        if fault == "credentials":
            network.refusing = True
            return
        for entry in client.list_objects_v2(Bucket=f"going-{fault}")["Contents"]:
            client.delete_object(Bucket=f"going-{fault}", Key=entry["Key"])
        client.delete_bucket(Bucket=f"going-{fault}")

    with behind_a_proxy(0, share=0) as network:
        monkeypatch.setattr(pipeline.worker, "write_batch", go)
        code, said = here(*arguments(spec, f"{url}/out"))
        monkeypatch.undo()
        network.refusing = False
    assert code == 1
    assert not [line for line in said if "Traceback" in line]
    assert len([line for line in said if line.startswith("failed: ")]) == 1
    assert "the same command goes on from there" in said[-1]
    if fault == "credentials":  # they come back: what was committed is there
        status = run_status(f"{url}/out")
        assert status["status"] == "INTERRUPTED"
        assert status["tile_queries"]["ok"] > 0
