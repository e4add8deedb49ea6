"""Removes from S3 what left the tables: old data files, old log entries, noncurrent versions."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.rollups import ROLLUPS, ROLLUPS_FOLDER, refresh_rollups
from stedi_assets.lakehouse.client import translate_s3_errors
from stedi_assets.lakehouse.delta_log import is_versioned_log_file
from stedi_assets.lakehouse.object_store import ObjectStore
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.tables.schemas import TABLES

# No write of a table takes longer, from its first file to its commit.
UNDER_WAY_HOURS = 6
# What versions of the project before the ledger of all tables kept.
_FOLDERS_OF_OLDER_VERSIONS = ("_stedi/settled/", "_stedi/stale/", "_stedi/summaries/")
ATTEMPTS = 10


@dataclass(frozen=True)
class Erased:
    """How many objects went, and how many files stay that no table names, and until when."""

    gone: int
    staying: int
    until: datetime

    def __str__(self) -> str:
        said = f"Removed {self.gone} files."
        if self.staying:
            said += (
                f" {self.staying} of writes that were cut short, or are under way, stay: `stedi"
                f" erase --now` removes them from {self.until:%Y-%m-%d %H:%M} UTC on."
            )
        return said


def erase(pipeline: Pipeline, retention: timedelta) -> Erased:
    """Compact every table and remove what left it longer ago than the retention.

    A data file, a log entry or checkpoint (they hold minima and maxima of columns) and, where the
    bucket keeps them, noncurrent versions of objects.
    """
    store = pipeline.lakehouse.store
    # A roll-up is else brought up to date when it is read, which may be never.
    pipeline.refresh()
    refresh_rollups(pipeline.lakehouse)
    gone = sum(store.delete_below(folder) for folder in _FOLDERS_OF_OLDER_VERSIONS)
    staying = 0
    for table in [*TABLES.values(), *(rollup.table for rollup in ROLLUPS.values())]:
        delta = _open(store, table.path)
        if delta is not None:
            with write_lock(store, table.name):
                before = pipeline.lakehouse.log(table)
                of_table = _erase_table(store, delta, table.path, retention)
                if table.name in TABLES and before is not None:
                    pipeline.compacted(table, before)
            gone, staying = gone + of_table[0], staying + of_table[1]
    for path in (
        *(f"{table.path}/" for table in TABLES.values()),
        ROLLUPS_FOLDER,
    ):
        gone += erase_versions(store, path, retention)
    # A minute more, for S3's whole seconds and ours.
    until = store.now() + timedelta(hours=UNDER_WAY_HOURS, minutes=1)
    return Erased(gone, staying, until)


def _open(store: ObjectStore, path: str) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(store.settings.uri(path), storage_options=store.storage_options)
    except TableNotFoundError:
        return None


def _erase_table(
    store: ObjectStore, delta: Any, path: str, retention: timedelta
) -> tuple[int, int]:
    """How many objects went, and how many files stay just because they could be under way."""
    hours = int(retention.total_seconds() // 3600)
    # The ledger holds the names of the landing tables' files, a summary those of its own.
    if not path.startswith(("landing/", "_stedi/")):
        _committed(delta, delta.optimize.compact)
    removed = _vacuum(delta, hours, full=False)
    # Files that no log entry names: of writes that were cut short, or of one that is under way.
    removed += _vacuum(delta, max(hours, UNDER_WAY_HOURS), full=True)
    young = _vacuum(delta, 0, full=True, dry_run=True) if hours < UNDER_WAY_HOURS else []
    # A commit without data, so that the newest log entry, which stays, holds nobody's statistics.
    properties = {"delta.logRetentionDuration": f"interval {hours} hours"}
    _committed(delta, lambda: delta.alter.set_table_properties(properties))
    delta.create_checkpoint()
    gone = len(removed) + _erase_log(store, delta.version(), path, retention)
    return gone, len(young)


def _vacuum(delta: Any, hours: int, *, full: bool, dry_run: bool = False) -> list[str]:
    removed: list[str] = delta.vacuum(
        retention_hours=hours, enforce_retention_duration=False, dry_run=dry_run, full=full
    )
    return removed


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
        found["Key"]
        for found in store.objects(f"{path}/_delta_log/")
        if is_versioned_log_file(found["Key"], before_version=version)
        and (not retention or found["LastModified"] < before)
    ]
    store.delete(old)
    return len(old)


def erase_versions(
    store: ObjectStore,
    prefix: str,
    retention: timedelta,
    chosen: Callable[[str, str], bool] | None = None,
) -> int:
    """Delete noncurrent versions and delete markers below a prefix, where the bucket keeps them.

    chosen: asked with the path and id of a version whether it goes; markers stay then.
    """
    with translate_s3_errors(store.client, f"erasing older versions of {prefix}"):
        return _erase_versions(store, prefix, retention, chosen)


def _erase_versions(
    store: ObjectStore,
    prefix: str,
    retention: timedelta,
    chosen: Callable[[str, str], bool] | None,
) -> int:
    client, bucket = store.client, store.settings.bucket
    if client.get_bucket_versioning(Bucket=bucket).get("Status") is None:
        return 0
    before = store.now() - retention
    gone = 0
    pages = client.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=store.settings.key(prefix)
    )
    listed = list(pages)
    # All versions before any delete marker: without its marker, a version would be current again.
    everything = [found for page in listed for found in page.get("Versions", ())]
    everything += [found for page in listed for found in page.get("DeleteMarkers", ())]
    for found in everything:
        noncurrent = not found["IsLatest"] or "Size" not in found
        if chosen is not None:
            path = found["Key"].removeprefix(store.settings.key(""))
            noncurrent = noncurrent and "Size" in found and chosen(path, found["VersionId"])
        if noncurrent and (not retention or found["LastModified"] < before):
            client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
            gone += 1
    return gone
