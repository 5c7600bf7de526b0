# One image for all services. Its argument is a `hogsend` command, for example `serve gateway`.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hogsend
WORKDIR /build
COPY constraints.txt ./
COPY shared shared
COPY pyproject.toml ./
COPY services services
COPY cli cli
COPY sandbox sandbox
RUN /opt/hogsend/bin/pip install --quiet --constraint constraints.txt './shared[service,otel]' . \
  && /opt/hogsend/bin/pip uninstall --quiet --yes pip setuptools \
  && /opt/hogsend/bin/python -m compileall -q /opt/hogsend/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="Hogsend" \
      org.opencontainers.image.description="PostHog's events as durable, deduplicated events on NATS"
RUN groupadd --gid 10001 hogsend \
  && useradd --uid 10001 --gid hogsend --no-create-home --home-dir /nonexistent hogsend \
  && install --directory --owner hogsend --group hogsend --mode 0700 /var/lib/hogsend
COPY --from=build /opt/hogsend /opt/hogsend
ENV PATH=/opt/hogsend/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GATEWAY_HOST=0.0.0.0 \
    SPOOL_DIR=/var/lib/hogsend/spool \
    HEALTH_FILE=/tmp/hogsend-health
# Deprecated name, which probes in manifests of earlier versions read.
ENV ALIVE_FILE=$HEALTH_FILE
USER 10001:10001
WORKDIR /tmp
EXPOSE 3002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD find "$HEALTH_FILE" -newermt '-15 seconds' | grep -q .
ENTRYPOINT ["hogsend"]
CMD ["--help"]
