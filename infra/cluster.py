"""Where Dask workers come from. Imports nothing of ours, so that it can be copied to where a cluster is started."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

LOCAL = "local"


@contextmanager
def client_for(cluster: str = LOCAL, *, n_workers: int | None = None) -> Iterator[Any]:
    """A connected `distributed.Client`, closed at the end.

    `local` starts one single-threaded worker process per core (`n_workers` if given), stopped at the end; anything
    else is a scheduler's address (`tcp://host:8786`), whose workers stay. Raises `ValueError` for another spelling and
    `OSError` where no scheduler answers.
    """
    from distributed import Client, LocalCluster

    # A lost scheduler is our caller's to report, in a line; Dask's own account of it is pages long.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    # Not the default client: small reads of ours by way of Dask arrays need no cluster, and outlive one that is lost.
    # `closing`, for a client's own context belongs to the thread that enters it, and here another one may leave it.
    if cluster == LOCAL:
        # One thread per worker: an engine is not thread-safe, and GDAL datasets may not cross threads.
        with (
            LocalCluster(
                n_workers=n_workers or os.cpu_count() or 1,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=0,  # Dask would kill a worker for the size of its models
                silence_logs=logging.ERROR,
            ) as local,
            closing(Client(local, set_as_default=False)) as client,
        ):
            yield client
        return
    if "://" not in cluster:
        raise ValueError(f"cluster {cluster!r} is neither `local` nor an address such as tcp://host:8786")
    with closing(Client(cluster, timeout=30, set_as_default=False)) as client:
        yield client
