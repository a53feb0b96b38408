# docker build -t halfmask .
# docker run --rm -v "$PWD:/data" halfmask doctor boxes.json --images photos
# With CUDA: docker build --build-arg CUDA=1 -t halfmask . and docker run --gpus all …
FROM python:3.12-slim

# CUDA=1: PyPI's torch, which brings CUDA. Default: PyTorch's smaller build for CPUs.
ARG CUDA=0
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/halfmask
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY halfmask ./halfmask
RUN if [ "$CUDA" = 0 ]; then export PIP_EXTRA_INDEX_URL="$CPU_INDEX"; fi; \
    pip install --no-cache-dir -c constraints.txt .

RUN useradd --create-home --uid 1000 halfmask
USER halfmask
WORKDIR /data
ENTRYPOINT ["halfmask"]
CMD ["--help"]
