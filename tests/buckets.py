"""An S3-compatible server on loopback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

boto3 = pytest.importorskip("boto3", reason="S3 tests need boto3, s3fs and moto[server]")
moto_server = pytest.importorskip("moto.server", reason="S3 tests need boto3, s3fs and moto[server]")
s3fs = pytest.importorskip("s3fs", reason="S3 tests need boto3, s3fs and moto[server]")


@contextmanager
def bucket_on_loopback(name: str) -> Iterator[str]:
    """The URL of an empty bucket, with the environment that s3fs needs to find it."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        s3fs.S3FileSystem.clear_instance_cache()
        boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).create_bucket(Bucket=name)
        yield f"s3://{name}"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
