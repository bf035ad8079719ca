# Scheduler, CPU workers, Prefect server and worker: docker build -f infra/docker/cpu.Dockerfile -t t2s .
# The base is pinned by tag; pin it by digest where you build (docker buildx imagetools inspect python:3.11.14-slim-bookworm).
FROM python:3.11.14-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN python -m venv /opt/t2s && python -m pip install --no-cache-dir uv==0.9.7
WORKDIR /src
COPY requirements.lock infra/docker/without-cuda.awk ./
# All that is locked, by its hashes, but for torch and its GPU libraries (5 GB); of torch the CPU build of the same version,
# which uv's torch backend takes from PyTorch's own index.
RUN awk -f without-cuda.awk requirements.lock > cpu.lock \
 && VIRTUAL_ENV=/opt/t2s uv pip install --no-cache --no-deps --require-hashes -r cpu.lock \
 && sed -n 's/^\(torch\|torchvision\)==\([^ ]*\).*/\1==\2/p' requirements.lock > torch.txt \
 && VIRTUAL_ENV=/opt/t2s uv pip install --no-cache --no-deps --torch-backend cpu -r torch.txt
COPY . .
RUN VIRTUAL_ENV=/opt/t2s uv pip install --no-cache --no-deps .

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 1000 t2s && useradd --uid 1000 --gid t2s --create-home t2s
COPY --from=build /opt/t2s /opt/t2s
COPY infra/bin /home/t2s/infra/bin
ENV PATH=/opt/t2s/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
USER 1000:1000
WORKDIR /home/t2s
CMD ["t2s", "--help"]
