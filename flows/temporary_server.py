"""Prefect's temporary server, for a flow of somebody who has no Prefect API."""

import threading

from infra.signals import deaf_to_ctrl_c


def start_if_needed() -> bool:
    """Start it where Prefect would do so itself, but deaf to Ctrl-C: an interrupted flow still has to tell it.

    It ends with this process. Returns whether there is one.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url is not None or not settings.server.ephemeral.enabled:
        return False
    errors: list[BaseException] = []

    def start() -> None:
        try:
            SubprocessASGIServer().start()
        except BaseException as error:  # noqa: BLE001 -- raised below
            errors.append(error)

    # In a thread, so that whoever waits for it can be interrupted.
    thread = threading.Thread(target=start, name="t2s-prefect-server", daemon=True)
    with deaf_to_ctrl_c():
        thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return True
