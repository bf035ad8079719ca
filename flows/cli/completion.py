"""What a shell offers for the value of an option: names of models, versions in a registry, queries of a run."""

import os
from collections.abc import Callable

import typer

Offer = Callable[[typer.Context, list[str], str], list[str]]
"""Typer calls it with what was typed so far."""

PROMPTERS = ("bundled", "champion", "qwen_vl:", "openai_api:", "recorded:")
SEGMENTERS = ("bundled", "sam_hf:", "segment_anything:")
DATASETS = ("world", "world-haze", "earthreason", "rrsisd", "refsegrs", "risbench", "curated")


def offers(*values: str) -> Offer:
    """Always these."""

    def offered(context: typer.Context, words: list[str], incomplete: str) -> list[str]:  # noqa: ARG001 -- Typer's
        return [value for value in values if value.startswith(incomplete)]

    return offered


def prompters(context: typer.Context, words: list[str], incomplete: str) -> list[str]:
    """Kinds of prompters, and the versions that the registry holds, where one is named."""
    url = _registry(context)
    named = [f"registry:{url}#{version}" for version in _versions(url)]
    return offers(*PROMPTERS, *named)(context, words, incomplete)


def versions(context: typer.Context, words: list[str], incomplete: str) -> list[str]:
    """Versions that the registry holds."""
    found = _versions(_registry(context))
    return offers(*found, *(["champion"] if found and context.command.name == "show" else []))(
        context, words, incomplete
    )


def queries(context: typer.Context, words: list[str], incomplete: str) -> list[str]:
    """Ids of the queries of the run that was named already."""
    return offers(*_query_ids(context))(context, words, incomplete)


def thresholds(context: typer.Context, words: list[str], incomplete: str) -> list[str]:
    """The same, each to be followed by a threshold."""
    return offers(*(f"{query_id}=" for query_id in _query_ids(context)))(context, words, incomplete)


BY_KEY: dict[str, Offer] = {
    "prompter": prompters,
    "segmenter": offers(*SEGMENTERS),
    "mode": offers("semantic", "instance"),
    "cluster": offers("local", "local-gpu", "tcp://", "tls://", "slurm:", "kubernetes:"),
    "device": offers("auto", "cpu", "cuda"),
}
"""By the keys of a region run."""


def _registry(context: typer.Context) -> str | None:
    return context.params.get("registry") or os.environ.get("T2S_REGISTRY")


def _versions(registry: str | None) -> list[str]:
    if not registry:
        return []

    def read() -> list[str]:
        from pipeline.model_registry import Registry

        return [record.version for record in Registry.at(registry).versions()]

    return _or_nothing(read)


def _query_ids(context: typer.Context) -> list[str]:
    # An option that lacks its value ends parsing, so that OUT before it is still among the words.
    run = context.params.get("run") or context.params.get("out") or next(iter(context.args), None)
    if not run:
        return []

    def read() -> list[str]:
        from pipeline.manifest import read_run
        from pipeline.storage import Store

        return [query["query_id"] for query in read_run(Store.at(str(run)))["queries"]]

    return _or_nothing(read)


def _or_nothing(read: Callable[[], list[str]]) -> list[str]:
    """Who presses Tab hears of no fault: there is nothing to offer, and the command itself will say why."""
    from pipeline.storage import store_errors
    from t2s_core.errors import T2sError

    expected: tuple[type[Exception], ...] = (T2sError, *store_errors())
    try:
        return read()
    except expected:
        return []
