#!/usr/bin/env bash
# The same for what asks models: one GPU, the first that is visible here. T2S_GPU_CHECK=off starts it without one.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
if [[ "${T2S_GPU_CHECK:-on}" != off ]]; then
  "${T2S_PYTHON:-python}" -c 'import sys, torch; sys.exit(torch.cuda.device_count() == 0 and "no GPU is visible here")'
fi
export T2S_WORKER_GPUS="${CUDA_VISIBLE_DEVICES-0}"
exec "$here/worker.sh" --resources GPU=1 "$@"
