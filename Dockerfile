# The pipeline and its environment in a container: docker build -t regagent . (or podman); docs/running.md tells its use.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends git make python3-venv \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
WORKDIR /regagent
ARG PIP_EXTRA_INDEX_URL
COPY requirements.lock ./
RUN python3 -m venv /venv && pip install --no-cache-dir --disable-pip-version-check -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .
