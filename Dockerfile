# The project with Dagster's code server, for docker, Kubernetes and ECS. No Java: the embedded engine
# needs none, and Apache Spark is reached over Spark Connect (STEDI_SPARK=sc://host:port).
# Settings and keys come from the environment or a role when it runs; none is in the image.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/stedi \
 && /opt/stedi/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY stedi_assets stedi_assets
RUN /opt/stedi/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /opt/dagster --create-home stedi
COPY --from=build /opt/stedi /opt/stedi
ENV PATH=/opt/stedi/bin:$PATH \
    DAGSTER_HOME=/opt/dagster \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /opt/dagster
EXPOSE 4000
HEALTHCHECK --start-period=60s --interval=60s --timeout=30s CMD ["dagster", "api", "grpc-health-check", "--port", "4000"]
CMD ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4000", "--module-name", "stedi_assets.definitions"]
