"""Laws of what surrounds masks and features: the manifest, checksums, provenance and STAC."""

import json
import posixpath
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow.parquet as pq

from pipeline import checksums, stac
from pipeline.committed import total_counts
from pipeline.features import partition_name
from pipeline.findings import Findings, Published
from pipeline.lease import read_lease
from pipeline.manifest import NAME, RunStatus
from pipeline.mosaics import group_path
from pipeline.provenance import TRACE, spec_digest
from pipeline.publish import published_names
from pipeline.scenes import Scene
from pipeline.work import InProcess


def check_run(run: Published, found: Findings) -> None:
    """The run has ended, and what run.json counts is what lies in its directory."""
    manifest = run.manifest
    found.n_looked_at = len(manifest["history"])
    if manifest["status"] == RunStatus.RUNNING:
        lease = read_lease(run.store)
        at_work = lease is not None and lease.alive
        found.problem(NAME, "a run is at work here; wait for it" if at_work else "the run was interrupted; resume it")
        return
    if "error" in manifest:
        found.problem(NAME, f"the run ended by {manifest['error']}; resume it")
        return
    found.note(f"status {manifest['status']}")
    with found.reading(NAME):
        found.n_looked_at -= 1  # a look at the whole
        counts = total_counts([state.tally(scene_id) for scene_id, state in run.committed.items()])
        for name, count in counts.items():
            found.expect(NAME, f"counts.{name}", found=manifest["counts"].get(name), expected=count)
        features: Counter[str] = Counter({query.query_id: 0 for query in run.queries})
        for plan, query in run.mosaics():
            with run.store.fs.open(run.store.path(partition_name(plan.scene.scene_id, query.query_id)), "rb") as file:
                features[query.query_id] += pq.read_metadata(file).num_rows
        for query_id, n_rows in features.items():
            found.expect(NAME, f"features.{query_id}", found=manifest["features"].get(query_id), expected=n_rows)


def check_checksums(run: Published, found: Findings) -> None:
    """Every published object is the one that was written, none is missing and none was added."""
    store = run.store
    with found.reading(checksums.RUN):
        listed = checksums.read_sums(store, checksums.RUN)
        lists = {checksums.scene_list(plan.scene.scene_id) for plan in run.plans}
        for name in sorted({NAME, stac.COLLECTION, *lists} - set(listed)):
            found.problem(name, f"is not listed in {checksums.RUN}")
        _compare(run, listed, {name for name in listed if store.exists(name)}, found)
    query_ids = [query.query_id for query in run.queries]
    for plan in run.plans:
        name = checksums.scene_list(plan.scene.scene_id)
        with found.reading(name):
            listed = checksums.read_sums(store, name)
            there = set(published_names(store, plan.scene.scene_id, query_ids))
            for added in sorted(there - set(listed)):
                found.problem(added, f"is not listed in {name}")
            _compare(run, listed, there, found)


def _compare(run: Published, listed: Mapping[str, str], there: AbstractSet[str], found: Findings) -> None:
    for name in sorted(set(listed) - there):
        found.problem(name, "is missing")
    present = [name for name in listed if name in there]
    for name, digest in sorted(checksums.sums_of(run.store, present, InProcess()).items()):
        found.n_looked_at += 1
        if digest != listed[name]:
            found.problem(name, "is not what was written: its SHA-256 differs")


def check_provenance(run: Published, found: Findings) -> None:
    """Groups, partitions and their rows name an invocation, a spec and models that run.json knows, and the scene."""
    for digest, spec in run.manifest["specs"].items():
        found.expect(NAME, "digest of a spec", found=digest, expected=spec_digest(spec))
    for plan, query in run.mosaics():
        path = group_path(plan.scene.scene_id, query.query_id)
        with found.reading(path):
            attributes = run.attributes(plan.scene.scene_id, query.query_id)
            _check_trace(run, attributes, plan.scene, path, found)
        name = partition_name(plan.scene.scene_id, query.query_id)
        with found.reading(name), run.store.fs.open(run.store.path(name), "rb") as file:
            partition = pq.ParquetFile(file)
            metadata = {k.decode(): v.decode() for k, v in (partition.schema_arrow.metadata or {}).items()}
            _check_trace(run, metadata, plan.scene, name, found)
            columns = ["prompter", "segmenter", "run_id"]
            for rows in partition.iter_batches(columns=columns):
                for column in columns:
                    others = set(rows[column].to_pylist()) - {metadata[f"t2s:{column}"]}
                    if others:
                        found.problem(name, f"rows name {column} {min(others)}, the file {metadata[f't2s:{column}']}")


def _check_trace(run: Published, trace: Mapping[str, Any], scene: Scene, where: str, found: Findings) -> None:
    missing = [key for key in TRACE if key not in trace]
    if missing:
        found.problem(where, f"does not say {', '.join(missing)}")
        return
    run_id, digest, prompter, segmenter, href, etag = (trace[key] for key in TRACE)
    invocation = run.invocations.get(run_id)
    if invocation is None:
        found.problem(where, f"was made by {run_id}, which run.json knows nothing of")
        return
    if digest not in run.manifest["specs"]:
        found.problem(where, f"was asked for by the spec {digest}, which run.json does not hold")
    found.expect(where, "t2s:spec_digest", found=digest, expected=invocation["spec_digest"])
    models = {kind: model["version"] for kind, model in invocation["models"].items()}
    found.expect(where, "models", found={"prompter": prompter, "segmenter": segmenter}, expected=models)
    found.expect(where, "scene", found=(href, etag), expected=(scene.href, scene.etag))


def check_stac(run: Published, found: Findings) -> None:
    """Collection and items are what the manifest gives, valid by pystac where it is there, and point at what exists."""
    items = []
    for plan in run.plans:
        name = stac.item_name(plan.scene.scene_id)
        with found.reading(name):
            document = json.loads(run.store.read(name))
            traces = {
                query.query_id: {key: run.attributes(plan.scene.scene_id, query.query_id)[key] for key in TRACE}
                for query in run.queries
            }
            expected = json.loads(json.dumps(stac.item(plan.scene, run.manifest, traces)))
            items.append(expected)
            _check_document(run, document, expected, name, found)
    with found.reading(stac.COLLECTION):
        document = json.loads(run.store.read(stac.COLLECTION))
        if len(items) == len(run.plans):
            expected = json.loads(json.dumps(stac.collection(run.manifest, items)))
            _check_document(run, document, expected, stac.COLLECTION, found)


def _check_document(
    run: Published, document: Mapping[str, Any], expected: Mapping[str, Any], name: str, found: Findings
) -> None:
    for key in sorted({*document, *expected}):
        stated, true = document.get(key), expected.get(key)
        if isinstance(stated, dict) and isinstance(true, dict):
            for inner in sorted({*stated, *true}):
                found.expect(name, f"{key}.{inner}", found=stated.get(inner), expected=true.get(inner))
        else:
            found.expect(name, key, found=stated, expected=true)
    hrefs = [entry["href"] for entry in (*document["links"], *document["assets"].values())]
    for href in hrefs:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), href))
        if not run.store.exists(target):
            found.problem(name, f"points at {href}, which is not there")
    try:
        from pystac.validation.stac_validator import JsonSchemaSTACValidator
    except ModuleNotFoundError:
        found.note("pystac is not installed, so the schema was not looked at (pip install t2s[validate])")
        return
    from pystac import STACObjectType

    # Its core schemas come with it; those of extensions would be fetched from the network.
    kind = STACObjectType.ITEM if document["type"] == "Feature" else STACObjectType.COLLECTION
    JsonSchemaSTACValidator().validate_core(dict(document), kind, document["stac_version"], name)
