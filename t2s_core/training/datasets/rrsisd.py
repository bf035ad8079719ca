"""RRSIS-D: `rrsisd/refs(unc).p`, `rrsisd/instances.json`, `images/rrsisd/JPEGImages/`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2s_core.errors import BadInput
from t2s_core.training.datasets.coco import CocoMask
from t2s_core.training.datasets.file_examples import Entry, Fault, FileExamples
from t2s_core.training.datasets.files import Listing, digest, read_index, require
from t2s_core.training.datasets.plain_pickle import load_plain
from t2s_core.training.examples import BadExample

_REFS, _INSTANCES, _IMAGES = "rrsisd/refs(unc).p", "rrsisd/instances.json", "images/rrsisd/JPEGImages/"

Record = dict[Any, Any]
"""An object of one of the two index files: anything may be in it."""


@dataclass(frozen=True, slots=True)
class _Index:
    images: dict[int | str, Record]
    annotations: dict[int | str, Record]
    categories: dict[int | str, str]


def open_rrsisd(root: Path, split: str, limit: int | None = None) -> FileExamples:
    """Open a split: an example per sentence. Raises `BadInput` where the layout is another or the split is empty."""
    require("rrsisd", root, _REFS, _INSTANCES, _IMAGES)
    raw_refs, raw_instances = (read_index("rrsisd", root / one) for one in (_REFS, _INSTANCES))
    refs = load_plain(raw_refs, f"rrsisd: {root / _REFS}")
    if not isinstance(refs, list):
        raise BadInput(f"rrsisd: {root / _REFS} holds a {type(refs).__name__}, not a list; download it again")
    index = _parse(raw_instances, root / _INSTANCES)
    files = Listing(root / _IMAGES, (".jpg", ".jpeg", ".png", ".tif"))
    entries = [entry for number, ref in enumerate(refs) for entry in _entries(number, ref, split, index, files)]
    return FileExamples("rrsisd", split, entries, index=[digest([raw_refs, raw_instances]).encode()], limit=limit)


def _parse(raw: bytes, path: Path) -> _Index:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as problem:
        raise BadInput(f"rrsisd: {path} is no JSON ({problem}); download it again") from problem
    lists = ("images", "annotations", "categories")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in lists):
        raise BadInput(f"rrsisd: {path} is no object with the lists {', '.join(lists)}; download it again")
    images, annotations, categories = (
        {one["id"]: one for one in found[key] if isinstance(one, dict) and isinstance(one.get("id"), int | str)}
        for key in lists
    )
    names = {key: one["name"] for key, one in categories.items() if isinstance(one.get("name"), str)}
    return _Index(images, annotations, names)


def _entries(number: int, ref: object, split: str, index: _Index, files: Listing) -> Iterator[Entry | Fault]:
    """What one ref of the pickle comes to in this split: one that does not say its split is a fault of every split."""
    if not isinstance(ref, dict) or not isinstance(ref.get("split"), str):
        yield Fault(f"ref {number}", "is no dict with a split")
        return
    if ref["split"] != split:
        return
    try:
        yield from _sentences(ref, index, files)
    except BadExample as problem:
        yield Fault(f"ref {number}", str(problem))


def _sentences(ref: Record, index: _Index, files: Listing) -> list[Entry | Fault]:
    image = _record(ref, "image_id", index.images)
    annotation = _record(ref, "ann_id", index.annotations)
    name = image.get("file_name")
    if not isinstance(name, str):
        raise BadExample(f"image {ref['image_id']!r} has no file_name")
    file = files.find(name)
    sentences = ref.get("sentences")
    if not isinstance(sentences, list) or not sentences:
        raise BadExample("has no sentences")
    height, width = image.get("height"), image.get("width")
    size_px = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    mask = CocoMask(annotation.get("segmentation"), size_px)
    # The published file spells the annotations' key in its own way.
    ids = (ref.get("category_id"), annotation.get("category_id"), annotation.get("categories_id"))
    category = next((index.categories[one] for one in ids if isinstance(one, int) and one in index.categories), "")
    found: list[Entry | Fault] = []
    for at, sentence in enumerate(sentences):
        text = sentence.get("raw", sentence.get("sent")) if isinstance(sentence, dict) else None
        example_id = f"{ref.get('ref_id')}/{at}"
        if isinstance(text, str):
            found.append(Entry(example_id, name, file, text, mask, category))
        else:
            found.append(Fault(example_id, "the sentence has no text"))
    return found


def _record(ref: Record, key: str, records: dict[int | str, Record]) -> Record:
    one = ref.get(key)
    if not isinstance(one, int | str) or one not in records:
        raise BadExample(f"{key} {one!r} is not in instances.json")
    return records[one]
