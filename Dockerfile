FROM python:3.14.8-slim-trixie AS base
# By number below, as Kubernetes' runAsNonRoot cannot judge a name.
RUN groupadd --gid 10001 cardtoken \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cardtoken
WORKDIR /srv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

# What builds stays here: the images have no pip.
FROM base AS build
COPY requirements/image.txt /build/
RUN python -m venv /build/venv \
    && /build/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r /build/image.txt \
    && python -m venv --without-pip /opt/venv \
    && cp /build/venv/bin/dumb-init /opt/venv/bin/

FROM build AS build-worker
COPY requirements/worker.txt /build/
RUN /build/venv/bin/pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r /build/worker.txt
COPY pyproject.toml README.md LICENSE /build/source/
COPY cardtoken /build/source/cardtoken
RUN /build/venv/bin/pip wheel -q --no-cache-dir --disable-pip-version-check \
        --no-deps --no-build-isolation --wheel-dir /build/wheel /build/source \
    && /build/venv/bin/pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-index /build/wheel/*.whl

FROM build AS build-simulator
COPY requirements/simulator.txt /build/
RUN /build/venv/bin/pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r /build/simulator.txt

# Both providers, to try the service without an account: docker-compose.yml, profile `simulator`.
FROM base AS simulator
COPY --from=build-simulator /opt/venv /opt/venv
COPY simulator simulator
USER 10001:10001
EXPOSE 8090
ENTRYPOINT ["dumb-init", "--"]
CMD ["python", "-m", "simulator", "--host", "0.0.0.0", "--port", "8090"]

# Workers, Flower and the command line.
FROM base AS worker
COPY --from=build-worker /opt/venv /opt/venv
COPY deploy/hold-misconfigured /usr/local/bin/
COPY config config
COPY tasks tasks
# A worker starts a tenth of a second sooner. The folder is where Flower keeps its tasks; a volume takes over its owner.
RUN python -m compileall -q config tasks \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/flower
USER 10001:10001
STOPSIGNAL SIGTERM
# Process 1 has no default action for signals: a SIGTERM that comes before Python handles it would do nothing.
ENTRYPOINT ["dumb-init", "--"]
CMD ["celery", "-A", "tasks", "worker", "-l", "INFO"]
