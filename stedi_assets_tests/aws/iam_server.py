"""A SeaweedFS server whose users have IAM policies, unlike the embedded one, which has one user."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from stedi_assets.local.seaweedfs import LOOPBACK, PORTS, binary
from stedi_assets_tests.aws import template
from stedi_assets_tests.waiting import free_ports

# AWS's names of what SeaweedFS has no name for: it refuses a whole policy that has one.
UNKNOWN = {"s3:ListBucketMultipartUploads"}


def _listed(actions: str | list[str]) -> list[str]:
    return [actions] if isinstance(actions, str) else actions


class IamServer:
    """The running server: root's client, and clients of the template's roles."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.keys = {"root": ("root", "of-the-tests")}

    def client(self, who: str, service: str = "s3") -> Any:
        """A client with a role's keys, whose user is made when it is first asked for."""
        if who not in self.keys:
            self._make_user(who)
        access_key, secret_key = self.keys[who]
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )

    def _make_user(self, who: str) -> None:
        iam = self.client("root", "iam")
        user = who.replace(" ", "-")
        iam.create_user(UserName=user)
        for name, document in template.policies_of(template.load(), who).items():
            statements = [
                one | {"Action": [a for a in _listed(one["Action"]) if a not in UNKNOWN]}
                for one in document["Statement"]
                if "s3:" in str(one["Action"])
            ]
            if statements:
                document = {"Version": document["Version"], "Statement": statements}
                iam.put_user_policy(
                    UserName=user, PolicyName=name, PolicyDocument=json.dumps(document)
                )
        made = iam.create_access_key(UserName=user)["AccessKey"]
        self.keys[who] = made["AccessKeyId"], made["SecretAccessKey"]

    def environment(self, who: str) -> dict[str, str]:
        """The variables of a command that a role runs on the lake."""
        self.client(who)
        access_key, secret_key = self.keys[who]
        return {
            "STEDI_LAKE": "s3://lake",
            "STEDI_SUBJECT_SALT": "salt of the tests",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
        }


@contextmanager
def iam_server(folder: Path) -> Iterator[IamServer]:
    """The server with its data in a folder, and buckets `lake` and `lake-athena-results`."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = [
        binary(),
        "mini",
        f"-dir={folder}",
        "-bucket=lake",
        "-s3.iam.readOnly=false",
        *LOOPBACK,
    ]
    server = IamServer(f"http://127.0.0.1:{ports['s3.port']}")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    root = dict(
        zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), server.keys["root"], strict=True)
    )
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *(f"-{name}={port}" for name, port in ports.items())],
            env=environ | root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
        )
    try:
        _wait(server.client("root"))
        server.client("root").create_bucket(Bucket="lake-athena-results")
        yield server
    finally:
        process.kill()  # nothing in it is kept, and an orderly end may take longer than a test
        process.wait()


def _wait(client: Any) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            client.put_object(Bucket="lake", Key="_stedi/answers", Body=b"")
        except (BotoCoreError, ClientError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return
