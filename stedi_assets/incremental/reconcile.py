"""`stedi catch-up`: what the sensors would do, in this process, until nothing is left to do."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from stedi_assets.defs.io_managers import DeltaIOManager
from stedi_assets.errors import StediError
from stedi_assets.incremental import change_detection as observation
from stedi_assets.incremental import stale_markers as stale
from stedi_assets.incremental.consent_propagation import Membership
from stedi_assets.incremental.planner import Work, what_must_run

ATTEMPTS = 3
# What a run does is in the instance; on the terminal only what is wrong.
QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
# A lake settles in a handful of rounds; more says that it is written to as fast as we work.
MOST_ROUNDS = 200


def run_arguments(work: Work) -> dict[str, Any]:
    """A run's partition and tags, for `execute_in_process` and `RunRequest` alike."""
    if work.start is None or work.end is None:
        return {}
    if work.start == work.end:
        return {"partition_key": work.start.isoformat()}
    days = (work.start.isoformat(), work.end.isoformat())
    return {"tags": dict(zip(RANGE_TAGS, days, strict=True))}


def run_here(defs: dg.Definitions, instance: dg.DagsterInstance) -> Callable[[Work], None]:
    """A function that does a run in this process; StediError where it fails `ATTEMPTS` times."""
    job = defs.resolve_implicit_global_asset_job_def()

    def run(work: Work) -> None:
        selection = [dg.AssetKey(name) for name in work.tables] or None
        for attempt in range(1, ATTEMPTS + 1):
            result = job.execute_in_process(
                run_config=QUIET,
                instance=instance,
                asset_selection=selection,
                raise_on_error=False,
                **run_arguments(work),
            )
            if result.success:
                return
            if attempt == ATTEMPTS:
                raise StediError(f"{work} failed {ATTEMPTS} times; the log above says why.")

    return run


def catch_up(io: DeltaIOManager, run: Callable[[Work], None], say: Callable[[str], None]) -> int:
    """Run until the tables equal what has landed; how many runs it took.

    A run that fails holds up no other: all the rest is done, then each is said in a line, and
    StediError.
    """
    runs = 0
    failed: dict[Work, str] = {}
    settled_at: dict[str, int | None] = {}
    for _ in range(MOST_ROUNDS):
        listing = observation.look(io.lake)
        changed = {day for _, day in observation.changed(io.lake, listing)}
        marks = stale.marks(io.lake)
        work = what_must_run(
            {day for day in changed if Work((), day, day) not in failed},
            [m for m in marks if Work((m.table,), m.ingest_date, m.ingest_date) not in failed],
        )
        if not work and not _settle(io, failed, settled_at):
            break
        while work:
            one = work.pop(0)
            say(f"Running {one} …")
            runs += 1
            try:
                run(one)
            except StediError as error:
                _check_that_all_answer(io)
                if len(one.days) > 1:
                    work = [Work(one.tables, day, day) for day in one.days] + work
                else:
                    failed[one] = str(error)
    else:
        raise StediError("The lake does not settle: objects land faster than they are read.")
    for name in listing.misplaced:
        say(f"Not landed, left alone (no ingest_date folder with a valid date): {name}")
    for line in failed.values():
        say(line)
    if failed:
        raise StediError(
            f"Not caught up: what could not be done is named above ({len(failed)}), everything else"
            " is done. Mend that, then catch up again."
        )
    return runs


def _settle(io: DeltaIOManager, failed: dict[Work, str], settled_at: dict[str, int | None]) -> bool:
    """Look at who is in; True where there may be more to do.

    Beside runs that failed, once for every state of the tables: their marks come again for ever.
    """
    membership = Membership(io)
    if membership.is_settled() or (failed and membership.versions == settled_at):
        return False
    settled_at |= membership.versions
    try:
        return membership.settle()
    except StediError as error:
        if not failed:
            raise
        failed[Work(("settle_membership",), None, None)] = f"Membership is not settled: {error}"
        return False


def _check_that_all_answer(io: DeltaIOManager) -> None:
    """StediError where S3 or the engine is away: then every other run would fail as well."""
    io.lake.now()
    _ = io.spark.spark_session
