"""Follows S3 by itself: a sensor that looks, asks `decision.py`, and requests the next run.

One run at a time: a run reads what the one before it wrote, and no date is written twice at once.
"""

import hashlib
import json
import time
from collections.abc import Collection, Iterable
from datetime import date, datetime, timedelta

import dagster as dg

from stedi_assets.defs.io_managers import DeltaIOManager
from stedi_assets.errors import StediError
from stedi_assets.incremental import change_detection as observation
from stedi_assets.incremental import ledger
from stedi_assets.incremental import stale_markers as stale
from stedi_assets.incremental.change_detection import Dates, Listing, ledger_of
from stedi_assets.incremental.consent_propagation import Membership
from stedi_assets.incremental.date_ranges import stretches
from stedi_assets.incremental.ledger import Partition
from stedi_assets.incremental.planner import Work, what_must_run
from stedi_assets.incremental.reconcile import ATTEMPTS, RANGE_TAGS
from stedi_assets.incremental.stale_markers import Mark
from stedi_assets.lakehouse.object_store import Lake
from stedi_assets.landing.upload import landed_dates
from stedi_assets.settings import today
from stedi_assets.tables.schemas import TABLES

SECONDS = 10
NEWEST = 20  # built dates looked at in every tick; all others come round within ROUNDS ticks
ROUNDS = 10
WORK_TAG = "stedi/work"
MOST_PERIODS = 6  # quiet periods that an object waits where others keep landing
LOST_AFTER = timedelta(minutes=30)
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
    if not membership.is_settled() and membership.settle():
        context.log.info("There may be more to do: what is stale is built, then looked at again.")


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


def wanted_runs(lake: Lake, io: DeltaIOManager, listing: Listing) -> list[dg.RunRequest]:
    """The runs that could be requested next, the first before the others.

    What comes after the first is for when it was given up: a stretch of dates has its single dates
    after it, changed dates have the stale tables, so that one bad date holds up no other.
    """
    changed = observation.changed(lake, listing)
    now = lake.now()
    restless = {p[1] for p in changed if not is_quiet(lake, listing, p, now)}
    marks = stale.marks(lake)
    days = {day for _, day in changed} - restless
    work = _with_single_dates(what_must_run(days, marks)) if days else []
    left = marks
    while left:
        of_level = what_must_run((), left)
        work += _with_single_dates(of_level)
        left = [mark for mark in left if mark.table not in of_level[0].tables]
    if work:
        return [run_request(one, _content(one, listing, marks)) for one in work]
    settling = settle_request(io)
    return [settling] if settling else []


def _with_single_dates(work: list[Work]) -> list[Work]:
    return work + [Work(w.tables, day, day) for w in work if len(w.days) > 1 for day in w.days]


def settle_request(io: DeltaIOManager) -> dg.RunRequest | None:
    """The run that finds what a change of people concerns; None where nothing changed."""
    membership = Membership(io)
    if membership.is_settled():
        return None
    tag = hashlib.sha256(json.dumps(membership.versions).encode()).hexdigest()[:20]
    return dg.RunRequest(job_name="settle_membership", tags={WORK_TAG: tag})


def is_quiet(lake: Lake, listing: Listing, partition: Partition, now: datetime) -> bool:
    """Whether nothing landed in a partition for STEDI_QUIET_SECONDS, so that it may run.

    Where objects keep landing, one that has waited `MOST_PERIODS` times as long is enough.
    """
    # S3 tells its time in whole seconds, rounded down: one more.
    period = timedelta(seconds=lake.settings.quiet_seconds)
    landed_before = now + timedelta(seconds=1) - period
    restless = [o for o in listing.objects[partition] if listing.when[o] > landed_before]
    if not restless:
        return True
    entries = [ledger.entry(lake, partition, one) for one in listing.ledger.get(partition, ())]
    read = {landed for entry in entries if entry for landed in entry.objects}
    waiting = [listing.when[o] for o in listing.objects[partition] if o not in read]
    return bool(waiting) and min(waiting) <= landed_before - (MOST_PERIODS - 1) * period


def _content(work: Work, listing: Listing, marks: Iterable[Mark]) -> str:
    """What a run would read: the same run over other objects has failed attempts of its own."""
    days = set(work.days)
    objects = sorted(
        (o.key, o.etag)
        for (_, day), objects in listing.objects.items()
        if day in days
        for o in objects
    )
    return json.dumps([objects, sorted(m.path for m in marks if m.table in work.tables)])


def _is_under_way(context: dg.SensorEvaluationContext) -> bool:
    """Whether a run is under way; one that has said nothing for `LOST_AFTER` is not."""
    instance = context.instance
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        said = newest[0].timestamp if newest else time.time()
        if time.time() - said < LOST_AFTER.total_seconds():
            return True
        context.log.warning(
            f"Run {run.run_id} has said nothing for {LOST_AFTER}: it is taken for lost (its"
            " process or machine ended without a word)."
        )
        instance.report_run_failed(run, "Taken for lost by the landing sensor.")
    return False


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
    if _is_under_way(context):
        return dg.SensorResult(skip_reason="A run is under way; the next one waits for it.")
    lake, cursor = io_manager.lake, str(tick + 1)
    listing = look(lake, tick)
    for name in listing.misplaced:
        context.log.warning(f"Not landed (no ingest_date folder with a valid date): {name}")
    request, given_up = _not_given_up(context, wanted_runs(lake, io_manager, listing))
    if given_up and not request:
        # A failing tick keeps its cursor: it looks at all dates, so that none is left out.
        everywhere = wanted_runs(lake, io_manager, observation.look(lake))
        request, given_up = _not_given_up(context, everywhere)
    if given_up and not request:
        request = _settling_for_once(context, io_manager)
    if request:
        return dg.SensorResult(run_requests=[request], cursor=cursor)
    if given_up:
        raise StediError(
            f"The same run failed {ATTEMPTS} times and is not requested again: see the failed runs"
            f" with tag {WORK_TAG}={', '.join(given_up)}; it is requested again when what landed"
            " changes, or run it by hand."
        )
    return dg.SensorResult(skip_reason="The tables are as S3 has it.", cursor=cursor)


def _settling_for_once(
    context: dg.SensorEvaluationContext, io: DeltaIOManager
) -> dg.RunRequest | None:
    """Beside dates that were given up: a withdrawal must not wait for them, nor ask for ever."""
    request = settle_request(io)
    if request is None or context.instance.get_runs_count(dg.RunsFilter(tags=request.tags)):
        return None
    return request


def _not_given_up(
    context: dg.SensorEvaluationContext, requests: Iterable[dg.RunRequest]
) -> tuple[dg.RunRequest | None, list[str]]:
    """The first request that has not failed too often, and the tags of those before it."""
    given_up: list[str] = []
    for request in requests:
        if _failures(context.instance, request) < ATTEMPTS:
            return request, given_up
        given_up.append(request.tags[WORK_TAG])
        context.log.error(f"Failed {ATTEMPTS} times, given up: {WORK_TAG}={given_up[-1]}")
    return None, given_up
