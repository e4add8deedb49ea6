"""The Spark session: which engine STEDI_SPARK names, and how it reaches the lake.

What belongs here: starting or reaching an engine, and saying in one line why it cannot be had.
What does not: where the engines compute differently (`engine_differences.py`).
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from dagster_pyspark import LazyPySparkResource
from pydantic import Field

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.object_store import open_store
from stedi_assets.settings import Settings, load_settings

# What Apache Spark runs here, proved together. hadoop-aws is of the version of pyspark's own
# hadoop jars; Delta's artifact carries the Spark version that it is built for.
SPARK_VERSION, DELTA_VERSION, HADOOP_VERSION = "4.1", "4.4.0", "3.4.2"
PACKAGES = (
    f"io.delta:delta-spark_{SPARK_VERSION}_2.13:{DELTA_VERSION}",
    f"org.apache.hadoop:hadoop-aws:{HADOOP_VERSION}",
)
JAVA_VERSIONS = (17, 21)  # those that Spark 4.1 supports
_ANSWER_SECONDS = 10

_EMBEDDED: dict[str, Any] = {}
_SESSIONS: dict[str, Any] = {}  # of this process, by engine: one at a time
_LOCK = threading.RLock()


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
        "AWS_ALLOW_HTTP": "true" if open_store(settings).is_plain_http else None,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "RUST_LOG": os.environ.get("RUST_LOG", "error"),
    }
    return {name: value for name, value in names.items() if value}


def session_options() -> dict[str, str]:
    """What every session is set to, on any engine."""
    return {
        "spark.sql.session.timeZone": "UTC",
        # pyspark would walk the stack at every column expression, a thousand times a run.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        # A table's log is small: in Delta's 50 parts every read and write would cost 150 tasks.
        "spark.databricks.delta.snapshotPartitions": "2",
    }


def delta_options() -> dict[str, str]:
    """Delta on Apache Spark."""
    return {
        "spark.jars.packages": ",".join(PACKAGES),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }


def s3_options(settings: Settings) -> dict[str, str]:
    """S3A for `s3://` URIs at the lake's endpoint. No key is among them: see `s3_keys`."""
    prefix = "spark.hadoop.fs.s3a"
    options = {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        f"{prefix}.endpoint.region": settings.region,
    }
    if settings.endpoint:
        options |= {
            f"{prefix}.endpoint": settings.endpoint,
            f"{prefix}.path.style.access": "true",
            f"{prefix}.connection.ssl.enabled": str(not open_store(settings).is_plain_http).lower(),
        }
    if not s3_keys(settings):
        # The SDK's own chain (web identity, profile, container and instance roles), renewed.
        options[f"{prefix}.aws.credentials.provider"] = (
            "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"
        )
    return options


def s3_keys(settings: Settings) -> dict[str, str]:
    """The lake's keys as the variables that Spark's driver hands to S3A; {} with a role.

    As variables they stand in no command line, no web page of Spark and no event log. A role's
    are renewed, so every process of Spark finds those itself.
    """
    lake = open_store(settings)
    keys = lake.credentials
    if not keys or lake.has_a_role:
        return {}
    names = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
    }
    return {name: value for name, value in names.items() if value}


def server_options(settings: Settings) -> dict[str, str]:
    """What a Spark Connect server, or any application, is started with to serve the lake."""
    return {
        **session_options(),
        **delta_options(),
        **s3_options(settings),
        # At INFO Delta logs the minima and maxima of columns: somebody's email.
        "spark.log.level": "WARN",
        "spark.executor.syncLogLevel.enabled": "true",
    }


def _classic_options(settings: Settings) -> dict[str, str]:
    """A session whose driver is a JVM of this process."""
    _check_java(settings.spark)
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
        options |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "8",
        }
    return {**options, "spark.master": settings.spark}


def spark_config(settings: Settings) -> dict[str, str]:
    """The options of a session on the engine that STEDI_SPARK names.

    StediError where it cannot be had: no Java, a wrong one, no server that answers.
    """
    if settings.spark == "embedded":
        return {**session_options(), "spark.remote": _embedded_server(settings)}
    if settings.spark.startswith("sc://"):
        # Delta and S3A are options of the Connect server's own start: `stedi spark-conf`.
        _check_connect_server(settings.spark)
        return {**session_options(), "spark.remote": settings.spark}
    if settings.spark.startswith("spark://"):
        _check_master(settings.spark)
    return _classic_options(settings)


def _no_answer(what: str, address: str) -> StediError:
    return StediError(
        f"No {what} answers at STEDI_SPARK={_shown(address)}: start it (docs/deploying.md says"
        " how), or correct STEDI_SPARK."
    )


def _check_connect_server(address: str) -> None:
    """StediError where no gRPC server answers; pyspark would try for ten minutes."""
    import grpc
    from pyspark.sql.connect.client import DefaultChannelBuilder

    channel = DefaultChannelBuilder(address).toChannel()
    try:
        grpc.channel_ready_future(channel).result(_ANSWER_SECONDS)
    except grpc.FutureTimeoutError:
        raise _no_answer("Spark Connect server", address) from None
    finally:
        channel.close()


def _check_master(address: str) -> None:
    """StediError where nothing listens; Spark would try for a minute and print stack traces."""
    host, _, port = address.removeprefix("spark://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except OSError:
        raise _no_answer("Spark master", address) from None


def _shown(address: str) -> str:
    """A Spark address without its parameters, which may hold a token."""
    return address.partition("/;")[0]


def _check_java(spark: str) -> None:
    """StediError where there is no Java, or one that Apache Spark does not run on."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else shutil.which("java")
    said = _java_says(java) if java else ""
    found = re.search(r'version "(\d+)', said)
    wanted = " or ".join(map(str, JAVA_VERSIONS))
    if not found:
        where = f"in JAVA_HOME={home}" if home else "on the PATH"
        raise StediError(
            f"STEDI_SPARK={spark} needs Java {wanted}, and there is no java {where}:"
            " install it, or leave STEDI_SPARK unset for the embedded engine, which needs none."
        )
    if int(found[1]) not in JAVA_VERSIONS:
        raise StediError(
            f"STEDI_SPARK={spark} needs Java {wanted}, and {java} is Java {found[1]}:"
            " say with JAVA_HOME where the right one is."
        )


def _java_says(java: str) -> str:
    try:
        return subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    except OSError:
        return ""


# What an engine says -> what is wrong and what to do about it.
_JARS = f"it needs {' and '.join(PACKAGES)}, for Spark {SPARK_VERSION}"
_START = "start it with the options that `stedi spark-conf` prints"
_DIAGNOSES = {
    r"JAVA_GATEWAY_EXITED": (
        f"Java ended before it was up, and the lines above say why; where jars were not found,"
        f" {_JARS}, from a Maven repository that can be reached (once: Ivy keeps them)"
    ),
    r"DATA_SOURCE_NOT_FOUND|ClassNotFoundException: io\.delta"
    r"|DELTA_CONFIGURE_SPARK_SESSION": f"there is no Delta in it; {_START}",
    r"No FileSystem for scheme|S3AFileSystem not found": (f"it does not read s3:// URIs; {_START}"),
    r"NoSuchMethodError|NoSuchFieldError|NoClassDefFoundError|ClassNotFoundException"
    r"|IncompatibleClassChangeError|AbstractMethodError": (
        f"its jars are missing or do not fit one another: {_JARS}; {_START}"
    ),
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Forbidden|NoAwsCredentials"
    r"|Unable to load credentials": (
        "S3 refuses its keys, or it has none; start it with the lake's AWS variables or a role"
    ),
    r"PYTHON_VERSION_MISMATCH": (
        "its workers' Python is not of this process's version; say with PYSPARK_PYTHON, where"
        " they start, which one to take"
    ),
    r"StatusCode\.UNAVAILABLE|Connection refused|Socket closed|SESSION_CHANGED|SESSION_NOT_FOUND"
    r"|SESSION_CLOSED|OPERATION_NOT_FOUND|RETRIES_EXCEEDED": (
        "its server went away in the middle of a run; see that it runs, and run again: what was"
        " written stays right"
    ),
}


def diagnosis(error: BaseException, engine: str) -> str | None:
    """In one line what is wrong with an engine that failed so; None where that is not known."""
    message = str(error)
    for pattern, what in _DIAGNOSES.items():
        if re.search(pattern, message):
            return f"Spark ({_shown(engine)}): {what}."
    return None


def check_engine(spark: Any, settings: Settings) -> None:
    """StediError where Apache Spark is of another version, lacks Delta or cannot read the lake."""
    where = f"Spark ({_shown(settings.spark)})"
    if not spark.version.startswith(f"{SPARK_VERSION}."):
        raise StediError(
            f"{where} is version {spark.version}, and this project works with {SPARK_VERSION}:"
            " take a cluster of that version."
        )
    if "Delta" not in spark.conf.get("spark.sql.extensions", ""):
        raise StediError(f"{where}: there is no Delta in it; {_START}.")
    # Delta's version as its jar in the driver says.
    delta = spark.sql("SELECT java_method('io.delta.package', 'VERSION')").collect()[0][0]
    if delta.split(".")[:2] != DELTA_VERSION.split(".")[:2]:
        raise StediError(
            f"{where} has Delta {delta}, and this project works with {DELTA_VERSION}: {_START}."
        )
    try:
        _ = spark.read.text(settings.uri("_stedi/settings.json")).schema
    except Exception as error:  # that the object is not there shows that S3 answers
        if "PATH_NOT_FOUND" not in str(error):
            raise


def _give_up_soon(spark: Any) -> None:
    """A server that went away fails a run in seconds, not in pyspark's ten minutes."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    spark.client.set_retry_policies([DefaultPolicy(max_retries=5)])  # up to 20 s in all


class SparkSessions(LazyPySparkResource):
    """dagster-pyspark's resource with the session of STEDI_SPARK, one a process, made when used.

    Dagster copies resources for every run: the session is kept beside them.
    """

    spark_config: dict[str, Any] = Field(default_factory=dict)

    def _init_session(self) -> None:
        """Before every use: the process's session, a new one where its server was started again."""
        settings = load_settings()
        with _LOCK:
            if not _is_usable(settings.spark):
                _stop_sessions()
                self._make(settings)
            self._spark_session = _SESSIONS[settings.spark]

    def _make(self, settings: Settings) -> None:
        self._spark_session = None
        self.spark_config.clear()
        self.spark_config.update(spark_config(settings))
        try:
            super()._init_session()
            session = _SESSIONS[settings.spark] = self._spark_session
            if settings.spark.startswith("sc://"):
                _give_up_soon(session)
            if settings.spark != "embedded":
                check_engine(session, settings)
        except StediError:
            _stop_sessions()
            raise
        except Exception as error:  # the engines' own error classes have nothing in common
            _stop_sessions()
            first = str(error).strip().partition("\n")[0][:300]
            raise StediError(
                diagnosis(error, settings.spark)
                or f"Spark ({_shown(settings.spark)}) does not start: {first}"
            ) from None


def _is_usable(engine: str) -> bool:
    """Whether the process has a session of an engine, and its server still knows it."""
    if engine not in _SESSIONS or not engine.startswith("sc://"):
        return engine in _SESSIONS
    try:
        _SESSIONS[engine].conf.get("spark.sql.session.timeZone")
    except Exception:  # gone with its server, in one of many ways
        return False
    return True


def _stop_sessions() -> None:
    """Forget every session; pyspark would go on with a dead one, or with another engine's."""
    for engine, session in _SESSIONS.items():
        with suppress(Exception):  # nobody may be there any more to be told
            if engine.startswith("sc://"):
                session.client.set_retry_policies([])
            session.stop()
    _SESSIONS.clear()
