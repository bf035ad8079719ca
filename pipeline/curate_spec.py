"""What is asked of a curation: everything that changes the data set, and what of it can be seen to be wrong at once."""

from pydantic import BaseModel, ConfigDict

from pipeline.bands import Bands
from pipeline.preflight import geometry_problems
from pipeline.scenes import Problem


class CurationSpec(BaseModel):
    """Sources of truth, and how chips are cut from them. Any mixture of the three kinds of sources."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: tuple[str, ...] = ()
    """Paths, globs, directories or URLs. `labels` say what is in them."""
    labels: tuple[str, ...] = ()
    """Vector files, or rasters of class values."""
    labels_cover: str | None = None
    """A vector file: where the labels, and corrections, are complete. The bounds of each vector layer if None."""
    query_column: str | None = None
    """The column that holds each label's query, or the value that `class_values` translates."""
    query_template: str | None = None
    """`the {class}`: the query, with the names of columns in braces."""
    query: str | None = None
    """What every label, or every value above 0 of a mask raster, is."""
    class_values: str | None = None
    """A JSON file {value: query} for mask rasters and for `query_column`."""
    phrasings: str | None = None
    """A YAML file {query: [other texts that ask for the same]}."""
    from_run: str | None = None
    """A finished run's directory or URL, whose features were corrected by a person."""
    features: str | None = None
    """The corrected features: any vector file, or the run's `features` edited in place."""
    reviewed: tuple[str, ...] = ()
    """`query_id` or `scene_id/query_id` that the corrections are truth for; all of the run if empty."""
    hard_from: str | None = None
    """A run whose doubtful tiles are listed for labelling."""
    min_disagreement: float = 0.5
    """A tile is listed where it and its neighbours differ in this share (0 to 1) of the pixels claimed in overlaps."""
    asset: str | None = None
    """Of `scenes`; as in a run."""
    bands: Bands | None = None
    """Of `scenes`; as in a run."""
    nodata: float | None = None
    """Of `scenes`; as in a run."""
    allow_hosts: tuple[str, ...] = ()
    """Where STAC items may name files; as in a run."""
    tile_px: int | None = None
    """Side of a chip; that of `from_run`, else that of `prompter`'s profile if None."""
    prompter: str = "bundled"
    """Who will be trained: only its tile side is looked at, and only where nothing else says one."""
    overlap_px: int = 0
    """What neighbouring chips share."""
    levels: tuple[int, ...] = (1,)
    """Overview factors at which chips are cut."""
    block_m: float | None = None
    """Side in metres of the blocks that splits are made of; about eight chips of the coarsest scene if None."""
    val: float = 0.1
    """Share of blocks for validation."""
    test: float = 0.1
    """Share of blocks for tests."""
    seed: int = 0
    """Decides the splits and which absent targets are asked for."""
    absent_rate: float = 0.5
    """Examples without their target for each example with one, in every split."""
    min_target_px: int = 16
    """Chip pixels from which a target counts as present; fewer, but one, is neither present nor absent."""


def option_problems(spec: CurationSpec) -> list[Problem]:
    """What is wrong with the options by themselves, and with their combination. Opens nothing."""
    return [*_number_problems(spec), *_source_problems(spec), *label_problems(spec)]


def _number_problems(spec: CurationSpec) -> list[Problem]:
    problems = [
        Problem(option, f"{value:g} is no share; use 0 to 1, e.g. {usual}.")
        for option, value, usual in (
            ("--val", spec.val, "0.1"),
            ("--test", spec.test, "0.1"),
            ("--min-disagreement", spec.min_disagreement, "0.5"),
        )
        if not 0 <= value <= 1
    ]
    if not problems and spec.val + spec.test > 1:
        text = f"{spec.val:g} and --test {spec.test:g} are more than all blocks; leave some for training."
        problems.append(Problem("--val", text))
    if not spec.absent_rate >= 0:
        problems.append(Problem("--absent-rate", f"{spec.absent_rate:g} is negative; use 0 or more, e.g. 0.5."))
    if spec.min_target_px < 1:
        problems.append(Problem("--min-target-px", f"{spec.min_target_px} is less than a pixel; use 1 or more."))
    if spec.block_m is not None and not spec.block_m > 0:
        problems.append(Problem("--block-m", f"{spec.block_m:g} m is no length; use e.g. 2000."))
    return problems + geometry_problems(spec.tile_px, spec.overlap_px, spec.levels)


def _source_problems(spec: CurationSpec) -> list[Problem]:
    problems = []
    if not (spec.scenes or spec.labels or spec.from_run or spec.features or spec.hard_from):
        text = "no source is given; use SCENE... with --labels, --from-run with --features, or --hard-from."
        problems.append(Problem("t2s curate", text))
    if spec.scenes and not spec.labels:
        problems.append(Problem("SCENE", "scenes without truth teach nothing; add --labels FILE."))
    if spec.labels and not spec.scenes:
        problems.append(Problem("--labels", f"{spec.labels[0]} lies over no scene; add the scenes that it labels."))
    if (spec.from_run is None) != (spec.features is None):
        given, lacking = ("--from-run", "--features") if spec.features is None else ("--features", "--from-run")
        problems.append(Problem(given, f"{spec.from_run or spec.features} needs {lacking} beside it; add it."))
    if spec.reviewed and spec.from_run is None:
        problems.append(Problem("--reviewed", f"{spec.reviewed[0]} names a part of no run; add --from-run OUT."))
    return problems


def label_problems(spec: CurationSpec) -> list[Problem]:
    """What leaves open how labels are called. Opens nothing."""
    ways = {"--query-column": spec.query_column, "--query-template": spec.query_template, "--query": spec.query}
    given = [name for name, value in ways.items() if value is not None]
    problems = []
    if len(given) > 1:
        problems.append(Problem(given[0], f"given together with {given[1]}; one of them names the queries."))
    if spec.query is not None and spec.class_values is not None:
        problems.append(Problem("--query", "given together with --class-values; one of them names the queries."))
    if spec.labels and not given and spec.class_values is None:
        text = "what are these called? add --query-column, --query-template, --query or --class-values."
        problems.append(Problem("--labels", text))
    if not spec.labels:
        problems += [
            Problem(name, f"{ways[name]!r} describes labels, and none are given; add --labels.") for name in given
        ]
    return problems
