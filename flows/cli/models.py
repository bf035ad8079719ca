"""`t2s models`."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli import completion
from flows.cli import options as o

if TYPE_CHECKING:
    from pipeline.model_registry import Registry

models = typer.Typer(
    name="models", help="Versions of the prompter in a registry, and whether a model works here.", no_args_is_help=True
)
VersionName = Annotated[
    str,
    typer.Argument(help="As `t2s models list` names it.", show_default=False, autocompletion=completion.versions),
]
_TIME = len("2026-01-01T00:00")


@models.command(name="list")
def list_versions(registry: o.Registry = None, as_json: o.AsJson = False) -> None:
    """List the versions of a registry, the oldest first.

    Example:
      t2s models list --registry s3://bucket/registry
    """
    there = _open(registry)
    champion = there.champion()
    shown = [there.show(record.version) for record in there.versions()]
    if as_json:
        entries = [
            {**v.record.model_dump(exclude={"files"}), "scores": v.scores, "champion": v.record.version == champion}
            for v in shown
        ]
        _put({"registry": there.store.url, "champion": champion, "versions": entries})
        return
    if not shown:
        typer.echo(f"{there.store.url} holds no version yet")
    for v in shown:
        mark = "*" if v.record.version == champion else " "
        giou = f"gIoU {g:.3f}" if (g := _giou(v.scores)) is not None else ""
        typer.echo(f"{mark} {v.record.version}  {v.record.created[:_TIME]}  from {v.record.parent}  {giou}".rstrip())
    if champion is not None:
        typer.echo("* is champion")


@models.command()
def show(version: VersionName, registry: o.Registry = None, as_json: o.AsJson = False) -> None:
    """Show one version: its card, its scores, where it comes from, when it was promoted. `champion` names that one.

    Example:
      t2s models show champion --registry s3://bucket/registry
    """
    there = _open(registry)
    champion = there.champion()
    found = there.show(champion if version == "champion" and champion is not None else version)
    record = found.record
    promotions = [p.model_dump() for p in there.promotions() if p.version == record.version]
    if as_json:
        is_champion = record.version == champion
        document = {**record.model_dump(), "scores": found.scores, "card": found.card, "champion": is_champion}
        _put({**document, "promotions": promotions})
        return
    size_mb = sum(file.size for file in record.files) / 1e6
    typer.echo(f"{record.version}{'  champion' if record.version == champion else ''}")
    typer.echo(f"created   {record.created}, {len(record.files)} files, {size_mb:.1f} MB")
    typer.echo(f"parent    {record.parent}")
    typer.echo(f"data      {record.data_fingerprint}")
    typer.echo(f"training  {json.dumps(record.training, ensure_ascii=False)}")
    typer.echo(f"scores    {json.dumps(found.scores, ensure_ascii=False)}")
    for p in promotions:
        typer.echo(f"promoted  {p['promoted_at']}: {p['reason']}")
    typer.echo(f"use it    --prompter registry:{there.store.url}#{record.version}")
    typer.echo(f"\n{found.card.strip()}" if found.card.strip() else "")


@models.command()
def promote(
    version: VersionName,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is all that later readers will know.")],
    registry: o.Registry = None,
    as_json: o.AsJson = False,
) -> None:
    """Make a version the champion: runs that name `champion` and start from now on use it.

    Example:
      t2s models promote v0007-1a2b3c4d --reason "gIoU 0.71 against 0.68" --registry s3://bucket/registry
    """
    there = _open(registry)
    earlier = there.promotion()
    promotion = there.promote(version, reason)
    if as_json:
        _put(promotion.model_dump())
    elif promotion == earlier:
        typer.echo(f"{version} is champion already, since {promotion.promoted_at}: {promotion.reason}")
    else:
        typer.echo(f"{version} is champion now; before: {promotion.previous or 'none'}")


@models.command()
def check(
    model: Annotated[
        str,
        typer.Argument(
            help="A prompter, as --prompter names it.", show_default=False, autocompletion=completion.prompters
        ),
    ],
    segmenter: o.SegmenterName = "bundled",
    registry: o.Registry = None,
    device: o.Device = "auto",
    as_json: o.AsJson = False,
) -> None:
    """Try a model on this machine: it loads, it answers in format about drawn tiles, and the segmenter segments.

    Example:
      t2s models check qwen_vl:RicardoString/Think2Seg-RS-3B --segmenter sam_hf:facebook/sam2.1-hiera-small
    """
    prompter = _checked_name(model, segmenter, registry)

    from t2s_core.devices import resolve_device
    from t2s_core.model_check import check_models

    chosen = _device(device)
    resolve_device(chosen)
    done = []
    for one in check_models(prompter, segmenter, device=chosen):
        done.append(one)
        seconds = f" ({one.seen['seconds']:.1f} s)" if "seconds" in one.seen else ""
        typer.echo(f"{'ok    ' if one.ok else 'FAILED'}  {one.name}{seconds}: {one.detail}", err=as_json)
    ok = all(one.ok for one in done)
    if as_json:
        checks = [{"name": c.name, "ok": c.ok, "detail": c.detail, **c.seen} for c in done]
        _put({"ok": ok, "model": model, "segmenter": segmenter, "device": chosen, "checks": checks})
    raise typer.Exit(0 if ok else 1)


def _checked_name(model: str, segmenter: str, registry: str | None) -> str:
    """The prompter as t2s_core names it. Raises `BadInput` with the problems of both names."""
    from pipeline.model_names import addressed, find
    from pipeline.preflight import attempt, model_problems
    from t2s_core.errors import BadInput

    found, problems = attempt("MODEL", lambda: find(addressed(model, registry)))
    problems += model_problems(None if found is None else found.local, segmenter)
    if problems:
        raise BadInput(*(p.problem for p in problems))
    assert found is not None  # or there would be a problem
    return found.local


def _device(device: str) -> str:
    from transformers.utils.logging import disable_progress_bar

    from t2s_core.devices import device_name

    disable_progress_bar()  # it would write between the lines of the report
    return device_name(device)


def _open(registry: str | None) -> "Registry":
    from pipeline.model_registry import Registry
    from t2s_core.errors import BadInput

    if not registry:
        raise BadInput("no registry is named; give --registry URL or set T2S_REGISTRY")
    return Registry.at(registry)


def _giou(scores: dict[str, Any]) -> float | None:
    """gIoU, where the scores are those of `t2s evaluate`."""
    giou = scores.get("giou")
    value = giou.get("value") if isinstance(giou, dict) else giou
    return float(value) if isinstance(value, int | float) else None


def _put(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
