"""Options of Spark sessions and servers: Delta, S3 and its keys, from the lake's settings."""

import functools
import os
from typing import TYPE_CHECKING

from botocore.credentials import RefreshableCredentials

from stedi_assets.settings import Settings

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials

# What Apache Spark runs here, proved together. hadoop-aws is of the version of pyspark's own
# hadoop jars; Delta's artifact carries the Spark version that it is built for.
SPARK_VERSION, DELTA_VERSION, HADOOP_VERSION = "4.1", "4.4.0", "3.4.2"
PACKAGES = (
    f"io.delta:delta-spark_{SPARK_VERSION}_2.13:{DELTA_VERSION}",
    f"org.apache.hadoop:hadoop-aws:{HADOOP_VERSION}",
)
# Sail forgets a session that was idle for 15 minutes, its views and its time zone with it.
_SESSION_TIMEOUT_SECONDS = 10 * 365 * 86_400


def credentials(settings: Settings) -> "ReadOnlyCredentials | None":
    """The lake's keys now, as the AWS SDK finds them (variables, profile, role); None without."""
    available = _find_credentials(settings.access_key, settings.secret_key, _aws_variables())
    return available.get_frozen_credentials() if available else None


def has_role(settings: Settings) -> bool:
    """Whether the lake's keys are a role's, which expire and are renewed."""
    available = _find_credentials(settings.access_key, settings.secret_key, _aws_variables())
    return isinstance(available, RefreshableCredentials)


def is_plain_http(settings: Settings) -> bool:
    """Whether the lake's endpoint is reached without TLS."""
    return (settings.endpoint or "").startswith("http://")


@functools.lru_cache(maxsize=8)
def _find_credentials(
    access_key: str | None, secret_key: str | None, _variables: tuple[tuple[str, str], ...]
) -> "Credentials | None":
    """Credentials that renew themselves; found once, since a role's cost requests."""
    import boto3

    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return boto3.Session(**(keys if access_key else {})).get_credentials()


def _aws_variables() -> tuple[tuple[str, str], ...]:
    return tuple(sorted((n, v) for n, v in os.environ.items() if n.startswith("AWS_")))


def embedded_variables(settings: Settings) -> dict[str, str]:
    """The variables of a process in which Sail runs: its S3 settings, the AWS SDK's names."""
    names = {
        "AWS_REGION": settings.region,
        "AWS_ENDPOINT": settings.endpoint,
        # Only where it is set: boto3 would take it for the endpoint of SQS and Glue as well.
        "AWS_ENDPOINT_URL": settings.endpoint if "AWS_ENDPOINT_URL" in os.environ else None,
        "AWS_ALLOW_HTTP": "true" if is_plain_http(settings) else None,
        "AWS_ACCESS_KEY_ID": settings.access_key,
        "AWS_SECRET_ACCESS_KEY": settings.secret_key,
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(_SESSION_TIMEOUT_SECONDS),
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
            f"{prefix}.connection.ssl.enabled": str(not is_plain_http(settings)).lower(),
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
    keys = credentials(settings)
    if not keys or has_role(settings):
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
        # What is logged may quote a row: Delta at WARN the minima of columns, a task that fails at
        # ERROR a value. What made a run fail is in its message, with the values taken out.
        "spark.log.level": "FATAL",
        "spark.executor.syncLogLevel.enabled": "true",
    }
