"""Scenes of a run whose addresses are signed: it keeps no signature, so who wants their pixels gives them again."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.addresses import host_of
from pipeline.credentials import public
from pipeline.inputs import Wanted, expand
from pipeline.redaction import redacted
from t2s_core.errors import BadInput


def signed_addresses(given: Sequence[str], manifest: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """By scene of the run, the addresses that open: see `Scene.signed`.

    `given`: paths, URLs, STAC items and searches, as for a run. No raster is opened. What a folder or a search holds
    beside the run's scenes is left out. Raises `BadInput` where one cannot be listed or holds none of them.
    """
    of_href = {entry["href"]: entry["scene_id"] for entry in manifest["scenes"]}
    spec = manifest["spec"]
    hosts = (*spec.get("allow_hosts", ()), *filter(None, map(host_of, given)))
    wanted = Wanted(asset=spec.get("asset") or "", bands=tuple(spec.get("bands") or ()) or None)
    addresses: dict[str, tuple[str, ...]] = {}
    for one in given:
        found = expand(one, hosts, wanted)
        mine = {
            of_href[href]: tuple(layer.href for layer in s.layers) or (s.href,)
            for s in found.sources
            if (href := public(s.href)) in of_href
        }
        if not mine:
            problem = (
                redacted(found.problems[0][1])
                if found.problems
                else f"none of the run's scenes; it has {_some(of_href)}"
            )
            raise BadInput(f"{public(one)}: {problem}")
        addresses |= mine
    return addresses


def _some(hrefs: Mapping[str, str]) -> str:
    first = ", ".join(list(hrefs)[:3])
    return first if len(hrefs) <= 3 else f"{first}, ..."  # noqa: PLR2004
