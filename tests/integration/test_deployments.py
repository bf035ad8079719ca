"""What `infra/` says to Prefect: deployments that exist, forms that are typed, automations that parse."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.utilities.callables import parameter_schema

from flows.request import RunRequest

INFRA = Path(__file__).resolve().parents[2] / "infra"
DEPLOYMENTS: dict[str, Any] = {
    one["name"]: one for one in yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
}


def flow_of(name: str) -> Any:
    module, _, function = DEPLOYMENTS[name]["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), function)


def form_of(name: str) -> dict[str, Any]:
    return parameter_schema(flow_of(name)).model_dump()


def test_the_deployments_are_those_that_are_promised() -> None:
    assert set(DEPLOYMENTS) == {
        "segment-region", "curate-tiles", "train-prompter", "evaluate-prompter", "retrain-nightly",
    }  # fmt: skip
    assert {name for name, one in DEPLOYMENTS.items() if "schedules" in one} == {"segment-region", "retrain-nightly"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_is_its_flow_and_every_field_of_its_form_has_a_type(name: str) -> None:
    flow, form = flow_of(name), form_of(name)
    assert flow.name == name
    assert set(DEPLOYMENTS[name].get("parameters", {})) <= set(form["properties"])
    untyped = []

    def look(where: str, schema: Any) -> None:
        if not any(key in schema for key in ("type", "anyOf", "$ref", "enum", "const", "allOf")):
            untyped.append(where)
        for key, part in schema.get("properties", {}).items():
            look(f"{where}.{key}", part)

    for key, part in form["properties"].items():
        look(key, part)
    for key, part in form["definitions"].items():
        look(key, part)
    assert untyped == []


def test_the_form_of_a_region_run_is_run_yaml() -> None:
    form = form_of("segment-region")
    assert form["required"] == ["run"]
    run = form["definitions"]["RunRequest"]
    assert list(run["properties"]) == list(RunRequest.model_fields)
    assert all(part["description"] for part in run["properties"].values())
    assert run["additionalProperties"] is False
    assert {"$ref": "#/definitions/RunRequest"} in form["properties"]["run"]["anyOf"]


def test_a_new_scene_triggers_the_region_run() -> None:
    (trigger,) = DEPLOYMENTS["segment-region"]["triggers"]
    parsed = DeploymentEventTrigger.model_validate(trigger)
    assert (parsed.expect, parsed.threshold) == ({"t2s.scenes.new"}, 1)


def test_what_uses_a_gpu_has_its_own_pool_and_one_run_at_a_time_writes_into_one_place() -> None:
    pools = {name: one["work_pool"]["name"] for name, one in DEPLOYMENTS.items()}
    assert {name for name, pool in pools.items() if pool == "t2s-cpu"} == {"curate-tiles"}
    for name in ("segment-region", "retrain-nightly"):
        assert DEPLOYMENTS[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_automations_say_when_a_run_fails_or_is_partial() -> None:
    found = yaml.safe_load((INFRA / "automations.yaml").read_text())["automations"]
    parsed = [AutomationCore.model_validate(one) for one in found]
    expected = {name for one in parsed for name in one.trigger.expect}  # type: ignore[union-attr]
    assert {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "t2s.run.partial"} <= expected


def test_no_deployment_holds_a_credential() -> None:
    text = (INFRA / "prefect.yaml").read_text() + (INFRA / "automations.yaml").read_text()
    for word in ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY"):
        assert word not in text
