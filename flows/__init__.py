"""Prefect flows and the `t2s` command."""
