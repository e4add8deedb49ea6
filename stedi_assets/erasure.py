"""Removes from S3 what left the tables: old data files, old log entries, noncurrent versions."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stedi_assets.lake import Lake, is_versioned_log_file, told
from stedi_assets.membership import SETTLED, SETTLED_FOLDER
from stedi_assets.schemas import TABLES
from stedi_assets.summaries import SUMMARIES, SUMMARIES_FOLDER
from stedi_assets.write_lock import write_lock

# No write of a table takes longer, from its first file to its commit.
UNDER_WAY_HOURS = 6
ATTEMPTS = 10


def erase(lake: Lake, retention: timedelta) -> int:
    """Compact every table and remove what left it longer ago than the retention.

    A data file, a log entry or checkpoint (they hold minima and maxima of columns) and, where the
    bucket keeps them, noncurrent versions of objects. Says how many objects went.
    """
    gone = _erase_left_behind(lake, retention)
    for table in [*TABLES.values(), *(summary.table for summary in SUMMARIES.values())]:
        delta = _open(lake, table.path)
        if delta is not None:
            with write_lock(lake, table.name):
                gone += _erase_table(lake, delta, table.path, retention)
    for path in (
        *(f"{table.path}/" for table in TABLES.values()),
        SETTLED_FOLDER,
        SUMMARIES_FOLDER,
    ):
        gone += erase_versions(lake, path, retention)
    return gone


def _erase_left_behind(lake: Lake, retention: timedelta) -> int:
    """Delete what a look at who is in left behind when it crashed, or another came first."""
    kept = (lake.get_json(SETTLED) or {}).get("folder")
    before = lake.now() - retention
    left = [
        found["Key"]
        for found in lake.objects(SETTLED_FOLDER)
        if not found["Key"].startswith((SETTLED, f"{kept}/"))
        and (not retention or found["LastModified"] < before)
    ]
    lake.delete(left)
    return len(left)


def _open(lake: Lake, path: str) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    try:
        return DeltaTable(lake.settings.uri(path), storage_options=lake.storage_options)
    except TableNotFoundError:
        return None


def _erase_table(lake: Lake, delta: Any, path: str, retention: timedelta) -> int:
    hours = int(retention.total_seconds() // 3600)
    # The ledger holds the names of the landing tables' files, a summary those of its own.
    if not path.startswith(("landing/", "_stedi/")):
        _committed(delta, delta.optimize.compact)
    removed = _vacuum(delta, hours, full=False)
    # Files that no log entry names: of writes that were cut short, or of one that is under way.
    removed += _vacuum(delta, max(hours, UNDER_WAY_HOURS), full=True)
    # A commit without data, so that the newest log entry, which stays, holds nobody's statistics.
    properties = {"delta.logRetentionDuration": f"interval {hours} hours"}
    _committed(delta, lambda: delta.alter.set_table_properties(properties))
    delta.create_checkpoint()
    return len(removed) + _erase_log(lake, delta.version(), path, retention)


def _vacuum(delta: Any, hours: int, *, full: bool) -> list[str]:
    removed: list[str] = delta.vacuum(
        retention_hours=hours, enforce_retention_duration=False, dry_run=False, full=full
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


def _erase_log(lake: Lake, version: int, path: str, retention: timedelta) -> int:
    """Delete log entries and checkpoints before the checkpoint of a version."""
    before = lake.now() - retention
    old = [
        found["Key"]
        for found in lake.objects(f"{path}/_delta_log/")
        if is_versioned_log_file(found["Key"], before_version=version)
        and (not retention or found["LastModified"] < before)
    ]
    lake.delete(old)
    return len(old)


def erase_versions(lake: Lake, prefix: str, retention: timedelta) -> int:
    """Delete noncurrent versions and delete markers below a prefix, where the bucket keeps them."""
    with told(lake.client, f"erasing older versions of {prefix}"):
        return _erase_versions(lake, prefix, retention)


def _erase_versions(lake: Lake, prefix: str, retention: timedelta) -> int:
    client, bucket = lake.client, lake.settings.bucket
    if client.get_bucket_versioning(Bucket=bucket).get("Status") is None:
        return 0
    before = lake.now() - retention
    gone = 0
    pages = client.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=lake.settings.key(prefix)
    )
    listed = list(pages)
    # All versions before any delete marker: without its marker, a version would be current again.
    everything = [found for page in listed for found in page.get("Versions", ())]
    everything += [found for page in listed for found in page.get("DeleteMarkers", ())]
    for found in everything:
        noncurrent = not found["IsLatest"] or "Size" not in found
        if noncurrent and (not retention or found["LastModified"] < before):
            client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
            gone += 1
    return gone
