"""Removes from S3 what left the tables: old data files, old log entries, noncurrent versions."""

from datetime import UTC, datetime, timedelta
from typing import Any

from stedi_assets.lake import Lake, is_versioned_log_file
from stedi_assets.membership import SETTLED, SETTLED_FOLDER
from stedi_assets.schemas import TABLES
from stedi_assets.summaries import SUMMARIES, SUMMARIES_FOLDER


def erase(lake: Lake, retention: timedelta) -> int:
    """Compact every table and remove what left it longer ago than the retention.

    A data file, a log entry or checkpoint (they hold minima and maxima of columns) and, where the
    bucket keeps them, noncurrent versions of objects. Says how many objects went.
    """
    gone = _erase_left_behind(lake, retention)
    for table in [*TABLES.values(), *(summary.table for summary in SUMMARIES.values())]:
        delta = _open(lake, table.path)
        if delta is not None:
            gone += _erase_table(lake, delta, table.path, retention)
    for path in (
        *(f"{table.path}/" for table in TABLES.values()),
        SETTLED_FOLDER,
        SUMMARIES_FOLDER,
    ):
        gone += _erase_versions(lake, path, retention)
    return gone


def _erase_left_behind(lake: Lake, retention: timedelta) -> int:
    """Delete what a look at who is in left behind when it crashed, or another came first."""
    kept = (lake.get_json(SETTLED) or {}).get("folder")
    before = datetime.now(UTC) - retention
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
        delta.optimize.compact()
    removed = delta.vacuum(retention_hours=hours, enforce_retention_duration=False, dry_run=False)
    # A commit without data, so that the newest log entry, which stays, holds nobody's statistics.
    delta.alter.set_table_properties({"delta.logRetentionDuration": f"interval {hours} hours"})
    delta.create_checkpoint()
    return len(removed) + _erase_log(lake, delta.version(), path, retention)


def _erase_log(lake: Lake, version: int, path: str, retention: timedelta) -> int:
    """Delete log entries and checkpoints before the checkpoint of a version."""
    before = datetime.now(UTC) - retention
    old = [
        found["Key"]
        for found in lake.objects(f"{path}/_delta_log/")
        if is_versioned_log_file(found["Key"], before_version=version)
        and (not retention or found["LastModified"] < before)
    ]
    lake.delete(old)
    return len(old)


def _erase_versions(lake: Lake, path: str, retention: timedelta) -> int:
    """Delete noncurrent versions and delete markers, where the bucket keeps them."""
    client, bucket = lake.client, lake.settings.bucket
    if client.get_bucket_versioning(Bucket=bucket).get("Status") is None:
        return 0
    before = datetime.now(UTC) - retention
    gone = 0
    pages = client.get_paginator("list_object_versions").paginate(
        Bucket=bucket, Prefix=lake.settings.key(path)
    )
    for page in pages:
        for found in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
            noncurrent = not found["IsLatest"] or "Size" not in found
            if noncurrent and (not retention or found["LastModified"] < before):
                client.delete_object(Bucket=bucket, Key=found["Key"], VersionId=found["VersionId"])
                gone += 1
    return gone
