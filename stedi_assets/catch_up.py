"""`stedi catch-up`: what the sensors would do, in this process, until nothing is left to do."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from stedi_assets import observation, stale
from stedi_assets.decision import Work, what_must_run
from stedi_assets.io_manager import DeltaIOManager
from stedi_assets.membership import Membership
from stedi_assets.settings import StediError

ATTEMPTS = 3
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
    """Run until the tables equal what has landed; how many runs it took."""
    runs = 0
    for _ in range(MOST_ROUNDS):
        listing = observation.look(io.lake)
        changed = observation.changed(io.lake, listing)
        work = what_must_run({day for _, day in changed}, stale.marks(io.lake))
        for one in work:
            say(f"Running {one} …")
            run(one)
            runs += 1
        if not work:
            membership = Membership(io)
            if membership.is_settled() or not membership.settle():
                for name in listing.misplaced:
                    say(f"Not landed, left alone (no ingest_date folder with a valid date): {name}")
                return runs
    raise StediError("The lake does not settle: objects land faster than they are read.")
