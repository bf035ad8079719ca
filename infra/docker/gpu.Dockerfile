# GPU workers and training: docker build -f infra/docker/gpu.Dockerfile -t t2s-gpu .
# torch's wheels bring CUDA's libraries; the driver comes from the host, by NVIDIA's container toolkit.
# The base is pinned by tag; pin it by digest where you build (docker buildx imagetools inspect python:3.11.14-slim-bookworm).
FROM python:3.11.14-slim-bookworm AS build
RUN python -m venv /opt/t2s && python -m pip install --no-cache-dir uv==0.9.7
WORKDIR /src
COPY requirements.lock ./
RUN VIRTUAL_ENV=/opt/t2s uv pip install --no-cache --no-deps --require-hashes -r requirements.lock
COPY . .
RUN VIRTUAL_ENV=/opt/t2s uv pip install --no-cache --no-deps .

FROM python:3.11.14-slim-bookworm
# torch.compile builds its kernels with a C compiler
RUN apt-get update && apt-get install --yes --no-install-recommends gcc=4:12.* libc6-dev=2.36-* \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 1000 t2s && useradd --uid 1000 --gid t2s --create-home t2s
COPY --from=build /opt/t2s /opt/t2s
COPY infra/bin /home/t2s/infra/bin
ENV PATH=/opt/t2s/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /home/t2s
CMD ["t2s", "--help"]
