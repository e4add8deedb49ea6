"""One writer of a table at a time, whichever engine and machine it is on.

Delta on Apache Spark commits to S3 by "look whether the version is there, then put it": of two
drivers that commit at once, one's commit is lost in silence. (Sail and delta-rs put only where
nothing is; Delta's own remedy is a DynamoDB table, which is not everywhere.) So a writer holds
`_stedi/locks/<table>` while it writes: an object that is made where there is none, renewed while
it is held, and anybody's to take over when it was not renewed for a while, by S3's own clock.
"""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stedi_assets.lake import Lake
from stedi_assets.settings import StediError

# A writer that was killed delays the next by the first at most; a live one renews in between.
LEASE = timedelta(seconds=10)
RENEW_SECONDS = 2.0


@contextmanager
def write_lock(lake: Lake, name: str) -> Iterator[None]:
    """Hold a table's lock; StediError where it was lost meanwhile (then write again)."""
    held = _Held(lake, name, _acquire(lake, name))
    try:
        yield
    finally:
        held.release()
    if held.lost:
        raise StediError(
            f"The write of {name} took so long to answer that another writer took its turn:"
            " run it again."
        )


class _Held:
    """A lock that is held: renewed by a thread until it is released."""

    def __init__(self, lake: Lake, name: str, etag: str) -> None:
        self.lake, self.name, self.etag, self.lost = lake, name, etag, False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._released.wait(RENEW_SECONDS):
            try:
                self.etag = _put(self.lake, self.name, IfMatch=self.etag)
            except ClientError as error:
                self.lost = _is_refused(error)
                if self.lost:
                    return
            except BotoCoreError:  # S3 does not answer now: the lease bridges that, or ends
                continue

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        if not self.lost:
            self.lake.delete([_path(self.name)])


def _path(name: str) -> str:
    return f"_stedi/locks/{name}"


def _put(lake: Lake, name: str, **condition: str) -> str:
    """Write the lock with a content of its own, on a condition; its etag."""
    settings = lake.settings
    answer = lake.client.put_object(
        Bucket=settings.bucket,
        Key=settings.key(_path(name)),
        Body=uuid.uuid4().hex.encode(),
        **condition,
    )
    return str(answer["ETag"])


def _is_refused(error: ClientError) -> bool:
    """Whether S3 says that the condition does not hold (or that another put came in between)."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 409, 412)


def _acquire(lake: Lake, name: str) -> str:
    condition: dict[str, str] | None = {"IfNoneMatch": "*"}
    while True:
        if condition is not None:
            try:
                return _put(lake, name, **condition)
            except ClientError as error:
                if not _is_refused(error):
                    raise
        time.sleep(random.uniform(0.05, 0.3))
        condition = _condition(lake, name)


def _condition(lake: Lake, name: str) -> dict[str, str] | None:
    """On what condition the lock may be put: none is there, or one ran out; None: it is held."""
    settings = lake.settings
    try:
        found: dict[str, Any] = lake.client.head_object(
            Bucket=settings.bucket, Key=settings.key(_path(name))
        )
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return {"IfNoneMatch": "*"}
    now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
    return {"IfMatch": found["ETag"]} if now - found["LastModified"] > LEASE else None
