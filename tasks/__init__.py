"""Prefect tasks: thin wrappers, one per stage and scene, around `pipeline`."""
