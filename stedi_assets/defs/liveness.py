"""Whether an unfinished run is still alive: that its process died, nobody tells Dagster."""

import time
from datetime import timedelta

import dagster as dg

# No step of a run works so long without an event.
HEARTBEAT_TIMEOUT = timedelta(minutes=30)


def is_silent(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run has emitted no event for `HEARTBEAT_TIMEOUT`: its process probably died.

    Of a run without an event its creation counts: that it was never started nobody tells, either.
    """
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    record = None if newest else instance.get_run_record_by_id(run.run_id)
    created = record.create_timestamp.timestamp() if record else time.time()
    last_event = newest[0].timestamp if newest else created
    return time.time() - last_event >= HEARTBEAT_TIMEOUT.total_seconds()
