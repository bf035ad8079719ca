"""Fixtures that many tests share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Laws are about results. How fast a busy machine checks them is nobody's law.
settings.register_profile("t2s", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("t2s")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real GeoTIFFs that lie beside some checkouts; a plain clone has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real rasters is not beside this checkout")
    return folder
