"""EarthReason: `<split>/images/<id>.jpg|png`, `labels/<id>.png` (above 0 is target), `QAs/<id>.json`.

An image has several questions, which all mean the same target, and several answers, which all describe it: the lists
do not run in parallel. No answer, or only blank ones, says that the target is absent.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from t2s_core.training.datasets.file_examples import Entry, Fault, FileExamples, PositiveMask
from t2s_core.training.datasets.files import File, Listing, check_machine, require
from t2s_core.training.examples import BadExample

_CATEGORY = re.compile(r"([A-Za-z]{2,}(?:[ _-][A-Za-z]{2,})*)[ _-]\d")
"""An id such as `tennis_court_12` begins with its category."""


def open_earthreason(root: Path, split: str, limit: int | None = None) -> FileExamples:
    """Open a split: an example per question. Raises `BadInput` where the layout is another or the split is empty."""
    require("earthreason", root, *(f"{split}/{part}/" for part in ("images", "labels", "QAs")))
    folder = root / split
    images = Listing(folder / "images", (".jpg", ".jpeg", ".png"))
    labels = Listing(folder / "labels", (".png",))
    questions = Listing(folder / "QAs", (".json",))
    # What any of the three names is an example, so that one without its image or its questions is not just left out.
    ids = sorted({*images.by_stem, *labels.by_stem, *questions.by_stem})
    categories = _categories(ids)
    entries = [entry for one in ids for entry in _entries(one, categories[one], images, labels, questions)]
    return FileExamples("earthreason", split, entries, limit=limit)


def _entries(
    image_id: str, category: str, images: Listing, labels: Listing, questions: Listing
) -> Iterator[Entry | Fault]:
    try:
        image, label = images.find(image_id), labels.find(image_id)
        asked, answers = _questions(questions.find(image_id))
    except BadExample as problem:
        yield Fault(image_id, str(problem))
        return
    # An answer may also say in words that nothing is there: then the mask decides.
    present = None if any(answer.strip() for answer in answers) else False
    for number, question in enumerate(asked):
        yield Entry(f"{image_id}/{number}", image_id, image, question, PositiveMask(label), category, present)


def _questions(file: File) -> tuple[list[str], list[str]]:
    """The texts of `questions` and `answer`. Raises `BadExample` where the file is anything else."""
    name = f"QAs/{file.name}"
    try:
        found = json.loads(file.path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        check_machine(file.path, problem)
        raise BadExample(f"{name} cannot be read: {problem}") from problem
    if not isinstance(found, dict):
        raise BadExample(f"{name} is no object with the lists questions and answer")
    asked, answers = (_texts(name, key, found.get(key)) for key in ("questions", "answer"))
    if not asked:
        raise BadExample(f"{name} has no questions")
    return asked, answers


def _texts(name: str, key: str, value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise BadExample(f"{name}: {key} is no list of texts")
    return texts


def _categories(ids: list[str]) -> dict[str, str]:
    """By id; all empty where the ids do not tell any two apart, as `image_1` and `image_2` do not."""
    found = {one: match[1] if (match := _CATEGORY.match(one)) else "" for one in ids}
    return found if len({*found.values()} - {""}) > 1 else dict.fromkeys(ids, "")
