#!/usr/bin/env bash
# Runs what Prefect schedules, each flow run a process here; tiles go to the cluster that a deployment's settings name.
# PREFECT_API_URL must be set. T2S_WORK_POOL (t2s-gpu; t2s-cpu for curation) is made where it does not exist, and runs
# T2S_POOL_RUNS flows at a time (1 in t2s-gpu; no limit elsewhere). T2S_WEBHOOK: where notifications are sent to.
# /health is on PREFECT_WORKER_WEBSERVER_PORT (8080).
set -euo pipefail
: "${PREFECT_API_URL:?set it to the address of a Prefect server, e.g. http://prefect-server:4200/api}"
export PREFECT_LOGGING_EXTRA_LOGGERS="${PREFECT_LOGGING_EXTRA_LOGGERS:-t2s_core,pipeline,flows,infra}"
pool="${T2S_WORK_POOL:-t2s-gpu}"
runs="${T2S_POOL_RUNS:-}"
if [[ -z "$runs" && "$pool" == t2s-gpu ]]; then runs=1; fi
"${T2S_PYTHON:-python}" -m infra.prefect_setup "$pool${runs:+=$runs}"
exec "${T2S_PYTHON:-python}" -m prefect worker start \
  --pool "$pool" --type process --with-healthcheck "$@"
