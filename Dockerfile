# biounet for the CPU. For NVIDIA cards: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#
#   docker build --tag biounet .
#   docker run --rm --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" \
#       --volume "$PWD:/data" biounet predict my.safetensors images --out results
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/biounet
ENV PATH=/opt/biounet/bin:$PATH
WORKDIR /source
# torch comes first and alone, so that nothing else can pull in a build for other hardware
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --constraint constraints.txt '.[fast,cluster]' && python -m compileall -q /opt/biounet

FROM python:3.11-slim
COPY --from=build /opt/biounet /opt/biounet
# any user, also one without a name or home; nothing is written but results, and caches under /tmp
ENV PATH=/opt/biounet/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    XDG_CONFIG_HOME=/tmp/config \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1 \
    LANG=C.UTF-8
WORKDIR /data
USER 65534:65534
ENTRYPOINT ["biounet"]
CMD ["--help"]
