"""The S3 client: how it is made, and what its errors say to a person."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import parse_timestamp
from dagster_aws.s3 import S3Resource

from stedi_assets.aws import bad_aws_settings
from stedi_assets.errors import StediError, shown_address
from stedi_assets.settings import Settings
from stedi_assets.spark.errors import shown_key


class GoneError(StediError):
    """An object is not there any more."""


class PreconditionError(StediError):
    """A conditional write was refused: somebody else wrote the object first."""


class NotModifiedError(StediError):
    """An object is still what the reader knows."""


_ADVICE: dict[type[StediError], str] = {
    GoneError: "The object is gone: `stedi catch-up` builds again what lost a file.",
    PreconditionError: "Another process changed it at the same time: run again.",
}


@contextmanager
def translate_s3_errors(client: Any, operation: str) -> Iterator[None]:
    """Raise what S3 refuses as one StediError: the operation, the endpoint, what to look at.

    GoneError where the object is not there, PreconditionError where a condition did not hold,
    NotModifiedError where the object has the etag that it was to be read without.
    """
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        what = type(error).__name__
        status = 0
        if isinstance(error, ClientError):
            what = error.response.get("Error", {}).get("Code", what)
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        kind = StediError
        if what in ("NoSuchKey", "NoSuchVersion"):
            kind = GoneError
        elif status in (409, 412):
            kind = PreconditionError
        elif status == 304:
            kind = NotModifiedError
        advice = _ADVICE.get(
            kind,
            "Check that it runs, has room on its disk, and that the keys may do this; then run"
            " again.",
        )
        endpoint = shown_address(client.meta.endpoint_url)
        raise kind(f"S3 at {endpoint} failed at {shown_key(operation)}: {what}. {advice}") from None


def make_client(settings: Settings) -> Any:
    """A boto3 S3 client for the lake, from dagster-aws's resource; one for each process and lake.

    The SDK finds what the settings leave open. StediError where the AWS settings do not work.
    """
    key = (settings.endpoint, settings.region, settings.access_key, settings.secret_key)
    with _LOCK:  # of two clients neither knows the other's exception classes
        if key not in _CLIENTS:
            _CLIENTS[key] = _new_client(settings)
        return _CLIENTS[key]


# A client is safe to share between threads and dear to make: 0.2 s of every command.
_CLIENTS: dict[object, Any] = {}
_LOCK = threading.Lock()


def _new_client(settings: Settings) -> Any:
    resource = S3Resource(
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
    )
    try:
        client = resource.get_client()
    except (BotoCoreError, ValueError) as error:
        raise bad_aws_settings("S3", error) from None
    # Half of the time of a listing is botocore's parsing of dates in any format there is.
    parsers = client._endpoint._response_parser_factory
    parsers.set_parser_defaults(timestamp_parser=_timestamp)
    return client


def _timestamp(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # another format than that of S3's listings
        parsed: datetime = parse_timestamp(value)
        return parsed
