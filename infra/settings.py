"""Reads the YAML file of a cluster's settings, strictly."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from infra.checks import ClusterProblem

S = TypeVar("S", bound=BaseModel)


def read_settings(file: str, model: type[S]) -> S:
    """The settings in a file. Raises `ClusterProblem`, in one line that names every key that is wrong."""
    try:
        value = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ClusterProblem(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ClusterProblem(f"{file} is no YAML: {' '.join(str(error).split())[:300]}") from error
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, it['loc'])) or 'it'}: {it['msg']}" for it in error.errors())
        raise ClusterProblem(f"{file}: {told}") from error
