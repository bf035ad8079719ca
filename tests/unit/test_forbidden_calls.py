"""Nothing in the source runs what a file or a text says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("t2s_core", "pipeline", "tasks", "flows", "infra", "benchmarks")
NEVER = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.loads", "cPickle.loads", "dill.load", "dill.loads",
    "joblib.load", "cloudpickle.load", "cloudpickle.loads", "marshal.loads", "shelve.open",
    "pandas.read_pickle", "pd.read_pickle",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all", "yaml.full_load_all",
    "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp",
}  # fmt: skip
ALLOWED = {
    # subclasses the unpickler so that it can make nothing but plain values; never called by that name
    ("t2s_core/training/datasets/plain_pickle.py", "pickle.Unpickler"),
    # a task as its own client packed it, from Dask, which unpickles whatever it carries
    ("pipeline/work.py", "pickle.loads"),
}
SAFE_LOADER = ("pipeline/texts.py", "yaml.load")
"""With a loader that reads less than `SafeLoader`: see test_the_one_yaml_loader_is_a_safe_one."""


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def faults(source: str, name: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and not says(node.value, "False"):
            yield f"{name}:{node.value.lineno}: trust_remote_code"
        if isinstance(node, ast.ImportFrom) and node.module in {"pickle", "os", "yaml", "subprocess", "dill"}:
            named = {f"{node.module}.{alias.name}" for alias in node.names} & {*NEVER, "yaml.load"}
            yield from (f"{name}:{node.lineno}: {call} by another name" for call in sorted(named))
        if not isinstance(node, ast.Call):
            continue
        call, given = dotted(node.func), {k.arg: k.value for k in node.keywords}
        at = f"{name}:{node.lineno}: {call}"
        if call in NEVER and (name, call) not in ALLOWED:
            yield at
        if call == "yaml.load" and (name, call) != SAFE_LOADER:
            yield at
        if call == "torch.load" and not says(given.get("weights_only"), "True"):
            yield f"{at} without weights_only=True"
        if call.endswith(".load") and call.startswith(("np.", "numpy.")) and "allow_pickle" in given:
            yield f"{at} with allow_pickle"
        if "shell" in given and not says(given["shell"], "False"):
            yield f"{at} with a shell"


def says(node: ast.expr | None, value: str) -> bool:
    return isinstance(node, ast.Constant) and repr(node.value) == value


def test_no_source_runs_what_it_reads() -> None:
    assert len(sources()) > 150
    found = [fault for path in sources() for fault in faults(path.read_text(), str(path.relative_to(ROOT)))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)", "import os\nos.system(x)", "pickle.loads(x)", "from pickle import loads", "yaml.load(x)",
        "torch.load(x)", "torch.load(x, weights_only=False)", "torch.load(x, weights_only=y)",
        "f(trust_remote_code=True)", "from os import system",
        "subprocess.run(x, shell=True)", "subprocess.run(x, shell=y)", "np.load(x, allow_pickle=True)",
    ],
)  # fmt: skip
def test_the_look_finds_what_it_looks_for(source: str) -> None:
    assert len(list(faults(source, "x.py"))) == 1


def test_the_one_yaml_loader_is_a_safe_one() -> None:
    import yaml

    from pipeline.texts import _PlainLoader, yaml_value

    assert issubclass(_PlainLoader, yaml.SafeLoader)
    for text in ("!!python/object/apply:os.getcwd []", "!!python/name:os.system ''", "!!python/module:os ''"):
        with pytest.raises(ValueError, match="could not determine a constructor"):
            yaml_value(text)
