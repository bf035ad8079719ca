#!/usr/bin/env bash
# Prefect's server and pages, with /api/health. T2S_HOST (all interfaces), T2S_PREFECT_PORT (4200).
# PREFECT_API_DATABASE_CONNECTION_URL names its Postgres (postgresql+asyncpg://...); without it, SQLite in PREFECT_HOME.
set -euo pipefail
export PREFECT_SERVER_ANALYTICS_ENABLED=false
exec "${T2S_PYTHON:-python}" -m prefect server start \
  --host "${T2S_HOST:-0.0.0.0}" --port "${T2S_PREFECT_PORT:-4200}" "$@"
