"""A training's curves: a table of (step, name, value) and a picture of the ones that matter."""

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())])
NAMES = {
    "reward": "reward (0 to 4)",
    "rewards/mask_reward/mean": "mask IoU (0 to 1)",
    "rewards/schema_reward/mean": "schema kept",
    "rewards/tags_reward/mean": "tags right",
    "kl": "KL, nats per token",
    "completions/mean_length": "reply length, tokens",
    "held_out/giou": "held-out gIoU",
    "held_out/format_rate": "held-out format rate",
    "loss": "loss",
}
"""What the picture shows, in this order, where it was logged."""


class CurveTable:
    """Rows of `curves.parquet` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Read what is there."""
        self.folder = folder
        file = folder / "curves.parquet"
        self.rows: list[tuple[int, str, float]] = []
        if file.exists():
            table = pq.read_table(file)
            self.rows = list(zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Numbers of one step; what is no number (an epoch's text) is not a curve."""
        self.rows += [(step, name, float(value)) for name, value in values.items() if isinstance(value, int | float)]

    def cut(self, step: int) -> None:
        """Forget what lies beyond a step."""
        self.rows = [row for row in self.rows if row[0] <= step]

    def thinned(self, n_rows: int) -> list[tuple[int, dict[str, float]]]:
        """Steps with what the curves of `NAMES` have there: at most `n_rows`, evenly spread, the last among them.

        Curves that are measured now and then (held-out scores) keep their steps before the others do.
        """
        rows: dict[int, dict[str, float]] = {}
        for step, name, value in self.rows:
            if name in NAMES:
                rows.setdefault(step, {})[name] = value
        steps = sorted(rows)
        measured = _spread([step for step in steps if any(n.startswith("held_out") for n in rows[step])], n_rows)
        others = _spread([step for step in steps if step not in measured], n_rows - len(measured))
        return [(step, rows[step]) for step in sorted({*measured, *others})]

    def write(self) -> None:
        """Write table and picture, each at once."""
        part = self.folder / "curves.parquet.part"
        columns = zip(*self.rows, strict=True) if self.rows else ((), (), ())
        pq.write_table(pa.table([list(column) for column in columns], schema=SCHEMA), part)
        part.rename(self.folder / "curves.parquet")
        self._draw(self.folder / "curves.png")

    def _draw(self, file: Path) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for step, name, value in self.rows:
            if name in NAMES:
                curves[name].append((step, value))
        shown = [name for name in NAMES if curves[name]]
        if not shown:
            return
        rows = -(-len(shown) // 3)
        figure = Figure(figsize=(12, 2.8 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for place, name in enumerate(shown, start=1):
            axes = figure.add_subplot(rows, 3, place)
            steps, values = zip(*curves[name], strict=True)
            axes.plot(steps, values, marker="o" if name.startswith("held_out") else "", linewidth=1)
            axes.set_title(NAMES[name], fontsize=9)
            axes.set_xlabel("step", fontsize=8)
            axes.grid(visible=True, alpha=0.3)
        figure.savefig(file, dpi=100)


def _spread(steps: list[int], n: int) -> list[int]:
    """At most n of the steps, evenly spread, the last among them."""
    if len(steps) <= n:
        return steps
    return [steps[-1 - round(i * (len(steps) - 1) / max(n - 1, 1))] for i in range(n)]
