"""The lake's objects on S3: listing, reading, writing, deleting, by their paths under the lake."""

import functools
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from stedi_assets.errors import StediError, shown_address
from stedi_assets.lakehouse.client import make_client, translate_s3_errors
from stedi_assets.lakehouse.lake_settings import check_lake_settings
from stedi_assets.settings import EMBEDDED_HINT, Settings
from stedi_assets.spark.errors import shown_key
from stedi_assets.spark.options import credentials, is_plain_http

_DOWNLOAD_ATTEMPTS = 3
_DELETE_BATCH = 1000  # as many keys as S3 takes in one request


@dataclass
class ObjectStore:
    """The bucket and prefix that the settings name. Nothing is asked of S3 before it is needed."""

    settings: Settings
    _checked: bool = field(default=False, init=False)
    _ahead: timedelta = field(default=timedelta(0), init=False)  # of this machine's clock

    @property
    def client(self) -> Any:
        """The boto3 S3 client."""
        return make_client(self.settings)

    @property
    def storage_options(self) -> dict[str, str]:
        """The lake's endpoint and keys as delta-rs reads them."""
        keys = credentials(self.settings)
        options = {
            "AWS_REGION": self.settings.region,
            "AWS_ENDPOINT_URL": self.settings.endpoint,
            "AWS_ALLOW_HTTP": "true" if is_plain_http(self.settings) else None,
            "AWS_ACCESS_KEY_ID": keys.access_key if keys else None,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key if keys else None,
            "AWS_SESSION_TOKEN": keys.token if keys else None,
            # A Delta commit is a PUT that fails where the object is there already.
            "aws_conditional_put": "etag",
        }
        return {name: value for name, value in options.items() if value}

    def check(self) -> None:
        """Once a process: S3 answers, the bucket is there, the lake was built as we are set.

        StediError says in one line what is not so and what to do.
        """
        if self._checked:
            return
        _check_bucket(self)
        check_lake_settings(self)
        self._checked = True

    def get(self, path: str, known_etag: str | None = None) -> tuple[bytes, str] | None:
        """The object at a path and its etag, or None where there is none.

        NotModifiedError where its etag is the one that is known: then S3 sends no content.
        """
        condition = {"IfNoneMatch": known_etag} if known_etag else {}
        with translate_s3_errors(self.client, f"reading {path}"):
            try:
                answer = self.client.get_object(
                    Bucket=self.settings.bucket, Key=self.settings.key(path), **condition
                )
            except self.client.exceptions.NoSuchKey:
                return None
            return answer["Body"].read(), answer["ETag"]

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes of an object from start to before end; GoneError where there is none."""
        with translate_s3_errors(self.client, f"reading {path}"):
            answer = self.client.get_object(
                Bucket=self.settings.bucket,
                Key=self.settings.key(path),
                Range=f"bytes={start}-{end - 1}",
            )
            body: bytes = answer["Body"].read()
        return body

    def put_json(self, path: str, value: Any) -> None:
        """Write a JSON file; S3 replaces it as a whole or not at all."""
        self.put(path, json.dumps(value, separators=(",", ":")).encode())

    def download(self, path: str, target: Path, etag: str | None = None) -> str:
        """Copy an object to a local file; its etag. GoneError where there is none.

        PreconditionError where its etag is another than the one that is given.
        """
        condition = {"IfMatch": etag} if etag else {}
        for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
            with translate_s3_errors(self.client, f"reading {path}"), target.open("wb") as file:
                answer = self.client.get_object(
                    Bucket=self.settings.bucket, Key=self.settings.key(path), **condition
                )
                try:
                    shutil.copyfileobj(answer["Body"], file, 1 << 20)
                except BotoCoreError:  # cut off: the SDK repeats requests, not what streams
                    if attempt == _DOWNLOAD_ATTEMPTS:
                        raise
                else:
                    return str(answer["ETag"])
        raise AssertionError("the last attempt returns or raises")

    def put(self, path: str, body: bytes | BinaryIO, **condition: str) -> str:
        """Write an object, as a whole or not at all; its etag.

        condition: IfMatch=etag or IfNoneMatch="*"; PreconditionError where it does not hold.
        """
        with translate_s3_errors(self.client, f"writing {path}"):
            answer = self.client.put_object(
                Bucket=self.settings.bucket, Key=self.settings.key(path), Body=body, **condition
            )
        return str(answer["ETag"])

    def objects(
        self, path: str, *, after: str | None = None, until: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The objects below a path, as S3 lists them, keys relative to the lake.

        In the order of their keys, those greater than `after` and not greater than `until`.
        """
        start = len(self.settings.prefix) + 1 if self.settings.prefix else 0
        # By the parts of a path: SeaweedFS lists in their order, where S3 lists by bytes.
        end = until.split("/") if until is not None else None
        pages = iter(
            self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket,
                Prefix=self.settings.key(path),
                **({"StartAfter": self.settings.key(after)} if after else {}),
            )
        )
        while True:
            with translate_s3_errors(self.client, f"listing {path}"):
                page = next(pages, None)
            if page is None:
                return
            self._ahead = _time_of(page) - datetime.now(UTC)
            for entry in page.get("Contents", ()):
                key = entry["Key"][start:]
                if end and key.split("/") > end:
                    return
                yield {**entry, "Key": key}

    def now(self) -> datetime:
        """The time by S3's own clock."""
        with translate_s3_errors(self.client, "telling the time"):
            answer = self.client.head_bucket(Bucket=self.settings.bucket)
        return _time_of(answer)

    def roughly_now(self) -> datetime:
        """The same to some seconds, without a request: as it was told with the last listing."""
        return datetime.now(UTC) + self._ahead

    def today(self) -> date:
        """The day by S3's clock, UTC: the same for all machines, whose own clocks differ."""
        return self.roughly_now().date()

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects by their paths; one that is gone already is fine."""
        keys = [{"Key": self.settings.key(path)} for path in paths]
        for start in range(0, len(keys), _DELETE_BATCH):
            with translate_s3_errors(self.client, f"deleting {len(keys)} objects"):
                answer = self.client.delete_objects(
                    Bucket=self.settings.bucket,
                    Delete={"Objects": keys[start : start + _DELETE_BATCH], "Quiet": True},
                )
            for error in answer.get("Errors", ()):
                raise StediError(f"S3 did not delete {shown_key(error['Key'])}: {error['Code']}.")

    def delete_below(self, path: str) -> int:
        """Delete every object below a path; how many there were."""
        keys = [entry["Key"] for entry in self.objects(path)]
        self.delete(keys)
        return len(keys)


def folders_between(
    name: str, first: date | None, last: date | None
) -> tuple[str | None, str | None]:
    """`after` and `until` of `ObjectStore.objects` for the folders of some dates, both included.

    name: what their paths begin with, before the date; None is open.
    """
    # "0" is the character after "/": that key sorts after everything in a date's folder.
    # (SeaweedFS leaves a folder out whole where its own name is what the listing starts after.)
    day_before = first - timedelta(1) if first and first > date.min else None
    return f"{name}{day_before}0" if day_before else None, f"{name}{last}0" if last else None


def _time_of(answer: dict[str, Any]) -> datetime:
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


@functools.cache
def open_store(settings: Settings) -> ObjectStore:
    """The object store of some settings, one a process: it checks the lake once."""
    return ObjectStore(settings)


def _check_bucket(store: ObjectStore) -> None:
    """StediError where the bucket cannot be used."""
    bucket, endpoint = store.settings.bucket, shown_address(store.settings.endpoint or "AWS")
    try:
        store.client.head_bucket(Bucket=bucket)
    except NoCredentialsError:
        raise StediError(
            "No AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " a profile, or a role."
        ) from None
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        what = {
            403: "the keys are refused there; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
            404: "there is no such bucket; create it, or correct STEDI_LAKE",
        }.get(status, f"S3 answers {status}")
        raise StediError(f"Bucket {bucket!r} at {endpoint}: {what}.") from None
    except BotoCoreError:
        if store.settings.embedded:
            raise StediError(f"The embedded lake is not running. {EMBEDDED_HINT}") from None
        raise StediError(
            f"No S3 answers at {endpoint} for {store.settings.lake}: check AWS_ENDPOINT_URL and"
            f" that it runs. {EMBEDDED_HINT}"
        ) from None
