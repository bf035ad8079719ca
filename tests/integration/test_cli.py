"""The command from outside: bad input in lines, JSON on stdout, exit codes, and nothing heavy before it is needed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import shapely
from regions import NORTH_UP, NOTHING, WATER, DyingWorkers, draw_scene, make_models, run, spec_of, work_here
from tiffs import draw_tiff, noise

from pipeline.spec import Models

T2S = [sys.executable, "-c", "from flows.cli.app import main; main()"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return draw_scene(tmp_path / "alpha.tif")


def t2s(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run([*T2S, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False)


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in this process: exit code, stdout, stderr."""
    from flows.cli.app import main

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["t2s", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out, captured.err

    return command


def loaded_after(statement: str, *modules: str) -> set[str]:
    """Which of the modules a fresh interpreter has imported after a statement."""
    code = f"import sys\n{statement}\nprint('LOADED', *(m for m in {modules!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "prefect", "rasterio", "geopandas", "dask", "distributed", "zarr", "pandas")
    assert loaded_after("import flows.cli.app", *heavy) == set()


def test_bad_input_is_found_before_any_model_library_is_imported(scene: Path, tmp_path: Path) -> None:
    argv = ["t2s", "segment", str(scene), "--query", " ", "--out", str(tmp_path / "out"), "--prompter", "oracle"]
    statement = f"""
from flows.cli.app import main
sys.argv = {argv!r}
try:
    main()
except SystemExit as ending:
    assert ending.code == 2, ending.code
"""
    assert loaded_after(statement, "torch", "transformers", "prefect") == set()


@pytest.mark.parametrize("command", ["segment", "plan", "status", "demo", "export", "validate"])
def test_every_command_has_help_with_an_example(here: Command, command: str) -> None:
    code, text, _ = here(command, "--help")
    assert code == 0
    assert "Example" in text
    assert f"t2s {command}" in text


def no_crs(folder: Path) -> list[object]:
    return [draw_tiff(folder / "bare.tif", noise(3, 8, 8), crs=None)]


def not_a_raster(folder: Path) -> list[object]:
    (folder / "text.tif").write_text("no raster")
    return [folder / "text.tif"]


def output_is_a_file(folder: Path) -> list[object]:
    (folder / "taken").write_text("mine")
    return ["--out", folder / "taken"]


def area_that_misses(folder: Path) -> list[object]:
    (folder / "far.wkt").write_text("SRID=4326;POLYGON ((100 0, 101 0, 101 1, 100 1, 100 0))")
    return ["--aoi", folder / "far.wkt"]


def area_without_crs(folder: Path) -> list[object]:
    x, y = NORTH_UP @ (10, 10)
    (folder / "bare.wkt").write_text(shapely.box(x, y, x + 50, y + 50).wkt)
    return ["--aoi", folder / "bare.wkt"]


BAD: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "missing_file": (lambda folder: [folder / "gone.tif"], "gone.tif: no such file or directory"),
    "not_a_raster": (not_a_raster, "text.tif: cannot be opened as a raster"),
    "no_crs": (no_crs, "bare.tif: no coordinate reference system"),
    "band_out_of_range": (lambda _: ["--bands", "9"], "alpha.tif: band 9 of 3"),
    "no_core": (lambda _: ["--overlap-px", "40"], "--overlap-px: overlap_px=40 is more than half a 64 px tile"),
    "empty_query": (lambda _: ["--query", "  "], "--query: query '': is empty"),
    "duplicate_query": (lambda _: ["--query", WATER.upper()], "is given twice"),
    "unknown_prompter": (lambda _: ["--prompter", "oracle", "--tile-px", "64"], "prompter 'oracle' is no model's name"),
    "unknown_segmenter": (lambda _: ["--segmenter", "scissors"], "segmenter 'scissors' is no model's name"),
    "output_is_a_file": (output_is_a_file, "taken is a file; give a directory"),
    "area_that_misses": (area_that_misses, "far.wkt"),
    "area_without_crs": (area_without_crs, "bare.wkt"),
    "threshold": (lambda _: ["--threshold", "1.5"], "threshold=1.5 is not between 0 and 1"),
    "levels": (lambda _: ["--levels", "1,x"], "--levels"),
    "gsd": (lambda _: ["--gsd", "0"], "--gsd: gsd=0 is no size of a pixel"),
    "shards": (lambda _: ["--shard-px", "700"], "--shard-px: 700 should be a multiple of 512; use e.g. 2048."),
    "share": (lambda _: ["--max-unparsable", "7"], "--max-unparsable: 7.0 should be less than or equal to 1"),
}  # fmt: skip


def arguments(models: Models, scene: Path, out: Path) -> list[object]:
    named = ["--prompter", models.prompter, "--segmenter", models.segmenter]
    return [scene, "--query", WATER, "--out", out, *named, "--direct", "--workers", "1"]


@pytest.mark.parametrize("name", BAD)
def test_each_bad_input_is_one_line_and_exit_2_and_writes_nothing(
    here: Command, models: Models, scene: Path, tmp_path: Path, name: str,
) -> None:  # fmt: skip
    add, said = BAD[name]
    extra = add(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = here("segment", *arguments(models, scene, tmp_path / "out"), *extra)
    lines = err.splitlines()
    assert code == 2
    assert out == ""
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_all_problems_of_all_inputs_are_said_at_once(models: Models, scene: Path, tmp_path: Path) -> None:
    together = ["missing_file", "not_a_raster", "no_crs", "no_core", "empty_query", "output_is_a_file", "threshold",
                "area_that_misses", "unknown_segmenter", "share"]  # fmt: skip
    extra = [argument for name in together for argument in BAD[name][0](tmp_path)]
    before = sorted(tmp_path.rglob("*"))
    done = t2s("segment", *arguments(models, scene, tmp_path / "out"), *extra)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    for name in together:
        assert sum(BAD[name][1] in line for line in lines) == 1, name
    assert len(lines) == len(together)
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_as_json_counts_and_computes_nothing(here: Command, models: Models, scene: Path, tmp_path: Path) -> None:
    given = arguments(models, scene, tmp_path / "out")[:-3]
    code, out, _ = here("plan", *given, "--query", NOTHING, "--json")
    assert code == 0
    assert json.loads(out) == {
        "scenes": 1, "tiles": 9, "tile_queries": 18, "pixels": 9 * 64 * 64, "bytes": 3 * 9 * 64 * 64,
        "seconds": None, "tokens": None, "measured_by": None, "notes": [], "problems": [],
    }  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_plan_says_at_which_levels_it_looks(here: Command, models: Models, scene: Path, tmp_path: Path) -> None:
    given = arguments(models, scene, tmp_path / "out")[:-3]
    code, out, _ = here("plan", *given, "--gsd", "4", "--levels", "1,2")
    assert code == 0
    assert "levels of alpha: 2 (4 m pixels, tiles 256 m wide), 4 (8 m pixels, tiles 512 m wide)" in out
    _, out, _ = here("plan", *given)
    assert "levels of alpha: 1 (2 m pixels, tiles 128 m wide)" in out
    assert "--levels 1,4" in out


def test_plan_as_json_lists_every_problem_and_exits_2(
    here: Command, models: Models, scene: Path, tmp_path: Path
) -> None:
    given = arguments(models, scene, tmp_path / "out")[:-3]
    gone = tmp_path / "gone.tif"
    code, out, _ = here("plan", *given, gone, "--overlap-px", "40", "--json")
    document = json.loads(out)
    assert code == 2
    assert [p["href"] for p in document["problems"]] == [str(gone), "--overlap-px"]
    assert {"scenes", "tiles", "tile_queries", "pixels", "bytes", "seconds", "tokens"} < set(document)


def test_plan_knows_the_time_after_a_run_with_the_same_models(
    here: Command, models: Models, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2S_CACHE", str(tmp_path / "cache"))
    outcome = run(spec_of(models, scene), tmp_path / "out")
    code, out, _ = here("plan", *arguments(models, scene, tmp_path / "out")[:-3], "--json")
    assert code == 0
    document = json.loads(out)
    assert document["seconds"] > 0
    assert document["measured_by"] == outcome.manifest["run_id"]


def test_what_a_run_took_predicts_the_next_one_elsewhere_and_says_how_far_off_it_was(
    here: Command, models: Models, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    first, second = (
        json.loads(here("segment", *arguments(models, scene, tmp_path / name), "--json")[1])
        for name in ("first", "second")
    )
    planned = json.loads(here("plan", *arguments(models, scene, tmp_path / "third")[:-3], "--json")[1])
    assert "estimate" not in first
    assert second["estimate"]["measured_by"] == first["run_id"]
    assert second["estimate"]["tokens"] == second["history"][-1]["n_tokens"]
    assert planned["measured_by"] == second["run_id"]
    assert planned["tokens"] == second["history"][-1]["n_tokens"]
    assert second["timings"]["tile_queries_per_s"] > 0
    assert second["timings"]["km2_per_h"] > 0


def test_segment_as_json_then_status_as_json(models: Models, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = t2s("segment", *arguments(models, scene, out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "run.json").read_text())
    status = t2s("status", out, "--json")
    document = json.loads(status.stdout)
    assert status.returncode == 0
    assert document["status"] == "SUCCESS"
    assert document["tile_queries"] == {
        "total": 9, "ok": 9, "no_target": 0, "unparsable": 0, "failed": 0, "skipped_nodata": 0,
        "skipped_irrelevant": 0, "pending": 0,
    }  # fmt: skip
    assert (document["failures"], document["unparsable"]) == ([], [])


def test_a_partial_run_exits_3_and_its_status_0(
    here: Command, monkeypatch: pytest.MonkeyPatch, models: Models, scene: Path, tmp_path: Path
) -> None:
    from regions import TILE_PX

    work_here(monkeypatch)
    given = [*arguments(models, scene, tmp_path / "out"), "--query", "nobody recorded this", "--tile-px", TILE_PX]
    code, out, _ = here("segment", *given, "--json")
    assert (code, json.loads(out)["status"]) == (3, "PARTIAL")
    code, out, _ = here("status", tmp_path / "out", "--json")
    document = json.loads(out)
    assert (code, document["status"], len(document["failures"])) == (0, "PARTIAL", 9)
    assert set(document["failures"][0]) == {"scene_id", "tile", "query_id", "reason"}


def test_status_of_no_run_is_bad_input(here: Command, tmp_path: Path) -> None:
    code, out, err = here("status", tmp_path, "--json")
    assert (code, out) == (2, "")
    assert "no run.json is here" in err
    assert len(err.splitlines()) == 1


HELD = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from regions import DyingWorkers, run, spec_of
from pipeline.prepare import sampled_stretch
from pipeline.spec import Models

class Wait(DyingWorkers):
    def map(self, function, items, *, models=False):
        if function is sampled_stretch:
            yield from map(function, items)
            return
        yield from self.first(function, items)
        print("waiting", flush=True)
        sys.stdin.read()

    def first(self, function, items):
        yield function(next(iter(items)))

run(spec_of(Models(prompter=sys.argv[1], segmenter=sys.argv[2]), Path(sys.argv[3])), sys.argv[4], Wait(1))
"""


def test_status_tells_a_running_run_from_a_killed_one(
    here: Command, models: Models, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, models.prompter, models.segmenter, str(scene), str(out)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert "waiting" in process.stdout.read(8)
        document = json.loads(here("status", out, "--json")[1])
        assert (document["status"], document["tile_queries"]["ok"], document["tile_queries"]["pending"]) == (
            "RUNNING",
            4,
            5,
        )
        code, _, err = here("segment", *arguments(models, scene, out), "--tile-px", 64)
        assert (code, f"process {process.pid} on {os.uname().nodename}" in err) == (2, True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    document = json.loads(here("status", out, "--json")[1])
    assert (document["status"], document["tile_queries"]["pending"]) == ("INTERRUPTED", 5)
    assert run(spec_of(models, scene), out).computed == 5


def test_status_of_a_run_that_an_exception_ended_says_which(
    here: Command, models: Models, scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConnectionError):
        run(spec_of(models, scene), tmp_path / "out", DyingWorkers(1))
    code, text, _ = here("status", tmp_path / "out")
    assert code == 0
    assert "FAILED: 4 of 9 tile-queries are done" in text
    assert "the plug was pulled" in text


def test_segment_with_cogs_and_shards_then_validate_then_export(
    here: Command, models: Models, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert here("segment", *arguments(models, scene, out), "--cog", "--shard-px", "1024")[0] == 0
    assert sorted(p.name for p in (out / "cog/alpha/the-water").iterdir()) == ["mask.tif", "probability.tif"]
    mask = json.loads((out / "masks.zarr/alpha/the-water/mask/zarr.json").read_text())
    assert mask["chunk_grid"]["configuration"]["chunk_shape"] == [1024, 1024]
    assert mask["codecs"][0]["name"] == "sharding_indexed"
    code, text, _ = here("validate", out)
    assert (code, text.count("ok  ")) == (0, 16)
    code, text, _ = here("validate", out, "--json")
    document = json.loads(text)
    assert (code, document["ok"]) == (0, True)
    assert all(set(check) == {"name", "ok", "detail"} for check in document["checks"])
    code, text, _ = here("export", out, "--format", "geojson", "--out", tmp_path / "x.geojson", "--json")
    assert (code, json.loads(text)["href"]) == (0, str(tmp_path / "x.geojson"))
    code, text, err = here("export", out, "--format", "geojson", "--out", tmp_path / "x.geojson")
    assert (code, text) == (2, "")
    assert "give --overwrite" in err


def test_validate_exits_1_where_something_is_wrong_and_2_where_there_is_no_run(
    here: Command, models: Models, scene: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(spec_of(models, scene), out)
    (out / "features/query_id=the-water/scene_id=alpha/part-0.parquet").write_bytes(b"rust")
    code, text, _ = here("validate", out)
    assert code == 1
    assert "FAIL  checksums" in text
    assert json.loads(here("validate", out, "--json")[1])["ok"] is False
    code, text, err = here("validate", tmp_path / "none", "--json")
    assert (code, text) == (2, "")
    assert "no run.json is here" in err


def test_an_item_may_name_another_host_only_where_that_is_allowed(
    here: Command, models: Models, tmp_path: Path
) -> None:
    item = tmp_path / "item.json"
    href = "http://127.0.0.1:9/elsewhere.tif"
    document = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "i",
        "properties": {},
        "assets": {"a": {"href": href}},
    }
    item.write_text(json.dumps(document))
    given = ["plan", item, *arguments(models, item, tmp_path / "out")[1:-3], "--json"]
    problems = [json.loads(here(*given, *allowed)[1])["problems"] for allowed in ([], ["--allow-hosts", "127.0.0.1:9"])]
    assert "--allow-hosts" in problems[0][0]["problem"]
    assert problems[1]
    assert "--allow-hosts" not in problems[1][0]["problem"]  # it is asked, and nobody is at home
