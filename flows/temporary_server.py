"""Prefect's temporary server, for a flow of somebody who has no Prefect API."""

import threading

from infra.signals import deaf_to_ctrl_c


def is_needed() -> bool:
    """Whether Prefect would start it by itself."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    return settings.api.url is None and settings.server.ephemeral.enabled


def start() -> None:
    """Start it until this process ends, as Prefect would, but deaf to Ctrl-C: an interrupted flow still tells it."""
    from prefect.server.api.server import SubprocessASGIServer

    errors: list[BaseException] = []

    def serve() -> None:
        try:
            SubprocessASGIServer().start()
        except BaseException as error:  # noqa: BLE001 -- raised below
            errors.append(error)

    # In a thread, so that whoever waits for it can be interrupted.
    thread = threading.Thread(target=serve, name="t2s-prefect-server", daemon=True)
    with deaf_to_ctrl_c():
        thread.start()
    thread.join()
    if errors:
        raise errors[0]
