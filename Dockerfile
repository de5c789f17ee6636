# syntax=docker/dockerfile:1
# One image for the web app, the workers, the migrations and the command line.

FROM python:3.13.14-slim-trixie AS build
WORKDIR /src
RUN python -m venv /opt/onthedot
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
COPY pyproject.toml constraints.txt hatch_build.py README.md ./
COPY onthedot onthedot
COPY workflows workflows
COPY activities activities
COPY web web
COPY templates templates
# There is no npm in this image: the build hook brings its own, and it stays in this stage.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/onthedot/bin/pip install --constraint constraints.txt '.[tracing]'


FROM python:3.13.14-slim-trixie
RUN groupadd --gid 10001 onthedot \
    && useradd --uid 10001 --gid onthedot --create-home --home-dir /var/lib/onthedot onthedot
# The virtualenv stays at the path where it was made: its scripts name it.
COPY --from=build /opt/onthedot /opt/onthedot
ENV PATH=/opt/onthedot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ONTHEDOT_HOST=0.0.0.0 \
    ONTHEDOT_PORT=8080 \
    ONTHEDOT_DATA_DIR=/var/lib/onthedot/data
WORKDIR /var/lib/onthedot
USER onthedot
EXPOSE 8080
# Of the web app; a worker has no port, and its service turns this off.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['ONTHEDOT_PORT']}/healthz\", timeout=2)"]
ENTRYPOINT ["onthedot"]
CMD ["web"]
