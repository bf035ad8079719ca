"""RISBench: `img_rgb/`, `mask/` of the same names (first channel > 0 is target), `output_phrase_*.txt`."""

from pathlib import Path

from t2s_core.training.datasets.file_examples import FileExamples
from t2s_core.training.datasets.phrases import open_phrases


def open_risbench(root: Path, split: str, limit: int | None = None) -> FileExamples:
    """Open a split. Raises `BadInput` where the layout is another or the split is empty."""
    return open_phrases("risbench", root, split, images="img_rgb", masks="mask", limit=limit)
