"""The Spark session: which engine STEDI_SPARK names, and one session of it a process."""

import logging
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dagster_pyspark import LazyPySparkResource
from pydantic import Field

from stedi_assets.errors import StediError, shown_address
from stedi_assets.scratch import scratch_folder
from stedi_assets.settings import Settings, load_settings
from stedi_assets.spark import preflight
from stedi_assets.spark.errors import redacted_message
from stedi_assets.spark.options import s3_keys, server_options, session_options

if TYPE_CHECKING:
    from stedi_assets.spark.embedded import EmbeddedEngine


# pyspark's own logs of what an engine says, with the values of rows. It disables the first, and
# whoever configures logging, as each of Dagster's runs does, enables it again: levels stay.
LOGGERS_OF_ERRORS = (
    "pyspark.sql.connect.logging",
    "DataFrameQueryContextLogger",
    "SQLQueryContextLogger",
)


class _ProcessSessions:
    """The engine and the sessions of this process: pyspark has one session at a time."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.embedded: EmbeddedEngine | None = None
        self.by_engine: dict[str, Any] = {}

    def make_embedded(self, settings: Settings) -> None:
        """A session on the embedded engine, which is started with the first."""
        from stedi_assets.spark.embedded import EmbeddedEngine  # pandas, Arrow and gRPC: 0.3 s

        self.embedded = self.embedded or EmbeddedEngine()
        self.by_engine["embedded"] = self.embedded.make_session(settings)
        # It answers, or it has ended: Sail ends at Ctrl-C, whoever handles that. Up to 4 s.
        _give_up_soon(self.by_engine["embedded"], 4)

    def is_usable(self, engine: str) -> bool:
        """Whether there is a session of an engine, and its server or its JVM still knows it."""
        if engine not in self.by_engine or engine == "embedded":
            return engine in self.by_engine
        try:
            self.by_engine[engine].conf.get("spark.sql.session.timeZone")
        except Exception:  # gone with its process, in one of many ways
            return False
        return True

    def stop(self) -> None:
        """Forget every session; pyspark would go on with a dead one, or with another engine's."""
        for engine, session in self.by_engine.items():
            with suppress(Exception):  # the server may have ended already
                if engine.startswith("sc://"):
                    session.client.set_retry_policies([])
                session.stop()
        self.by_engine.clear()
        _forget_java_that_ended()


_PROCESS = _ProcessSessions()


def _forget_java_that_ended() -> None:
    """Else pyspark would ask a JVM that was killed (out of memory) for the next session, too."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    try:
        if gateway is not None:
            gateway.jvm.System.nanoTime()
    except Exception:  # gone, in one of py4j's many ways
        SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None


class SparkSessions(LazyPySparkResource):
    """dagster-pyspark's resource with the session of STEDI_SPARK, one a process, made when used.

    Dagster copies resources for every run: the session is kept beside them.
    """

    spark_config: dict[str, Any] = Field(default_factory=dict)

    def _init_session(self) -> None:
        """Before every use: the process's session, a new one where its server was started again."""
        settings = load_settings()
        with _PROCESS.lock:
            if not _PROCESS.is_usable(settings.spark):
                _PROCESS.stop()
                self._make(settings)
            self._spark_session = _PROCESS.by_engine[settings.spark]

    def _make(self, settings: Settings) -> None:
        self._spark_session = None
        _silence_pyspark()
        try:
            if settings.spark == "embedded":
                _PROCESS.make_embedded(settings)
                return
            self.spark_config.clear()
            self.spark_config.update(spark_config(settings))
            super()._init_session()
            _PROCESS.by_engine[settings.spark] = self._spark_session
            if settings.spark.startswith("sc://"):
                _give_up_soon(self._spark_session, 5)  # up to 20 s in all
            preflight.check_engine(self._spark_session, settings)
        except StediError:
            _PROCESS.stop()
            raise
        except Exception as error:  # the engines' own error classes have nothing in common
            _PROCESS.stop()
            why = redacted_message(error)
            raise StediError(
                f"Spark ({shown_address(settings.spark)}) does not start: {why}"
            ) from None


def _silence_pyspark() -> None:
    from pyspark.logger import PySparkLogger

    for name in LOGGERS_OF_ERRORS:
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)


def spark_config(settings: Settings) -> dict[str, str]:
    """The options of a session on the Apache Spark that STEDI_SPARK names.

    StediError where it cannot be had: no Java, a wrong one, no server that answers.
    """
    if settings.spark.startswith("sc://"):
        # Delta and S3A are options of the Connect server's own start: `stedi spark-conf`.
        preflight.check_connect_server(settings.spark)
        return {**session_options(), "spark.remote": settings.spark}
    if settings.spark.startswith("spark://"):
        preflight.check_master(settings.spark)
    return _classic_options(settings)


def _classic_options(settings: Settings) -> dict[str, str]:
    """A session whose driver is a JVM of this process."""
    preflight.check_java(settings.spark)
    os.environ.update(s3_keys(settings))  # the JVM inherits them
    quiet = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
    options = {**quiet, **server_options(settings)}
    if settings.spark.startswith("local"):
        # Python of the same environment for UDFs, and no name of this machine to be resolved.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        # The driver does all of the work, and Spark would give it 1 GB. What the user says, here
        # or in spark-defaults.conf, comes first.
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        os.environ.setdefault("SPARK_DRIVER_MEMORY", f"{half >> 20}m")
        folder = scratch_folder()
        given, tmpdir = os.environ.get("SPARK_SUBMIT_OPTS", ""), f'-Djava.io.tmpdir="{folder}"'
        if tmpdir not in given:  # Java's libraries, which a killed run leaves, too
            os.environ["SPARK_SUBMIT_OPTS"] = f"{given} {tmpdir}".strip()
        options |= {
            # Rows that do not fit into memory, and files on their way to S3: Java would keep them
            # in /tmp where all may read them, and nobody would delete what a killed run left.
            "spark.local.dir": str(folder),
            "spark.hadoop.fs.s3a.buffer.dir": f"{folder}/s3a",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "8",
        }
    return {**options, "spark.master": settings.spark}


def _give_up_soon(spark: Any, retries: int) -> None:
    """A server that went away fails a run in seconds, not in pyspark's ten minutes."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    spark.client.set_retry_policies([DefaultPolicy(max_retries=retries)])
