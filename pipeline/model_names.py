"""Names of prompters that a registry holds.

`champion:REGISTRY` is whoever is champion when a run starts; `registry:REGISTRY#VERSION` is one version for ever. A run
turns the first into the second once, before anything is planned, and records it. What loads the model turns the second
into `qwen_vl:PATH` on its own machine: a worker elsewhere fetches the same files by itself.
"""

from dataclasses import dataclass

from pipeline.model_registry import Registry
from t2s_core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Found:
    """A prompter whose version can no longer change."""

    name: str
    """What a run records and hands to its workers."""
    local: str
    """What `t2s_core.registry` loads on this machine."""


def addressed(name: str, registry: str | None) -> str:
    """`champion` with the registry that is meant; any other name, or with no registry, as it is."""
    return f"champion:{registry}" if name == "champion" and registry else name


def find(name: str) -> Found:
    """Settle which version a name means, and fetch it. Raises `BadInput`, or `MachineFault` where files are damaged."""
    fixed = _fixed(name)
    return Found(fixed, local(fixed))


def local(name: str) -> str:
    """A name of `t2s_core.registry`, fetched where a registry holds it. Raises as `find` does."""
    kind, _, where = name.partition(":")
    if kind != "registry":
        return name
    url, separator, version = where.rpartition("#")
    if not separator or not url or not version:
        raise BadInput(f"prompter {name!r} names no version; write registry:URL#VERSION (see `t2s models list`)")
    return f"qwen_vl:{Registry.at(url).fetch(version)}"


def _fixed(name: str) -> str:
    kind, _, url = name.partition(":")
    if kind != "champion" or not url:
        return name
    registry = Registry.at(url)
    version = registry.champion()
    if version is None:
        raise BadInput(f"registry {registry.store.url} has no champion; `t2s models promote` makes one")
    return f"registry:{registry.store.url}#{version}"
