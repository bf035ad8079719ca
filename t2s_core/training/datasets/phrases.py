"""Datasets that list their examples in text files, one `image phrase` a line."""

from collections.abc import Iterator
from pathlib import Path

from t2s_core.training.datasets.file_examples import Entry, Fault, FileExamples, PositiveMask
from t2s_core.training.datasets.files import Listing, read_index, require
from t2s_core.training.examples import BadExample

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")


def open_phrases(
    dataset: str, root: Path, split: str, *, images: str, masks: str, limit: int | None = None
) -> FileExamples:
    """Open `output_phrase_<split>.txt` over two directories that use the same names.

    A line's first word names the image, with or without its suffix; the rest is the question. Blank lines are nothing;
    any other line is an example, a bad one where it cannot be understood.

    Raises:
        BadInput: A file or directory is missing, or there is no line.

    """
    phrases = f"output_phrase_{split}.txt"
    require(dataset, root, f"{images}/", f"{masks}/", phrases)
    raw = read_index(dataset, root / phrases)
    found = _entries(raw, Listing(root / images, _SUFFIXES), Listing(root / masks, _SUFFIXES))
    return FileExamples(dataset, split, found, limit=limit)


def _entries(raw: bytes, images: Listing, masks: Listing) -> Iterator[Entry | Fault]:
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if line.strip():
            yield _entry(number, line, images, masks)


def _entry(number: int, line: bytes, images: Listing, masks: Listing) -> Entry | Fault:
    try:
        name, *rest = line.decode("utf-8").split(maxsplit=1)
    except UnicodeDecodeError:
        return Fault(f"line {number}", "the line is not UTF-8")
    except ValueError:  # blank to Python's texts, though not to its bytes
        return Fault(f"line {number}", "the line holds neither an image's name nor a phrase")
    if not rest:
        return Fault(f"line {number}", f"the line is {name!r} alone; it must be an image's name and a phrase")
    try:
        image = images.find(name)
        mask = masks.find_like(image)
    except BadExample as problem:
        return Fault(f"line {number}", str(problem))
    # A phrase file has no ids of its own, and names one image on many lines.
    return Entry(f"{image.stem}/{number}", image.name, image, rest[0], PositiveMask(mask))
