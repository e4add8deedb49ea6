"""Clients of AWS services other than S3 (Glue, SQS), and what they refuse as one line.

The SDK finds credentials and endpoints itself. `AWS_ENDPOINT_URL_GLUE` and `AWS_ENDPOINT_URL_SQS`
name another endpoint for one service; `AWS_ENDPOINT_URL` is taken for all of them, S3 included.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stedi_assets.errors import StediError, shown_address


def aws_client(service: str, region: str) -> Any:
    """A boto3 client that gives up within a minute.

    Args:
        service: the service as boto3 names it, such as `glue`.
        region: its AWS region.

    Raises:
        StediError: the AWS settings (a profile, an endpoint) do not work.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=5, read_timeout=30, retries={"max_attempts": 5, "mode": "standard"}
    )
    try:
        return boto3.session.Session().client(service, region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise bad_aws_settings(service, error) from None


def bad_aws_settings(service: str, error: Exception) -> StediError:
    """The error for settings of which the SDK makes no client: an endpoint that is none, say."""
    if isinstance(error, BotoCoreError):
        text = re.sub(r"\S*://\S+|\S+@\S+", lambda match: shown_address(match[0]), str(error))
    else:  # Python's, such as "Invalid endpoint: …": what follows, or is quoted, is the setting
        words, mark, value = str(error).partition(": ")
        text = re.sub(r"'.*'", "'…'", words) + mark + shown_address(value)
    return StediError(f"The AWS settings do not work for {service}: {text}")


@contextmanager
def translate_aws_errors(service: str, doing: str, check: str) -> Iterator[None]:
    """Turn an SDK error into a StediError of one line, without the service's own text.

    Args:
        service: the service for a person, such as `Glue`.
        doing: what was asked of it, such as `registering customer_landing`.
        check: what the person should look at.
    """
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        code = type(error).__name__
        if isinstance(error, ClientError):
            code = error.response.get("Error", {}).get("Code", code)
        raise StediError(f"{service} failed at {doing}: {code}. Check {check}.") from None
