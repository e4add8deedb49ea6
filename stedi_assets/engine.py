"""The Spark session: which engine STEDI_SPARK names, and how it reaches the lake."""

import os
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


def spark_config(settings: Settings) -> dict[str, str]:
    """The options of a session on the engine that STEDI_SPARK names."""
    common = {"spark.sql.session.timeZone": "UTC"}
    if settings.spark == "embedded":
        return {**common, "spark.remote": _embedded_server(settings)}
    if settings.spark.startswith("sc://"):
        return {**common, "spark.remote": settings.spark}
    return {**common, "spark.master": settings.spark}


class SparkSessions(LazyPySparkResource):
    """dagster-pyspark's resource with the session of STEDI_SPARK, one a process, made when used."""

    spark_config: dict[str, Any] = Field(default_factory=dict)

    def _init_session(self) -> None:
        if self._spark_session is None:
            self.spark_config.update(spark_config(load_settings()))
            try:
                super()._init_session()
            except Exception as error:
                engine = load_settings().spark
                raise StediError(f"Spark ({engine}) does not start: {error}") from error
