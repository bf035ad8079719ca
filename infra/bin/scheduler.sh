#!/usr/bin/env bash
# A Dask scheduler, with /health and /metrics on its dashboard's port.
# T2S_HOST (all interfaces), T2S_SCHEDULER_PORT (8786), T2S_DASHBOARD_PORT (8787); more options of `dask scheduler` as given.
set -euo pipefail
# Dask keeps 1,000 messages of each worker for its developers, tasks and all, which would grow with the region for hours.
export DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH="${DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH:-20}"
exec "${T2S_PYTHON:-python}" -m dask scheduler \
  --host "${T2S_HOST:-0.0.0.0}" \
  --port "${T2S_SCHEDULER_PORT:-8786}" \
  --dashboard-address "${T2S_HOST:-}:${T2S_DASHBOARD_PORT:-8787}" "$@"
