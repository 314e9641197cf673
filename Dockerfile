# syntax=docker/dockerfile:1
FROM python:3.13.0-slim-bookworm AS build
COPY requirements/worker.txt /tmp/worker.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /tmp/worker.txt

FROM python:3.13.0-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin cardtoken
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv
COPY cardtoken cardtoken
COPY config config
COPY tasks tasks
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER cardtoken
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "tasks", "worker", "-l", "INFO"]
