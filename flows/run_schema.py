"""The JSON schema of run.yaml, for editors: `python -m flows.run_schema docs/reference/run.schema.json`."""

import json
import sys
from pathlib import Path
from typing import Any

from flows.request import RunRequest


def run_schema() -> dict[str, Any]:
    """JSON schema, draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunRequest.model_json_schema()}


def as_text() -> str:
    """The file that is committed."""
    return json.dumps(run_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(as_text(), encoding="utf-8")
