"""The lake on S3: its client, its small JSON files under `_stedi/`, and the logs of its tables."""

import functools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from botocore.credentials import RefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ProfileNotFound,
)
from botocore.utils import parse_timestamp
from dagster_aws.s3 import S3Resource

from stedi_assets.errors import StediError
from stedi_assets.settings import EMBEDDED_HINT, Settings
from stedi_assets.tables.schemas import TABLES, Table


def s3_resource(settings: Settings) -> S3Resource:
    """dagster-aws's S3 resource for the lake; the SDK finds what the settings leave open."""
    return S3Resource(
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
    )


@dataclass(frozen=True)
class DataFile:
    """One data file of a table, from the Delta log."""

    path: str
    rows: int
    bytes: int
    ingest_date: date | None
    malformed: int
    # First and last time of the readings in it, ms since the epoch; None where it has none.
    first_time: int | None
    last_time: int | None
    # The newest ingest date among its rows; None where it has none.
    newest: date | None


@dataclass(frozen=True)
class TableLog:
    """What the Delta log says of a table now."""

    table_id: str  # another one when the table was deleted and made anew
    version: int
    files: tuple[DataFile, ...]

    def of(self, start: date | None = None, end: date | None = None) -> list[DataFile]:
        """The files of the ingest dates from start to end, both included; None is open."""
        return [
            f
            for f in self.files
            if (start is None or (f.ingest_date is not None and f.ingest_date >= start))
            and (end is None or (f.ingest_date is not None and f.ingest_date <= end))
        ]

    def rows_by_date(self) -> dict[date, int]:
        """Rows by ingest date, for partitioned tables."""
        rows: dict[date, int] = {}
        for f in self.files:
            if f.ingest_date is not None:
                rows[f.ingest_date] = rows.get(f.ingest_date, 0) + f.rows
        return rows


@dataclass
class Lake:
    """The lake that the settings name. Nothing is asked of S3 before it is needed."""

    settings: Settings
    _checked: bool = field(default=False, init=False)
    # Opened tables and what their logs said last: opening one anew costs several round trips.
    _tables: dict[str, Any] = field(default_factory=dict, init=False)
    _logs: dict[str, TableLog | None] = field(default_factory=dict, init=False)
    _looked_at: set[str] = field(default_factory=set, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def client(self) -> Any:
        """A boto3 S3 client, from dagster-aws's resource; one a process and endpoint."""
        s = self.settings
        with _MAKING_CLIENT:  # of two clients neither knows the other's exception classes
            key = (s.endpoint, s.region, s.access_key, s.secret_key)
            if key not in _CLIENTS:
                _CLIENTS[key] = _new_client(s3_resource(s))
            return _CLIENTS[key]

    @property
    def storage_options(self) -> dict[str, str]:
        """The lake's endpoint and keys as delta-rs reads them."""
        credentials = self.credentials
        options = {
            "AWS_REGION": self.settings.region,
            "AWS_ENDPOINT_URL": self.settings.endpoint,
            "AWS_ALLOW_HTTP": "true" if self.is_plain_http else None,
            "AWS_ACCESS_KEY_ID": credentials.access_key if credentials else None,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key if credentials else None,
            "AWS_SESSION_TOKEN": credentials.token if credentials else None,
            # A Delta commit is a PUT that fails where the object is there already.
            "aws_conditional_put": "etag",
        }
        return {name: value for name, value in options.items() if value}

    @property
    def credentials(self) -> Any:
        """Frozen credentials as the AWS SDK finds them (variables, profile, instance role)."""
        signer = self.client._request_signer  # boto3 offers no public way to the found keys
        return signer._credentials.get_frozen_credentials() if signer._credentials else None

    @property
    def has_a_role(self) -> bool:
        """Whether the credentials are of a role, which expire and are fetched anew."""
        return isinstance(self.client._request_signer._credentials, RefreshableCredentials)

    @property
    def is_plain_http(self) -> bool:
        return (self.settings.endpoint or "").startswith("http://")

    def check(self) -> None:
        """Once a process: S3 answers, the bucket is there, the lake was built as we are set.

        StediError says in one line what is not so and what to do.
        """
        if self._checked:
            return
        self._check_bucket()
        self._check_settings()
        self._checked = True

    def _check_bucket(self) -> None:
        bucket, endpoint = self.settings.bucket, self.settings.endpoint or "AWS"
        try:
            self.client.head_bucket(Bucket=bucket)
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
            if self.settings.embedded:
                raise StediError(f"The embedded lake is not running. {EMBEDDED_HINT}") from None
            raise StediError(
                f"No S3 answers at {endpoint} for {self.settings.lake}: check AWS_ENDPOINT_URL and"
                f" that it runs. {EMBEDDED_HINT}"
            ) from None

    def _check_settings(self) -> None:
        ours, theirs = self.settings.of_the_lake(), self.get_json("_stedi/settings.json")
        if theirs is None:
            self.put_json("_stedi/settings.json", ours)
            return
        names = {
            "first_ingest_date": "STEDI_FIRST_INGEST_DATE",
            "consent_scope": "STEDI_CONSENT_SCOPE",
            "salt_fingerprint": "STEDI_SUBJECT_SALT",
        }
        for key, variable in names.items():
            if theirs.get(key) != ours[key]:
                kept = "another salt" if key == "salt_fingerprint" else theirs.get(key)
                raise StediError(
                    f"{self.settings.lake} was built with {kept} for {variable}, this process has"
                    f" {'its own' if key == 'salt_fingerprint' else ours[key]}: set it as the lake"
                    " has it, or rebuild the tables as you are set with `stedi rebuild`."
                )

    def get_json(self, path: str) -> Any:
        """The JSON file at a path under the lake, or None where there is none."""
        with self._told(f"reading {path}"):
            try:
                answer = self.client.get_object(
                    Bucket=self.settings.bucket, Key=self.settings.key(path)
                )
            except self.client.exceptions.NoSuchKey:
                return None
            return json.loads(answer["Body"].read())

    def put_json(self, path: str, value: Any) -> None:
        """Write a JSON file under the lake; S3 replaces it as a whole or not at all."""
        self.put(path, json.dumps(value, separators=(",", ":")).encode())

    def put(self, path: str, body: bytes) -> None:
        """Write an object under the lake; S3 replaces it as a whole or not at all."""
        with self._told(f"writing {path}"):
            self.client.put_object(
                Bucket=self.settings.bucket, Key=self.settings.key(path), Body=body
            )

    def _told(self, doing: str) -> AbstractContextManager[None]:
        return told(self.client, doing)

    def objects(
        self, path: str, *, after: str | None = None, until: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """The objects below a path under the lake, as S3 lists them, keys relative to the lake.

        In the order of their keys, those greater than `after` and not greater than `until`.
        """
        start = len(self.settings.key(""))
        start += 1 if self.settings.prefix and not self.settings.key("").endswith("/") else 0
        pages = iter(
            self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.settings.bucket,
                Prefix=self.settings.key(path),
                **({"StartAfter": self.settings.key(after)} if after else {}),
            )
        )
        while True:
            with self._told(f"listing {path}"):
                page = next(pages, None)
            if page is None:
                return
            for found in page.get("Contents", ()):
                key = found["Key"][start:]
                if until is not None and key > until:
                    return
                yield {**found, "Key": key}

    def now(self) -> datetime:
        """The time by S3's own clock."""
        with self._told("telling the time"):
            answer = self.client.head_bucket(Bucket=self.settings.bucket)
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def delete(self, paths: list[str]) -> None:
        """Delete objects by their paths under the lake; one that is gone already is fine."""
        for path in paths:
            with self._told(f"deleting {path}"):
                self.client.delete_object(Bucket=self.settings.bucket, Key=self.settings.key(path))

    def delta(self, table: Table) -> Any:
        """delta-rs's view of a table as it is now, or None where it was never written."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        options = self.storage_options
        known, opened_with = self._tables.get(table.name, (None, None))
        if known is not None and opened_with != options:  # a role's keys are renewed
            known = None
        if known is not None:
            try:
                known.update_incremental()
            except DeltaError:  # its log was cleaned or the table was made anew
                self.forget(table)
                known = None
        if known is None:
            try:
                known = DeltaTable(self.settings.uri(table.path), storage_options=options)
            except TableNotFoundError:
                return None
            self._tables[table.name] = (known, options)
        return known

    def has(self, table: Table) -> bool:
        """Whether a table was ever written: asked of S3 until it is known, then no more."""
        return table.name in self._tables or self.log(table) is not None

    def forget(self, table: Table) -> None:
        """Open a table anew when it is asked for next: it was deleted."""
        self._tables.pop(table.name, None)
        self._logs.pop(table.name, None)
        self._looked_at.discard(table.name)

    def log(self, table: Table | str) -> TableLog | None:
        """What a table's Delta log said when it was first asked for since `look_again`.

        None where the table was never written.
        """
        table = TABLES[table] if isinstance(table, str) else table
        with self._lock:
            if table.name not in self._looked_at:
                self._logs[table.name] = self._read_log(table)
                self._looked_at.add(table.name)
            return self._logs[table.name]

    def _read_log(self, table: Table) -> TableLog | None:
        delta = self.delta(table)
        if delta is None:
            return None
        known = self._logs.get(table.name)
        if known is not None and known.version == delta.version():
            return known
        return table_log(delta, table.time_column)

    def look_again(self, table: Table | None = None) -> None:
        """Read logs anew from here on, of one table or of all: someone may have written.

        A log costs several requests, so it is not read at every question: a step looks once, and
        again at what it wrote.
        """
        with self._lock:
            if table is None:
                self._looked_at.clear()
            else:
                self._looked_at.discard(table.name)

    def added(self, table: Table, token: str, *, after: int) -> dict[str, date | None]:
        """The data files that a commit added, by path, with their ingest dates.

        The commit after a version whose `userMetadata` is the token; a write that changed
        nothing made no commit and added none.
        """
        log = self.log(table)
        for version in range(log.version if log else after, after, -1):
            entry = self._log_entry(table, version)
            if _token(entry) == token:
                adds = [line["add"] for line in entry if "add" in line]
                return {
                    unquote(add["path"]): _date(add["partitionValues"].get("ingest_date"))
                    for add in adds
                }
        return {}

    def is_newest(self, table: Table, token: str) -> bool:
        """Whether a table's newest commit is the one whose `userMetadata` is the token."""
        log = self.log(table)
        return log is not None and _token(self._log_entry(table, log.version)) == token

    def is_a_write(self, table: Table, version: int) -> bool:
        """Whether a version is of a write of rows, and its log entry was not cleaned away."""
        return _token(self._log_entry(table, version)) is not None

    def _log_entry(self, table: Table, version: int) -> list[dict[str, Any]]:
        path = f"{table.path}/_delta_log/{version:020}.json"
        with self._told(f"reading {path}"):
            try:
                answer = self.client.get_object(
                    Bucket=self.settings.bucket, Key=self.settings.key(path)
                )
            except self.client.exceptions.NoSuchKey:  # cleaned away meanwhile
                return []
            return [json.loads(line) for line in answer["Body"].read().splitlines()]


class GoneError(StediError):
    """An object is not there any more."""


@contextmanager
def told(client: Any, doing: str) -> Iterator[None]:
    """S3's refusals as one StediError: what was asked of it, where, and what to look at."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        what = type(error).__name__
        if isinstance(error, ClientError):
            what = error.response.get("Error", {}).get("Code", what)
        kind = GoneError if what in ("NoSuchKey", "NoSuchVersion") else StediError
        raise kind(
            f"S3 at {client.meta.endpoint_url} failed at {doing}: {what}. Check that it"
            " runs, has room on its disk, and that the keys may do this; then run again."
        ) from None


def _token(entry: list[dict[str, Any]]) -> str | None:
    """The `userMetadata` of a log entry: every write of ours has one, no other commit."""
    found = (line["commitInfo"].get("userMetadata") for line in entry if "commitInfo" in line)
    return next(found, None)


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


@functools.cache
def open_lake(settings: Settings) -> Lake:
    """The lake of some settings, one a process."""
    return Lake(settings)


_CLIENTS: dict[object, Any] = {}
_MAKING_CLIENT = threading.Lock()


def _timestamp(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # another format than that of S3's listings
        found: datetime = parse_timestamp(value)
        return found


def _new_client(resource: S3Resource) -> Any:
    try:
        client = resource.get_client()
    except (BotoCoreError, ProfileNotFound) as error:
        raise StediError(f"The AWS settings do not work: {error}") from error
    # Half of the time of a listing is botocore's parsing of dates in any format there is.
    parsers = client._endpoint._response_parser_factory
    parsers.set_parser_defaults(timestamp_parser=_timestamp)
    return client


def table_log(delta: Any, time_column: str | None) -> TableLog:
    """The files of a delta-rs table, with the statistics that the project uses."""
    import pyarrow

    actions = pyarrow.table(delta.get_add_actions(flatten=True)).to_pylist()
    table_id, version = delta.metadata().id, delta.version()
    return TableLog(table_id, version, tuple(_data_file(a, time_column) for a in actions))


def _data_file(action: dict[str, Any], time_column: str | None) -> DataFile:
    nulls = action.get("null_count._corrupt_record")
    return DataFile(
        path=action["path"],
        rows=action["num_records"],
        bytes=action["size_bytes"],
        ingest_date=action.get("partition.ingest_date"),
        malformed=0 if nulls is None else action["num_records"] - nulls,
        first_time=action.get(f"min.{time_column}"),
        last_time=action.get(f"max.{time_column}"),
        newest=action.get("partition.ingest_date") or action.get("max.ingest_date"),
    )


def is_data(name: str) -> bool:
    """Whether an object's name below its ingest date's folder says that it holds data."""
    return name != "" and not name.endswith("/") and not re.search(r"(^|/)[_.]", name)


def is_versioned_log_file(key: str, before_version: int) -> bool:
    """Whether a key is a log entry, checkpoint or checksum of a version before another."""
    match = re.match(r"\.?(\d{20})\.", key.rpartition("/")[2])
    return match is not None and int(match[1]) < before_version
