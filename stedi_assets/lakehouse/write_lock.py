"""One writer of a table at a time, whichever engine and machine it is on.

Delta on Apache Spark commits to S3 by "look whether the version is there, then put it": of two
drivers that commit at once, one's commit is lost in silence. (Sail and delta-rs put only where
nothing is; Delta's own remedy is a DynamoDB table, which is not everywhere.) So a writer holds
`_stedi/locks/<table>` while it writes: an object that is made where there is none, renewed while
it is held, and anybody's to take over when it was not renewed for a while, by S3's own clock.
Renewing and releasing are conditional too (where a server ignores the condition of a delete, which
AWS and SeaweedFS do not, a release may take away the lock of another who just took it over).
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

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.client import translate_s3_errors
from stedi_assets.lakehouse.object_store import ObjectStore

# A writer that was killed delays the next by the first at most; a live one renews in between.
LEASE = timedelta(seconds=10)
RENEW_SECONDS = 2.0
# So long a lock may be neither there nor to be put. Where writers take turns one of both is seen.
GIVE_UP_SECONDS = 180.0


@contextmanager
def write_lock(store: ObjectStore, name: str) -> Iterator[None]:
    """Hold a table's lock; StediError where it was lost meanwhile (then write again)."""
    held = _Held(store, name)
    try:
        yield
    finally:
        held.release()
    if held.lost:
        raise StediError(
            f"Lost the write lock on {name} (its lease expired): what was written may count as out"
            " of date. `stedi catch-up` builds that again."
        )


class _Held:
    """A lock that is held: renewed by a thread until it is released."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.store, self.name, self.lost = store, name, False
        self.where = {"Bucket": store.settings.bucket, "Key": store.settings.key(_path(name))}
        self.holder = uuid.uuid4().hex
        with translate_s3_errors(store.client, f"locking {name}"):
            self.etag = self._acquire()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Take the lock away where it is still ours; where S3 does not answer, its lease ends."""
        self._released.set()
        self._thread.join()
        with translate_s3_errors(self.store.client, f"unlocking {self.name}"):
            while not self.lost:
                try:
                    self.store.client.delete_object(**self.where, IfMatch=self.etag)
                    return
                except ClientError as error:
                    if not _is_refused(error):
                        raise
                    if not self._is_still_ours():
                        return
                except BotoCoreError:
                    return

    def _renew(self) -> None:
        while not self.lost and not self._released.wait(RENEW_SECONDS):
            try:
                self.etag = self._put(IfMatch=self.etag)
            except ClientError as error:
                if _is_refused(error):
                    self._is_still_ours()
            except BotoCoreError:  # S3 does not answer now: the lease bridges that, or ends
                continue

    def _is_still_ours(self) -> bool:
        """After a refusal: whose the lock is. A put of ours may have got there, its answer not."""
        try:
            lock = self._get()
            self.lost = lock is None or not self._is_ours(lock)
        except (ClientError, BotoCoreError):
            return False  # not known now; the next renewal asks again
        if lock and not self.lost:
            self.etag = lock["ETag"]
        return not self.lost

    def _is_ours(self, lock: dict[str, Any]) -> bool:
        return lock["Body"].read().decode(errors="replace").startswith(self.holder)

    def _acquire(self) -> str:
        """Wait for the lock; its etag. StediError where it is not there and cannot be put."""
        condition: dict[str, str] | None = {"IfNoneMatch": "*"}
        seen = time.monotonic()
        while True:
            if condition is not None:
                try:
                    return self._put(**condition)
                except ClientError as error:
                    if not _is_refused(error):
                        raise
            time.sleep(random.uniform(0.05, 0.3))
            lock = self._get()
            if lock is not None and self._is_ours(lock):
                return str(lock["ETag"])
            if lock is not None:
                seen = time.monotonic()
            elif time.monotonic() - seen > GIVE_UP_SECONDS:
                # SeaweedFS has folders: of an object and a folder of one name there is only one.
                raise StediError(
                    f"The lock of {self.name} is not there and cannot be written: delete what is"
                    f" below {_path(self.name)}/, then run again."
                )
            condition = _condition(lock)

    def _put(self, **condition: str) -> str:
        """Write the lock, each time with another content and so another etag; on a condition."""
        body = f"{self.holder} {uuid.uuid4().hex}".encode()
        return str(self.store.client.put_object(**self.where, Body=body, **condition)["ETag"])

    def _get(self) -> dict[str, Any] | None:
        """The lock object on S3; None where there is none."""
        try:
            lock: dict[str, Any] = self.store.client.get_object(**self.where)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return None
        return lock


def _path(name: str) -> str:
    return f"_stedi/locks/{name}"


def _is_refused(error: ClientError) -> bool:
    """Whether S3 says that the condition does not hold (or that another put came in between)."""
    return error.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 409, 412)


def _condition(lock: dict[str, Any] | None) -> dict[str, str] | None:
    """On what condition the lock may be put: none is there, or one ran out; None: it is held."""
    if lock is None:
        return {"IfNoneMatch": "*"}
    now = parsedate_to_datetime(lock["ResponseMetadata"]["HTTPHeaders"]["date"])
    # In the future: S3's clock was set back since, and nobody renewed the lock after that.
    return {"IfMatch": lock["ETag"]} if abs(now - lock["LastModified"]) > LEASE else None
