"""Follows S3 by itself: a sensor that looks, asks `decision.py`, and requests the next run.

One run at a time: a run reads what the one before it wrote, and no date is written twice at once.
"""

import hashlib
import json
from collections.abc import Collection
from datetime import date, timedelta

import dagster as dg

from stedi_assets import observation, stale
from stedi_assets.catch_up import ATTEMPTS, RANGE_TAGS
from stedi_assets.decision import Work, what_must_run
from stedi_assets.io_manager import DeltaIOManager
from stedi_assets.lake import Lake
from stedi_assets.land import landed_dates
from stedi_assets.membership import Membership
from stedi_assets.observation import Dates, Listing, ledger_of
from stedi_assets.schemas import TABLES
from stedi_assets.settings import StediError, today
from stedi_assets.stretches import stretches

SECONDS = 10
NEWEST = 20  # built dates looked at in every tick; all others come round within ROUNDS ticks
ROUNDS = 10
WORK_TAG = "stedi/work"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

lakehouse = dg.define_asset_job(
    "lakehouse",
    selection=dg.AssetSelection.assets(*TABLES),
    description="The whole graph for an ingest date, or the tables that are stale.",
)


@dg.op(description="Marks exactly the partitions that hold rows of people who came or went.")
def mark_partitions_of_changed_people(
    context: dg.OpExecutionContext, io_manager: dg.ResourceParam[DeltaIOManager]
) -> None:
    membership = Membership(io_manager)
    while not membership.is_settled() and membership.settle():
        context.log.info("Partitions of people who came or went were marked stale.")
        return


@dg.job(description="Finds the partitions that a change of consent or of a device concerns.")
def settle_membership() -> None:
    mark_partitions_of_changed_people()


def spans_to_look_at(
    first: date, last: date, built: Collection[date], tick: int, present: Collection[date] = ()
) -> list[Dates]:
    """The ingest dates to look at in a tick: the newest ones, a tenth of all, and some new ones.

    first, last: the lake's first date and today; built: the dates that the ledger knows; present:
    those that have a folder. New is what is present and not built: it need not wait for its round.
    """
    days = sorted({*built, *present}) or [first]
    edges = [days[len(days) * n // ROUNDS] for n in range(ROUNDS)]
    block = tick % ROUNDS
    since = min(days[-NEWEST:][0], last - timedelta(2))
    new = [day for day in days if day not in built][:NEWEST]
    spans: list[Dates] = [one for one in stretches(new) if one[0] < since]
    if block == ROUNDS - 1:
        return [*spans, (min(edges[-1], since), None)]
    start, end = edges[block] if block else None, edges[block + 1] - timedelta(1)
    return [*spans, (start, end), (since, None)]


def look(lake: Lake, tick: int) -> Listing:
    """What stands in the lake in the ingest dates of a tick."""
    known = ledger_of(lake)
    settings = lake.settings
    first, last, built = settings.first_ingest_date, today(), {day for _, day in known}
    folders = landed_dates(lake.client, settings.bucket, settings.prefix)
    present = {day for days in folders.values() for day in days if first <= day <= last}
    spans = spans_to_look_at(first, last, built, tick, present)
    return observation.look(lake, spans, known=known)


def run_request(work: Work, content: str) -> dg.RunRequest:
    """The run that does a work; its tag names work and content, to count failed attempts."""
    tags = {WORK_TAG: hashlib.sha256(f"{work} {content}".encode()).hexdigest()[:20]}
    tags["stedi/does"] = str(work)
    selection = [dg.AssetKey(name) for name in work.tables] or None
    key = None
    if work.start and work.end and work.start != work.end:
        tags |= dict(zip(RANGE_TAGS, (work.start.isoformat(), work.end.isoformat()), strict=True))
    elif work.start:
        key = work.start.isoformat()
    return dg.RunRequest(
        job_name=lakehouse.name, asset_selection=selection, partition_key=key, tags=tags
    )


def _failures(instance: dg.DagsterInstance, request: dg.RunRequest) -> int:
    filters = dg.RunsFilter(
        tags={WORK_TAG: request.tags[WORK_TAG]}, statuses=[dg.DagsterRunStatus.FAILURE]
    )
    return instance.get_runs_count(filters)


def next_request(
    lake: Lake, io: DeltaIOManager, tick: int
) -> tuple[dg.RunRequest | None, list[str]]:
    """The next run to request, if any, and the misplaced objects."""
    listing = look(lake, tick)
    misplaced = listing.misplaced
    changed = observation.changed(lake, listing)
    # S3 tells its time in whole seconds, rounded down: one more.
    landed_before = lake.now() + timedelta(seconds=1 - lake.settings.quiet_seconds)
    quiet = {p for p in changed if listing.newest.get(p, landed_before) <= landed_before}
    restless = {day for _, day in changed - quiet}
    marks = stale.marks(lake)
    work = what_must_run({day for _, day in quiet} - restless, marks)
    if work:
        first = work[0]
        content = json.dumps(
            [
                sorted(
                    (o.key, o.etag)
                    for (_, day), objects in listing.objects.items()
                    if first.start and first.end and first.start <= day <= first.end
                    for o in objects
                ),
                sorted(mark.path for mark in marks if mark.table in first.tables),
            ]
        )
        return run_request(first, content), misplaced
    membership = Membership(io)
    if not restless and not membership.is_settled():
        tag = hashlib.sha256(json.dumps(membership.versions).encode()).hexdigest()[:20]
        return dg.RunRequest(job_name="settle_membership", tags={WORK_TAG: tag}), misplaced
    return None, misplaced


@dg.sensor(
    jobs=[lakehouse, settle_membership],
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs what new, rewritten and deleted objects, late data and consent ask for.",
)
def landing_sensor(
    context: dg.SensorEvaluationContext, io_manager: dg.ResourceParam[DeltaIOManager]
) -> dg.SensorResult:
    tick = int(context.cursor or 0)
    if context.instance.get_runs_count(dg.RunsFilter(statuses=_UNFINISHED)):
        return dg.SensorResult(skip_reason="A run is under way; the next one waits for it.")
    request, misplaced = next_request(io_manager.lake, io_manager, tick)
    for name in misplaced:
        context.log.warning(f"Not landed (no ingest_date folder with a valid date): {name}")
    cursor = str(tick + 1)
    if request is None:
        return dg.SensorResult(skip_reason="The tables are as S3 has it.", cursor=cursor)
    if _failures(context.instance, request) >= ATTEMPTS:
        raise StediError(
            f"The same run failed {ATTEMPTS} times and is not requested again: see the failed runs"
            f" with tag {WORK_TAG}={request.tags[WORK_TAG]}; it is requested again when what"
            " landed changes, or run it by hand."
        )
    return dg.SensorResult(run_requests=[request], cursor=cursor)
