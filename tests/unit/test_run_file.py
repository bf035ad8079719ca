"""run.yaml: what it says, what is given beside it, and a line for everything that is wrong."""

import json
import re
from pathlib import Path
from typing import Any

import fsspec
import jsonschema
import pytest
import yaml
from hypothesis import given as law
from hypothesis import strategies as st

from flows.cli.requested import _parameters
from flows.request import Orchestrator, RunRequest
from flows.run import RunSettings, settings_of
from flows.run_file import read_request, requested, spec_of
from flows.run_schema import as_text, run_schema
from pipeline.spec import RunSpec
from t2s_core.errors import BadInput

DOCS = Path(__file__).resolve().parents[2] / "docs/reference"


def run_yaml(folder: Path, text: str) -> str:
    (folder / "run.yaml").write_text(text)
    return str(folder / "run.yaml")


def lines(config: str | None, **given: Any) -> list[str]:
    return [str(problem) for problem in read_request(config, given).problems]


def test_every_option_of_the_command_is_a_key_and_reaches_the_run(tmp_path: Path) -> None:
    """Whatever is set in the file is in the spec, in the settings, or where the run goes."""
    values: dict[str, Any] = {
        "scenes": ["a.tif"], "out": "o", "query": ["the lake"], "queries": [{"query": "roads", "threshold": 0.7}],
        "aoi": "a.gpkg", "asset": "visual", "bands": "3,2,1", "nodata": -1, "allow_hosts": ["b"],
        "prompter": "qwen_vl:x", "registry": "r", "segmenter": "sam_hf:y", "prompt_template": "t.txt",
        "tile_px": 256, "overlap_px": 32,
        "levels": "1,4", "first_look": 2, "batch_tiles": 3, "gsd": 0.5, "threshold": 0.6, "mode": "instance",
        "min_area_m2": 2.5, "simplify_m": 1.5, "max_unparsable": 0.5, "max_failed": 7, "skip_bad_scenes": True,
        "cog": True, "shard_px": 1024, "sample": 20, "retry_failed": True, "fresh": True, "workers": 3, "cluster": "tcp://x:1",
        "device": "cuda", "orchestrator": "direct",
    }  # fmt: skip
    assert set(values) == set(RunRequest.model_fields) - {"env", "stac"} == {key for key, _ in _parameters()}
    request, problems = read_request(run_yaml(tmp_path, yaml.safe_dump(values)), {})
    spec, of_queries = spec_of(request)
    assert (problems, of_queries) == ([], [])
    for key, field in RunRequest.model_fields.items():
        assert key in {"env", "stac"} or getattr(request, key) != field.default, key
    assert {name for name in RunSpec.model_fields if getattr(spec, name) == RunSpec.model_fields[name].default} == set()
    assert [(q.query_id, q.text, q.threshold) for q in spec.queries] == [
        ("the-lake", "the lake", None), ("roads", "roads", 0.7),
    ]  # fmt: skip
    assert (spec.bands, spec.levels, spec.max_failed, spec.gsd_m) == ((3, 2, 1), (1, 4), "7", 0.5)
    assert settings_of(request) == RunSettings(
        cluster="tcp://x:1", workers=3, device="cuda", retry_failed=True, fresh=True
    )
    assert request.orchestrator is Orchestrator.DIRECT


def test_what_is_given_goes_before_the_file_and_questions_are_replaced_together(tmp_path: Path) -> None:
    config = run_yaml(tmp_path, "{threshold: 0.7, tile_px: 256, cog: true, queries: [the lake], out: here}")
    request = read_request(config, {"threshold": 0.5, "cog": False, "query": ("roads",)}).request
    assert (request.threshold, request.tile_px, request.cog, request.out) == (0.5, 256, False, "here")
    assert (request.query, request.queries) == (("roads",), None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tile_size: 512", "run.yaml: unknown key tile_size; do you mean tile_px?"),
        ("xyzzy: 1", "run.yaml: unknown key xyzzy; keys are env, scenes, stac, out, query, queries, aoi,"),
        ("tile_px: wide", "run.yaml: tile_px: 'wide' should be a valid integer, unable to parse string as an integer"),
        ("scenes: a.tif", "run.yaml: scenes: 'a.tif' should be a list; use e.g. scenes/*.tif"),
        ("levels: [1, x]", "run.yaml: levels #2: 'x' should be a valid integer"),
        ("stac: {api: https://h, colections: [a]}", "run.yaml: unknown key colections; do you mean collections?"),
        ("stac: {collections: [a]}", "run.yaml: stac: {'collections': ['a']} field required".replace("field", "Field")),
        ("mode: fancy", "run.yaml: mode: 'fancy' should be 'semantic' or 'instance'; use e.g. instance."),
        ("max_unparsable: 7", "run.yaml: max_unparsable: 7 should be less than or equal to 1; use e.g. 0.02."),
        ("max_failed: many", "run.yaml: max_failed: max_failed=many is neither a count nor a share; use e.g. 200 or"),
        ("out: ${PLACE}", "run.yaml: out: ${PLACE} is not declared; add `env: [PLACE]`, or write $${PLACE}"),
        ("{env: [T2S_UNSET], out: '${T2S_UNSET}'}", "run.yaml: env: T2S_UNSET is not set; export it, or leave it out."),
        ("env: [AWS_SECRET_ACCESS_KEY]", "run.yaml: env #1: AWS_SECRET_ACCESS_KEY looks like a credential"),
        ("env: [$PLACE]", "run.yaml: env #1: '$PLACE' is no name of an environment variable"),
    ],
)
def test_each_fault_is_one_line_with_the_way_out(tmp_path: Path, text: str, said: str) -> None:
    (line,) = lines(run_yaml(tmp_path, text))
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "holds a list, not keys with values"),
        ("a: [", "not YAML"),
        ("out: a\nout: b", "'out' is written twice; remove one"),
        ("a: &x 1\nb: *x", "aliases"),
    ],
)
def test_what_is_no_document_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        read_request(run_yaml(tmp_path, text), {})
    with pytest.raises(BadInput, match=r"gone\.yaml: cannot be read: No such file"):
        read_request(str(tmp_path / "gone.yaml"), {})
    with pytest.raises(BadInput, match="ssh:// is not opened"):
        read_request("ssh://host/run.yaml", {})


def test_all_faults_are_said_and_the_rest_is_read(tmp_path: Path) -> None:
    config = run_yaml(tmp_path, "{out: here, tile_px: wide, thresold: 0.5, mode: x}")
    read = read_request(config, {"batch_tiles": 0})
    assert read.request == RunRequest(out="here")
    assert len(read.problems) == 4
    assert "--batch-tiles: 0 should be greater than or equal to 1; use e.g. 32." in map(str, read.problems)


def test_variables_stand_where_they_are_declared_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "s3://here")
    monkeypatch.setenv("SIDE", "256")
    monkeypatch.setenv("OTHER", "never")
    text = """
env: [PLACE, SIDE]
scenes: ["${PLACE}/a/", "${PLACE}/b/"]
out: ${PLACE}/out
tile_px: ${SIDE}
queries: [{query: "what costs $${OTHER} or $5?", label: "${SIDE}"}]
"""
    request, problems = read_request(run_yaml(tmp_path, text), {"aoi": "${OTHER}"})
    assert problems == []
    assert (request.scenes, request.out, request.tile_px) == (
        ("s3://here/a/", "s3://here/b/"), "s3://here/out", 256,
    )  # fmt: skip
    assert request.aoi == "${OTHER}", "what the shell gave stays as it is"
    (query,) = spec_of(request)[0].queries
    assert (query.text, query.label) == ("what costs ${OTHER} or $5?", "256")
    form = RunRequest(env=("PLACE",), out="${PLACE}/out")
    assert requested(form).out == "s3://here/out"


def test_a_search_is_a_scene_as_the_command_line_spells_it(tmp_path: Path) -> None:
    text = """
scenes: [a.tif]
stac:
  {api: "https://h/stac/", collections: [a, b], bbox: [1, 2.123456, 3.5, 4], limit: 9,
   datetime: 2024-05-01/.., asset: visual, query: {"eo:cloud_cover": {lt: 20}}}
"""
    request, problems = read_request(run_yaml(tmp_path, text), {})
    assert problems == []
    url = (
        "https://h/stac/search?collections=a,b&bbox=1,2.123456,3.5,4&datetime=2024-05-01/..&"
        "query=%7B%22eo:cloud_cover%22:%7B%22lt%22:20%7D%7D&limit=9#visual"
    )
    assert spec_of(request)[0].scenes == ("a.tif", url)
    assert RunRequest.model_validate({"stac": {"api": "https://h"}}).stac.url() == "https://h/search"  # type: ignore[union-attr]


@law(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_without_env_no_text_without_a_variable_changes(text: str) -> None:
    plain = text.replace("${", "")
    assert requested(RunRequest(out=plain)).out == plain


@pytest.mark.parametrize(
    ("written", "read"),
    [("3,2,1", (3, 2, 1)), (4, (4,)), ([3, 2, 1], (3, 2, 1)), ("nir, red,green", ("nir", "red", "green")),
     (["B04", "B03", "B02"], ("B04", "B03", "B02")), ("red", ("red",))],
)  # fmt: skip
def test_bands_are_numbers_or_names(tmp_path: Path, written: Any, read: tuple[Any, ...]) -> None:
    request, problems = read_request(run_yaml(tmp_path, yaml.safe_dump({"bands": written})), {})
    assert (request.bands, problems) == (read, [])
    jsonschema.Draft202012Validator(run_schema()).validate({"bands": written})
    assert RunSpec.model_validate_json(spec_of(request)[0].model_dump_json()).bands == read


def test_bands_are_not_mixed(tmp_path: Path) -> None:
    assert lines(None, bands="red,2,1") == [
        "--bands: 'red,2,1' mixes numbers and names of bands; use e.g. 3,2,1 or red,green,blue."
    ]
    (line,) = lines(run_yaml(tmp_path, "bands: [red, 2, 1]"))
    assert "run.yaml: bands: ['red', 2, 1] mixes numbers and names of bands" in line


def test_a_file_may_lie_in_a_store() -> None:
    fsspec.filesystem("memory").pipe_file("/runs/run.yaml", b"{out: here, thresold: 1}")
    with pytest.raises(BadInput, match=r"memory://runs/run.yaml: unknown key thresold; do you mean threshold\?"):
        requested("memory://runs/run.yaml")


def test_the_champion_of_the_environment_s_registry_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2S_REGISTRY", "s3://models")
    asked = RunRequest(prompter="champion", query=("a",))
    assert spec_of(asked)[0].models.prompter == "champion:s3://models"
    assert spec_of(asked.model_copy(update={"registry": "here"}))[0].models.prompter == "champion:here"


def test_the_committed_schema_is_current_and_takes_what_the_model_takes() -> None:
    assert (DOCS / "run.schema.json").read_text() == as_text(), "run `make schema`"
    validator = jsonschema.Draft202012Validator(run_schema())
    jsonschema.Draft202012Validator.check_schema(run_schema())
    for example in re.findall(r"```yaml\n(.*?)```", (DOCS / "run-yaml.md").read_text(), re.DOTALL):
        validator.validate(yaml.safe_load(example))
        assert yaml.safe_load(example)
    for bad in ({"tile_size": 1}, {"queries": [{"querry": "x"}]}, {"max_unparsable": 2}, {"mode": "x"}):
        assert list(validator.iter_errors(json.loads(json.dumps(bad)))), bad


def test_the_page_lists_every_key_as_the_code_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", (DOCS / "run-yaml.md").read_text(), re.MULTILINE)
    assert rows == table_rows()


def table_rows() -> list[tuple[str, str, str]]:
    """Key, default and meaning, as docs/reference/run-yaml.md shows them."""
    return [
        (key, "" if field.default in {None, ()} else f"`{json.dumps(field.default)}`", str(field.description))
        for key, field in RunRequest.model_fields.items()
    ]
