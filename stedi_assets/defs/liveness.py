"""Whether an unfinished run is still alive: that its process died, nobody tells Dagster."""

import time
from datetime import timedelta

import dagster as dg
from sqlalchemy.exc import DatabaseError, OperationalError

# No step of a run works so long without an event.
HEARTBEAT_TIMEOUT = timedelta(minutes=30)


def is_silent(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run has emitted no event for `HEARTBEAT_TIMEOUT`: its process probably died.

    Where its events are lost or damaged, the time of its last status counts.
    """
    last_event = _last_event(instance, run)
    if last_event is None:
        record = instance.get_run_record_by_id(run.run_id)
        last_event = record.update_timestamp.timestamp() if record else time.time()
    return time.time() - last_event >= HEARTBEAT_TIMEOUT.total_seconds()


def _last_event(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float | None:
    try:
        newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    except OperationalError:  # locked, or its server is away: that passes
        raise
    except DatabaseError:  # SQLite's file of this run is damaged
        return None
    return newest[0].timestamp if newest else None
