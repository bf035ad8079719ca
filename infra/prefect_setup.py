"""What deployments need of a Prefect server, made where it is missing and brought to what is said here where it is not.

    python -m infra.prefect_setup t2s-gpu=1 t2s-cpu

makes two work pools, of which the first runs one flow at a time: as many as there are GPUs for them. Where T2S_WEBHOOK
is set to an address, what `infra/automations.yaml` says is sent there. Waits for the server at PREFECT_API_URL.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.types import SecretDict

_PATIENCE_S = 120.0
"""How long a server may take to start."""
_AUTOMATIONS = Path(__file__).with_name("automations.yaml")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m infra.prefect_setup", description="Pools of flow runs.")
    parser.add_argument("pools", nargs="+", metavar="POOL[=RUNS]", type=_pool, help="name, and flow runs at a time")
    pools = dict(parser.parse_args().pools)
    if not os.environ.get("PREFECT_API_URL"):
        sys.exit("PREFECT_API_URL is not set; set it to the address of a server, e.g. http://127.0.0.1:4200/api")
    try:
        asyncio.run(set_up(pools, webhook=os.environ.get("T2S_WEBHOOK")))
    except TimeoutError as error:
        sys.exit(str(error))


def _pool(text: str) -> tuple[str, int | None]:
    name, _, runs = text.partition("=")
    if not name or (runs and not runs.isdecimal()) or runs == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is no POOL or POOL=RUNS; write e.g. t2s-gpu=1")
    return name, int(runs) if runs else None


async def set_up(pools: Mapping[str, int | None], webhook: str | None = None) -> None:
    """Pools by name, with how many flow runs they run at a time; None leaves that as it is. Raises `TimeoutError`."""
    async with get_client() as client:
        await _wait_for(client)
        for name, runs in pools.items():
            await _make_pool(client, name, runs)
        if webhook:
            await _notify(client, webhook)


async def _wait_for(client: PrefectClient) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while (error := await client.api_healthcheck()) is not None:
        if time.monotonic() > end_s:
            told = " ".join(str(error).split())[:200]
            raise TimeoutError(f"no Prefect server answers at {client.api_url} within {_PATIENCE_S:g} s: {told}")
        await asyncio.sleep(0.5)


async def _make_pool(client: PrefectClient, name: str, runs: int | None) -> None:
    try:
        found = await client.read_work_pool(name)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=runs))
    else:
        if runs not in {None, found.concurrency_limit}:
            await client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=runs))


async def _notify(client: PrefectClient, webhook: str) -> None:
    """Post `{"text": ...}`, which Slack, Mattermost, Teams and others take."""
    block: Any = CustomWebhookNotificationBlock(
        name="t2s",
        url="{{url}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"url": webhook}),  # whoever knows the address of a webhook may post there
    )
    block_id: UUID = await block.save("t2s", overwrite=True)
    for automation in yaml.safe_load(_AUTOMATIONS.read_text(encoding="utf-8"))["automations"]:
        for action in automation["actions"]:
            action["block_document_id"] = str(block_id)
        wanted = AutomationCore.model_validate(automation)
        known = await client.read_automations_by_name(wanted.name)
        if known:
            await client.update_automation(known[0].id, wanted)
        else:
            await client.create_automation(wanted)


if __name__ == "__main__":
    main()
