"""What trials share: a region, and what comes of it where nothing disturbs."""

from typing import Any

import pytest
from regions import draw_scene, make_models, results, run, spec_of

from pipeline.spec import RunSpec


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    folder = tmp_path_factory.mktemp("region")
    return spec_of(make_models(folder), draw_scene(folder / "alpha.tif"))


@pytest.fixture(scope="module")
def expected(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(spec, out)
    return results(out)
