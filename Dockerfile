# syntax=docker/dockerfile:1
FROM python:3.13.0-slim-bookworm AS base
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin cardtoken
WORKDIR /srv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM base AS build-worker
COPY requirements/worker.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt

FROM base AS build-simulator
COPY requirements/simulator.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/requirements.txt

# Both providers, to try the service without an account: docker-compose.yml, profile `simulator`.
FROM base AS simulator
COPY --from=build-simulator /opt/venv /opt/venv
COPY simulator simulator
USER cardtoken
EXPOSE 8090
CMD ["python", "-m", "simulator", "--host", "0.0.0.0", "--port", "8090"]

# Workers and Flower.
FROM base AS worker
COPY --from=build-worker /opt/venv /opt/venv
COPY cardtoken cardtoken
COPY config config
COPY tasks tasks
# A worker starts a tenth of a second sooner.
RUN python -m compileall -q cardtoken config tasks
# Where Flower keeps its tasks; a volume takes over its owner.
RUN install -d -o cardtoken -g cardtoken -m 0700 /var/lib/flower
USER cardtoken
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "tasks", "worker", "-l", "INFO"]
