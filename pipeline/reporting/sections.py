"""The parts of a report that are words and numbers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.geodesy import area_m2
from pipeline.reporting.colours import Ink
from pipeline.reporting.command import command_of
from pipeline.reporting.found import Found
from pipeline.reporting.html import area, cell, duration, note, plural, rounded, swatch, table, text
from pipeline.scenes import Scene
from t2s_core.errors import BadInput

_MAX_SPEC_CHARS = 100_000
_MAX_REASON_CHARS = 500


def headline(manifest: Mapping[str, Any], found: Found, out: str) -> str:
    """What came of it, in one look."""
    status, timings, counts = text(manifest["status"]), manifest["timings"], manifest["counts"]
    n_scenes, n_queries = len(manifest["scenes"]), len(manifest["queries"])
    facts = {
        "scenes": f"{n_scenes:,}",
        "of ground": ground(Scene.from_json(dict(entry)) for entry in manifest["scenes"]),
        "queries": f"{n_queries:,}",
        "features": f"{found.n:,}",
        "tile-queries": f"{counts.get('total', 0):,}",
        "failed": f"{counts.get('failed', 0):,}",
        "unparsable": f"{counts.get('unparsable', 0):,}",
        **_cost(manifest, timings),
    }
    cards = "".join(f'<div class="{"bad" if name in {"failed", "unparsable"} and value != "0" else ""}">'
                    f'<b>{text(value)}</b><span class="soft">{text(name)}</span></div>'
                    for name, value in facts.items())  # fmt: skip
    return (
        f'<header><p class="soft">t2s report</p><h1>{plural(found.n, "feature")} '
        f"for {plural(n_queries, 'query', 'queries')} in {plural(n_scenes, 'scene')} "
        f'<span class="status {status}">{status}</span></h1>'
        f'<p class="soft">run {text(manifest["run_id"])}, started {text(manifest.get("started", ""))}, in '
        f"<code>{text(out)}</code></p>"
        f'<div class="facts">{cards}</div>{_what_is_missing(manifest)}</header>'
    )


def _cost(manifest: Mapping[str, Any], timings: Mapping[str, Any]) -> dict[str, str]:
    """What is known of it: an invocation that ended early says less."""
    cost: dict[str, str] = {}
    if timings.get("wall_s") is not None:
        cost["on the clock"] = duration(timings["wall_s"])
    tokens = sum(entry.get("n_tokens", 0) for entry in manifest.get("history", []))
    if tokens:
        cost["tokens"] = f"{tokens:,}"
    if timings.get("n_workers"):
        hours = timings["n_workers"] * timings["wall_s"] / 3600
        cost["worker hours"] = f"{hours:,.2f}" if hours >= 1 else f"{hours:.2g}"
    return cost


def _what_is_missing(manifest: Mapping[str, Any]) -> str:
    counts, notes = manifest["counts"], []
    sample = manifest["spec"].get("sample_tiles")
    if sample is not None:
        notes.append(
            f"A sample: {plural(sample, 'tile')} spread over the scenes. Everywhere else nobody looked. The same "
            "command without --sample asks the rest."
        )
    if counts.get("failed"):
        share = counts["failed"] / max(1, counts["total"])
        notes.append(
            f"{plural(counts['failed'], 'tile-query', 'tile-queries')} failed ({share:.1%}). There the masks say that "
            "nobody looked, which is not the same as nothing there. The map shows them in red; t2s segment with "
            "--retry-failed asks again."
        )
    if counts.get("unparsable"):
        notes.append(
            f"{plural(counts['unparsable'], 'tile-query', 'tile-queries')} got no usable answer from the model; their "
            "pixels stay unknown unless another tile saw them."
        )
    if counts.get("pending"):
        notes.append(f"{plural(counts['pending'], 'tile-query', 'tile-queries')} are not done yet.")
    if manifest.get("skipped_scenes"):
        notes.append(f"{plural(len(manifest['skipped_scenes']), 'scene')} could not be used and were left out.")
    return "".join(map(note, notes))


def queries(
    manifest: Mapping[str, Any],
    found: Found,
    inks: Mapping[str, Ink],
    scores: Mapping[str, float] | None,
    max_rows: int,
) -> str:
    """What was asked, and what of it was found. `scores`: by query, IoU with the truth where that is known."""
    heads = [("query", False), ("id", False), ("threshold", True), ("features", True), ("in scenes", True),
             ("area", True), ("score", True), *([("IoU with the truth", True)] if scores else [])]  # fmt: skip
    rows = []
    for query in manifest["queries"][:max_rows]:
        query_id = query["query_id"]
        mine, ink = found.by_query[query_id], inks[query_id]
        label = f' <span class="soft">{text(query["label"])}</span>' if query.get("label") else ""
        values = [query["threshold"], f"{mine.n:,}", f"{mine.n_scenes:,}", area(mine.area_m2) if mine.n else "",
                  "" if mine.score is None else f"{mine.score:.2f}"]  # fmt: skip
        if scores:
            values.append("" if query_id not in scores else f"{scores[query_id]:.2f}")
        rows.append(
            f"<td>{swatch(ink.colour, ink.dash)}{text(query['query'])}{label}</td>{cell(query_id)}"
            + "".join(cell(value, number=True) for value in values)
        )
    more = _more(len(manifest["queries"]), max_rows, "run.json has them all")
    about = "Score is the mean probability, weighted by area."
    if scores:
        about += " IoU is that of the stitched masks with the drawn truth, over all scenes."
    return (
        f"<section><h2>What was asked and found</h2>{table('', heads, rows, label='queries')}"
        f'<p class="soft">{about}</p>{more}</section>'
    )


def listing(title: str, meaning: str, entries: Sequence[Mapping[str, str]], max_rows: int) -> str:
    """Tile-queries that have a reason."""
    if not entries:
        return ""
    heads = [("tile (scene/level/row/col)", False), ("query", False), ("reason", False)]
    rows = [cell(e["tile"]) + cell(e["query_id"]) + cell(e["reason"][:_MAX_REASON_CHARS]) for e in entries[:max_rows]]
    more = _more(len(entries), max_rows, "t2s status OUT --json lists them all")
    return (
        f'<section id="{text(title.lower())}"><h2>{text(title)}: {len(entries):,} '
        f'<span class="soft">{text(meaning)}</span></h2>{table("", heads, rows, label=title)}{more}</section>'
    )


def seams(checks: Sequence[Mapping[str, Any]], max_rows: int) -> str:
    """How often masks change at tile borders: what is flagged first, then what is least likely by chance."""
    if not checks:
        return ""
    worst = sorted(checks, key=lambda c: (not c["flagged"], c["p"], -(c["ratio"] or 0)))
    flagged = [check for check in worst if check["flagged"]]
    said = f"{len(flagged):,} of {plural(len(checks), 'mask')} flagged"
    table_of_flagged = _seam_table(flagged[:max_rows], "flagged masks") if flagged else ""
    return (
        f'<section><h2>Seam check: {said}</h2><p class="soft">How often neighbouring pixels differ across '
        "the borders of tiles, and elsewhere. Where tiles are stitched well the two are alike; flagged is what chance "
        f"brings once in 200 masks.</p>{table_of_flagged}<details><summary>all masks</summary>"
        f"{_seam_table(worst[:max_rows], 'all masks')}{_more(len(checks), max_rows, 'run.json has them all')}"
        "</details></section>"
    )


def _seam_table(checks: Sequence[Mapping[str, Any]], label: str) -> str:
    heads = [("scene", False), ("query", False), ("at tile borders", True), ("elsewhere", True), ("p", True)]
    rows = (
        cell(c["scene_id"]) + cell(c["query_id"]) + cell(f"{c['rate']:.3%}", number=True)
        + cell(f"{c['rate_elsewhere']:.3%}", number=True) + cell(f"{c['p']:.4f}", number=True)
        for c in checks
    )  # fmt: skip
    return table("", heads, rows, label=label)


def times(timings: Mapping[str, Any]) -> str:
    """Where the workers' time went."""
    parts = timings.get("workers_s")
    if not parts:
        return ""
    total = sum(parts.values())
    if not total:
        said = "Nothing was computed: all was there already, of invocations that run.json lists."
        return f"<section><h2>Where the time went</h2><p>{said}</p></section>"
    rows = [
        f"{cell(name)}{cell(duration(seconds), number=True)}{cell(f'{seconds / total:.0%}', number=True)}"
        f'<td class="bar"><span class="{text(name)}" style="width:{100 * seconds / total:.2f}%"></span></td>'
        for name, seconds in parts.items()
    ]
    rates = ", ".join(
        f"{rounded(timings[name])} {unit}"
        for name, unit in (("tiles_per_s", "tiles/s"), ("tile_queries_per_s", "tile-queries/s"), ("km2_per_h", "km²/h"))
        if name in timings
    )
    heads = [("", False), ("time", True), ("share", True), ("of all workers' time", False)]
    return (
        f"<section><h2>Where the time went</h2><p>{text(rates)}, by the clock: {duration(timings['wall_s'])} with "
        f"{plural(timings['n_workers'], 'worker')}.</p>{table('', heads, rows, label='times')}"
        '<p class="soft">Reading and writing go on beside the models. Idle is time in which a worker had nothing to '
        "do: starting, stitching that waits for a last tile, models that wait for pixels.</p></section>"
    )


def fine_print(manifest: Mapping[str, Any], out: str) -> str:
    """How to get the same again, and with what it was made."""
    versions = {**manifest["versions"], **{kind: model["version"] for kind, model in manifest["models"].items()}}
    rows = [cell(name) + cell(version) for name, version in versions.items()]
    parts = ("spec", "timings", "counts", "skipped_scenes", "estimate")
    texts = {name: json.dumps(manifest[name], indent=1, ensure_ascii=False) for name in parts if manifest.get(name)}
    blocks = "".join(
        f'<details><summary>{text(name)}</summary><pre tabindex="0">{_cut(said)}</pre></details>'
        for name, said in texts.items()
    )
    return (
        "<section><h2>How to get the same again</h2>"
        f'<pre id="command" tabindex="0">{_cut(command_of(manifest["spec"], out))}</pre>'
        '<button type="button" id="copy">Copy the command</button>'
        f"<h3>Made with</h3>{table('', [('', False), ('version', False)], rows, label='versions')}{blocks}</section>"
    )


def _cut(said: str) -> str:
    if len(said) <= _MAX_SPEC_CHARS:
        return text(said)
    return text(f"{said[:_MAX_SPEC_CHARS]}\n... cut here; run.json has all of it")


def _more(n: int, shown: int, where: str) -> str:
    return f'<p class="soft">{n - shown:,} more; {text(where)}.</p>' if n > shown else ""


def ground(scenes: Iterable[Scene]) -> str:
    """How much of it scenes show, data or not; what two show counts twice."""
    total, unplaced = 0.0, 0
    for scene in scenes:
        try:
            total += area_m2(scene.geobox)
        except BadInput:  # corners beyond the edge of the Earth, as in full-disk images; its features may be fine
            unplaced += 1
    return f"{rounded(total / 1e6)} km²" + (f" ({unplaced} scenes have corners off the map)" if unplaced else "")
