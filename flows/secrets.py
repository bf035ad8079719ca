"""Values of this process's environment that nothing may say."""

import os

from pipeline.redaction import SECRET_VARIABLES


def secrets() -> tuple[str, ...]:
    """Hidden wherever they would be said: see `pipeline.redaction.redacted`."""
    return tuple(value for name in SECRET_VARIABLES if (value := os.environ.get(name)))
