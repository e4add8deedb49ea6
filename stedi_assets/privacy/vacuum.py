"""Removes from S3 what left the tables: old data files, old log entries, noncurrent versions.

And the parts of uploads that were cut short, which no listing of objects shows.

`stedi erase` and the maintenance job call `erase`; `stedi forget` calls `purge`, its last part.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from stedi_assets.errors import StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.rollups import ROLLUPS, refresh_rollups
from stedi_assets.lakehouse.client import GoneError, translate_s3_errors
from stedi_assets.lakehouse.delta_commit import open_by_delta_rs
from stedi_assets.lakehouse.delta_log import is_log_file, is_versioned_log_file
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.spark.errors import redact_engine_errors, redacted_message
from stedi_assets.tables.schemas import TABLES, Table

# No write of a table takes longer, from its first file to its commit.
UNDER_WAY_HOURS = 6
ATTEMPTS = 10
# No upload takes longer, of a landed object either. What a producer is sending is never ended.
UPLOAD_TIME = timedelta(days=1)
# What of a bucket is the lake's, below its prefix.
_FOLDERS = ("landing/", "trusted/", "curated/", "_stedi/")
# What earlier releases kept under `_stedi/`, and no release reads any more: it goes at once.
OBSOLETE_FOLDERS = ("_stedi/settled/", "_stedi/stale/", "_stedi/summaries/")


@dataclass
class PurgeResult:
    """What a purge removed and what is left.

    removed: objects that went; kept: data files that no table names and that stay, until when at
    the latest; uploads: those that were cut short and are ended; problems: what could not be done,
    each in a line; warnings: what S3 does not let us do, and uploads in progress.
    """

    removed: int = 0
    kept: int = 0
    until: datetime | None = None
    uploads: int = 0
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """In a line or two, for a person."""
        text = f"Removed {self.removed} files."
        if self.uploads:
            text += f" Ended {self.uploads} uploads that were cut short."
        if self.problems:
            return f"{text} Not everything could be done; what is left may be more than is said."
        if not self.kept or self.until is None:
            return f"{text} No file that left the tables remains."
        files = (
            "1 file that no table names stays"
            if self.kept == 1
            else (f"{self.kept} files that no table names stay")
        )
        return (
            f"{text} {files}, for readers of older versions or"
            f" for writes that may be in progress: repeat this after"
            f" {self.until:%Y-%m-%d %H:%M} UTC to remove the last of them."
        )


def erase(
    pipeline: Pipeline, catch_up_without_new_dates: Callable[[], object], retention: timedelta
) -> PurgeResult:
    """Bring what was built before up to date; remove what left it longer ago than the retention.

    Whatever cannot be done holds up nothing else; it is among the result's problems.

    catch_up_without_new_dates: brings it up to date, StediError where some could not be.
    """
    problems: list[str] = []
    with _noting(problems, "Bringing the tables up to date"):
        catch_up_without_new_dates()
    result = purge(pipeline, retention)
    result.problems[:0] = problems
    return result


def purge(pipeline: Pipeline, retention: timedelta) -> PurgeResult:
    """Compact every table past the landing zone and remove what left any of them.

    Data files, log entries and checkpoints (they hold minima and maxima of columns) and, where the
    bucket keeps them, noncurrent versions of objects. Uploads to the lake that were cut short are
    ended. Arguments as of `erase`.
    """
    store, result = pipeline.lakehouse.store, PurgeResult()
    with _noting(result.problems, "Bringing the roll-ups up to date"):
        # A roll-up is else brought up to date when it is read, which may be never.
        pipeline.refresh()
        state = pipeline.state(with_membership=False)
        refresh_rollups(pipeline.lakehouse, state.logs, state.ledgers)
    with _noting(result.warnings, "Ending uploads that were cut short"):
        _end_uploads(store, result)
    for folder in OBSOLETE_FOLDERS:
        with _noting(result.problems, f"Deleting {folder}"):
            result.removed += store.delete_below(folder)
    for table in [*TABLES.values(), *(rollup.table for rollup in ROLLUPS.values())]:
        with _noting(result.problems, f"Cleaning {table.name}"), write_lock(store, table.name):
            _purge_table(pipeline, table, retention, result)
    for path in (*(f"{table.path}/" for table in TABLES.values()), "_stedi/"):
        with _noting(result.problems, f"Erasing older versions of {path}"):
            result.removed += erase_versions(store, path, retention)
    return result


@contextmanager
def _noting(problems: list[str], doing: str) -> Iterator[None]:
    """Around one part of the work: its failure is noted, and the other parts are done."""
    try:
        with redact_engine_errors(doing):
            yield
    except StediError as error:
        problems.append(str(error))
    except Exception as error:  # whatever it is: it holds up no other part
        problems.append(f"{doing} failed: {redacted_message(error)}")


def _purge_table(
    pipeline: Pipeline, table: Table, retention: timedelta, result: PurgeResult
) -> None:
    store = pipeline.lakehouse.store
    pipeline.lakehouse.refresh([table])
    if pipeline.lakehouse.log(table) is None:
        # There is no table, or a log that nobody can read: what lies there is no table's.
        result.removed += store.delete_below(f"{table.path}/")
        return
    delta = open_by_delta_rs(store, table)
    hours = int(retention.total_seconds() // 3600)
    if table.name in TABLES and table.zone != "landing":
        _compact(pipeline, table, delta)
    result.removed += len(_vacuum(delta, hours, full=False))
    # Files that no log entry names: of writes that were cut short, or of one that is in progress.
    result.removed += len(_vacuum(delta, max(hours, UNDER_WAY_HOURS), full=True))
    # A commit without data, so that the newest log entry, which stays, holds nobody's statistics.
    properties = {"delta.logRetentionDuration": f"interval {hours} hours"}
    _committed(delta, lambda: delta.alter.set_table_properties(properties))
    delta.create_checkpoint()
    result.removed += _erase_log(store, delta.version(), table.path, retention)
    kept_for = max(retention, timedelta(hours=UNDER_WAY_HOURS))
    _account_for_other_files(store, table, delta, kept_for, result)


def _compact(pipeline: Pipeline, table: Table, delta: Any) -> None:
    """Compact a table; its ledger knows the new files for the old ones."""
    from deltalake import CommitProperties

    before, token = pipeline.lakehouse.log(table), uuid.uuid4().hex
    properties = CommitProperties(custom_metadata={"userMetadata": token})
    _committed(delta, lambda: delta.optimize.compact(commit_properties=properties))
    if before is not None:
        pipeline.compacted(table, before, token)


def _vacuum(delta: Any, hours: int, *, full: bool) -> list[str]:
    removed: list[str] = delta.vacuum(
        retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=full
    )
    return removed


def _account_for_other_files(
    store: ObjectStore, table: Table, delta: Any, kept_for: timedelta, result: PurgeResult
) -> None:
    """Count the files under a table that its newest version does not name.

    Vacuum leaves those alone whose path has a part with `_` or `.` before it (an engine's
    `_temporary/`, a `.crc`), for ever: they are deleted when they are as old as the others.
    """
    prefix, named = f"{table.path}/", {uri.rpartition("/")[2] for uri in delta.file_uris()}
    now, hidden = store.now(), []
    for entry in store.objects(prefix):
        path = entry["Key"].removeprefix(prefix)
        name = path.rpartition("/")[2]
        if is_log_file(path) or name in named or unquote(name) in named:
            continue
        until = entry["LastModified"] + kept_for
        if until < now and any(part.startswith(("_", ".")) for part in path.split("/")):
            hidden.append(path)
            continue
        result.kept += 1
        until += timedelta(minutes=1)  # for S3's whole seconds and ours
        result.until = max(result.until or until, until)
    store.delete(f"{prefix}{path}" for path in hidden)
    result.removed += len(hidden)


def _committed(delta: Any, commit: Callable[[], Any]) -> None:
    """Commit, again where a run that writes the table was first."""
    from deltalake.exceptions import CommitFailedError

    for attempt in range(1, ATTEMPTS + 1):
        try:
            commit()
        except CommitFailedError:
            if attempt == ATTEMPTS:
                raise
            delta.update_incremental()
        else:
            return


def _erase_log(store: ObjectStore, version: int, path: str, retention: timedelta) -> int:
    """Delete log entries and checkpoints before the checkpoint of a version."""
    before = store.now() - retention
    old = [
        entry["Key"]
        for entry in store.objects(f"{path}/_delta_log/")
        if is_versioned_log_file(entry["Key"], before_version=version)
        and (not retention or entry["LastModified"] < before)
    ]
    store.delete(old)
    return len(old)


def _end_uploads(store: ObjectStore, result: PurgeResult) -> None:
    """End the uploads to the lake's folders that were cut short; StediError if not all.

    A lake may share its bucket, and its root, with others, whose uploads are theirs.
    """
    client, bucket, before = store.client, store.settings.bucket, store.now() - UPLOAD_TIME
    with translate_s3_errors(client, "listing uploads that were cut short"):
        pages = list(
            client.get_paginator("list_multipart_uploads").paginate(
                Bucket=bucket, Prefix=store.settings.key("")
            )
        )
    folders = tuple(map(store.settings.key, _FOLDERS))
    uploads = [
        upload
        for page in pages
        for upload in page.get("Uploads", ())
        if upload["Key"].startswith(folders)
    ]
    young = [upload["Initiated"] for upload in uploads if upload["Initiated"] > before]
    if young:
        result.warnings.append(
            f"{len(young)} uploads are in progress, or were cut short less than a day ago, and may"
            f" hold anybody's records: again after {max(young) + UPLOAD_TIME:%Y-%m-%d %H:%M} UTC"
            " ends what is left of them."
        )
    refused: list[StediError] = []
    for upload in uploads:
        if upload["Initiated"] > before:
            continue
        try:
            with (
                translate_s3_errors(client, "ending uploads that were cut short"),
                suppress(client.exceptions.NoSuchUpload),
            ):
                client.abort_multipart_upload(
                    Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
                result.uploads += 1
        except StediError as error:
            refused.append(error)
    if refused:
        raise refused[0]


@dataclass(frozen=True)
class Version:
    """A noncurrent version of an object, or a delete marker, which has no content.

    path: under the lake.
    """

    path: str
    id: str
    last_modified: datetime
    has_content: bool

    def delete(self, store: ObjectStore) -> None:
        """Delete it for good; GoneError where another did."""
        with translate_s3_errors(store.client, f"deleting a version of {self.path}"):
            store.client.delete_object(
                Bucket=store.settings.bucket,
                Key=store.settings.key(self.path),
                VersionId=self.id,
            )


def noncurrent_versions(store: ObjectStore, prefix: str) -> list[Version]:
    """The noncurrent versions below a prefix, delete markers last; none on a plain bucket.

    In this order they can be deleted: without its marker, a version would be current again.
    """
    client, bucket = store.client, store.settings.bucket
    with translate_s3_errors(client, f"erasing older versions of {prefix}"):
        if client.get_bucket_versioning(Bucket=bucket).get("Status") is None:
            return []
        pages = client.get_paginator("list_object_versions").paginate(
            Bucket=bucket, Prefix=store.settings.key(prefix)
        )
        listed = list(pages)
    entries = [entry for page in listed for entry in page.get("Versions", ())]
    entries += [entry for page in listed for entry in page.get("DeleteMarkers", ())]
    root = store.settings.key("")
    return [
        Version(
            entry["Key"].removeprefix(root),
            entry["VersionId"],
            entry["LastModified"],
            "Size" in entry,
        )
        for entry in entries
        if not entry["IsLatest"] or "Size" not in entry
    ]


def delete_for_good(store: ObjectStore, path: str) -> None:
    """Delete the current version of an object, if there is one, and leave no delete marker.

    An older version would be the current one then.
    """
    client, place = store.client, {"Bucket": store.settings.bucket, "Key": store.settings.key(path)}
    with suppress(GoneError), translate_s3_errors(client, f"deleting {path}"):
        version = client.get_object(**place).get("VersionId")  # HEAD says of no object just 404
        client.delete_object(**place, **({"VersionId": version} if version else {}))


def erase_versions(store: ObjectStore, prefix: str, retention: timedelta) -> int:
    """Delete noncurrent versions and delete markers below a prefix that are older than that."""
    versions = noncurrent_versions(store, prefix)
    if versions and retention:
        before = store.now() - retention
        versions = [version for version in versions if version.last_modified < before]
    for version in versions:
        with suppress(GoneError):
            version.delete(store)
    return len(versions)
