"""The Spark session: which engine STEDI_SPARK names, and how it reaches the lake."""

import os
import shutil
import threading
from typing import Any

from dagster_pyspark import LazyPySparkResource
from pydantic import Field

from stedi_assets.lake import open_lake
from stedi_assets.settings import Settings, StediError, load_settings

_EMBEDDED: dict[str, Any] = {}
_LOCK = threading.Lock()


def _embedded_server(settings: Settings) -> str:
    """Start Sail in this process, once, and say where it listens."""
    with _LOCK:
        if "address" not in _EMBEDDED:
            os.environ.update(_sail_environment(settings))
            from pysail.spark import SparkConnectServer

            server = SparkConnectServer("127.0.0.1", 0)
            server.start(background=True)
            host, port = server.listening_address
            _EMBEDDED.update(server=server, address=f"sc://{host}:{port}")
        return str(_EMBEDDED["address"])


def _sail_environment(settings: Settings) -> dict[str, str]:
    """Sail's S3 settings are variables of its process, the AWS SDK's with one more name."""
    names = {
        "AWS_REGION": settings.region,
        "AWS_ENDPOINT": settings.endpoint,
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_ALLOW_HTTP": "true" if open_lake(settings).is_plain_http else None,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "RUST_LOG": os.environ.get("RUST_LOG", "error"),
    }
    return {name: value for name, value in names.items() if value}


# The jars that Apache Spark 4.1.4 needs; hadoop-aws is of the version of pyspark's hadoop jars.
PACKAGES = ("io.delta:delta-spark_4.1_2.13:4.4.0", "org.apache.hadoop:hadoop-aws:3.4.2")


def delta_options() -> dict[str, str]:
    """Delta on Apache Spark."""
    return {
        "spark.jars.packages": ",".join(PACKAGES),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }


def s3_options(settings: Settings) -> dict[str, str]:
    """S3A for `s3://` URIs: the lake's endpoint and keys; without keys the SDK's own chain."""
    prefix = "spark.hadoop.fs.s3a"
    options = {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        f"{prefix}.endpoint.region": settings.region,
        f"{prefix}.path.style.access": "true",
    }
    if settings.endpoint:
        options[f"{prefix}.endpoint"] = settings.endpoint
        options[f"{prefix}.connection.ssl.enabled"] = str(
            not settings.endpoint.startswith("http://")
        ).lower()
    keys = open_lake(settings).credentials
    if keys:
        options |= {
            f"{prefix}.access.key": keys.access_key,
            f"{prefix}.secret.key": keys.secret_key,
        }
        if keys.token:
            options |= {
                f"{prefix}.session.token": keys.token,
                f"{prefix}.aws.credentials.provider": (
                    "org.apache.hadoop.fs.s3a.TemporaryAWSCredentialsProvider"
                ),
            }
    return options


def spark_config(settings: Settings) -> dict[str, str]:
    """The options of a session on the engine that STEDI_SPARK names."""
    common = {"spark.sql.session.timeZone": "UTC"}
    if settings.spark == "embedded":
        return {**common, "spark.remote": _embedded_server(settings)}
    if settings.spark.startswith("sc://"):
        # Delta and S3A are options of the Connect server's own start (docs/deploying.md).
        return {**common, "spark.remote": settings.spark}
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise StediError(f"STEDI_SPARK={settings.spark} needs Java 17, and there is no java here.")
    return {
        **common,
        "spark.master": settings.spark,
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "8",
        **delta_options(),
        **s3_options(settings),
    }


class SparkSessions(LazyPySparkResource):
    """dagster-pyspark's resource with the session of STEDI_SPARK, one a process, made when used."""

    spark_config: dict[str, Any] = Field(default_factory=dict)

    def _init_session(self) -> None:
        if self._spark_session is None:
            self.spark_config.update(spark_config(load_settings()))
            try:
                super()._init_session()
            except Exception as error:  # the engines' own error classes have nothing in common
                engine = load_settings().spark
                raise StediError(f"Spark ({engine}) does not start: {error}") from error
