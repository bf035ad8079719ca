#!/usr/bin/env bash
# A Dask worker of one thread for what needs no GPU, with /health and /metrics. One process: whoever started it starts it anew.
# DASK_SCHEDULER_ADDRESS must be set; DASK_WORKER_NAME, T2S_HOST and T2S_DASHBOARD_PORT (8788) may be. More options as given.
set -euo pipefail
: "${DASK_SCHEDULER_ADDRESS:?set it to the address of a scheduler, e.g. tcp://scheduler:8786}"
export CUDA_VISIBLE_DEVICES="${T2S_WORKER_GPUS-}" # none, so that no model of `--device auto` takes one unasked
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "${T2S_PYTHON:-python}" -m dask worker "$DASK_SCHEDULER_ADDRESS" \
  --nthreads 1 --no-nanny --memory-limit 0 --death-timeout 120 \
  --dashboard-address "${T2S_HOST:-}:${T2S_DASHBOARD_PORT:-8788}" \
  ${T2S_HOST:+--host "$T2S_HOST"} ${DASK_WORKER_NAME:+--name "$DASK_WORKER_NAME"} "$@"
