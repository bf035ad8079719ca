"""pystac's validation with no network: core schemas come with pystac, those of extensions lie in `schemas/`.

The latter are our own reading of what the extensions' documents demand of the fields that t2s writes.
"""

import json
from pathlib import Path
from typing import Any

from pystac import Collection
from pystac.validation.stac_validator import JsonSchemaSTACValidator

FOLDER = Path(__file__).parent / "schemas"


class OfflineValidator(JsonSchemaSTACValidator):
    """Knows the extensions that t2s uses, and fetches no other."""

    def __init__(self) -> None:
        super().__init__()
        for path in sorted(FOLDER.glob("*.json")):
            schema = json.loads(path.read_text())
            self.schema_cache[schema["$id"]] = schema

    def _get_schema(self, schema_uri: str) -> dict[str, Any]:
        assert schema_uri in self.schema_cache, f"{schema_uri} is not in {FOLDER}"
        return self.schema_cache[schema_uri]


def validated(out: Path) -> Collection:
    """The collection of a run, valid with all its items."""
    validator = OfflineValidator()
    collection = Collection.from_file(str(out / "stac/collection.json"))
    collection.validate(validator=validator)
    for item in collection.get_items(recursive=True):
        item.validate(validator=validator)
    return collection
