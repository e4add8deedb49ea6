"""AWS's services beside S3, played by moto's server on loopback; each test names its own things."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

REGION = "eu-west-1"


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The address of moto's server."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def aws(moto_endpoint: str) -> Callable[..., Any]:
    """Makes a boto3 client of one of moto's services."""

    def client(service: str, region: str = REGION) -> Any:
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=moto_endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    return client
