"""Follows S3: a sensor that lists what landed, asks the planner, and requests the next run.

One run at a time: a run reads what the one before it wrote, and no date is written twice at once.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from stedi_assets.aws import aws_client
from stedi_assets.defs import liveness
from stedi_assets.defs.jobs import RUN_ATTEMPTS, catch_up, lakehouse, run_arguments
from stedi_assets.errors import StediError
from stedi_assets.incremental.ledger import files_of
from stedi_assets.incremental.partition_inputs import LakeState, inputs_of, listed_inputs
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.planner import (
    PlannedRun,
    Reasons,
    downstream_out_of_date,
    landing_out_of_date,
    what_was_built,
)
from stedi_assets.incremental.reconcile import built_dates, next_runs
from stedi_assets.lakehouse.dates import contiguous_ranges, described
from stedi_assets.landing.events import EventQueue, LandingEvents
from stedi_assets.landing.layout import landed_dates
from stedi_assets.landing.listing import (
    EVERYTHING,
    LandingListing,
    LandingPartition,
    OpenRange,
    list_landing,
)
from stedi_assets.spark.errors import shown_key
from stedi_assets.tables.schemas import LANDING_TABLES, TABLES

SECONDS = 10
NEWEST = 20  # built dates listed in every tick; all others come round within ROUNDS ticks
ROUNDS = 10
WORK_TAG = "stedi/work"
DOES_TAG = "stedi/does"
WAITING = {"stedi/people_wait": "yes"}  # the tag of runs while somebody may have to leave
MAX_PERIODS = 6  # debounce periods that an object waits where others keep landing
MAX_WARNED = 500  # misplaced objects that are named, each once: the cursor remembers them
_LOCATION_TAG, _ASSET_JOB = "dagster/code_location", "__ASSET_JOB"  # of Dagster's own runs
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def ranges_to_list(
    first: date, last: date, built: Collection[date], tick: int, present: Collection[date] = ()
) -> list[OpenRange]:
    """The ingest dates to list in a tick: the newest ones, a tenth of all, and some new ones.

    first, last: the lake's first date and today; built: the dates that the ledger knows; present:
    those that have a folder. New is what is present and not built: it need not wait for its round.
    """
    # Others may have written rows of any date; none outside can have landed.
    days = sorted(day for day in {*built, *present} if first <= day <= last) or [first]
    edges = [days[len(days) * n // ROUNDS] for n in range(ROUNDS)]
    block = tick % ROUNDS
    since = min(days[-NEWEST:][0], last - timedelta(2))
    new = [day for day in days if day not in built][:NEWEST]
    ranges: list[OpenRange] = [
        new_range for new_range in contiguous_ranges(new) if new_range[0] < since
    ]
    if block == ROUNDS - 1:
        return [*ranges, (min(edges[-1], since), None)]
    start, end = edges[block] if block else None, edges[block + 1] - timedelta(1)
    return [*ranges, (start, end), (since, None)]


def listed_in_tick(
    pipeline: Pipeline, tick: int, named: Collection[date] | None = None
) -> LandingListing:
    """What has landed on the ingest dates of a tick.

    named: the dates that S3's events name, where it sends them: just these are listed, so that a
    tick costs the same whatever the lake holds. The daily sweep finds what an event was lost of.
    """
    settings, store = pipeline.settings, pipeline.lakehouse.store
    first, last = settings.first_ingest_date, store.today()
    if named is not None:
        ranges = contiguous_ranges(day for day in named if first <= day <= last)
        return list_landing(store, ranges) if ranges else LandingListing(ranges=())
    folders = landed_dates(store.client, settings.bucket, settings.prefix)
    present = {day for days in folders.values() for day in days if first <= day <= last}
    return list_landing(store, ranges_to_list(first, last, built_dates(pipeline), tick, present))


def received_events(pipeline: Pipeline) -> LandingEvents | None:
    """What waits in STEDI_EVENTS_QUEUE; None where no queue is set."""
    settings = pipeline.settings
    if settings.events_queue is None:
        return None
    return EventQueue(aws_client("sqs", settings.region), settings.events_queue, settings).receive()


def _decided(pipeline: Pipeline, listing: LandingListing, named: Collection[date]) -> list[date]:
    """The named dates of which nothing is left to build: their messages may be deleted."""
    # By a producer's clock that is ahead tomorrow has begun: its messages wait until it has here.
    tomorrow = pipeline.lakehouse.store.today() + timedelta(1)
    waiting = _waiting(pipeline, listing) | {tomorrow}
    return [day for day in named if day not in waiting]


def _waiting(pipeline: Pipeline, listing: LandingListing) -> set[date]:
    """The listed dates that some landing table is to be built for."""
    landing = landing_out_of_date(pipeline.state(with_membership=False), listing)
    return {day for reasons in landing.values() for day in reasons if day}


def wanted_runs(
    pipeline: Pipeline,
    listing: LandingListing,
    waited: Callable[[], bool],
) -> list[dg.RunRequest]:
    """The runs that could be requested next, the first before the others.

    waited: as of `next_runs`.

    What comes after the first is for when its retries are exhausted; last is the job `catch_up`,
    which tries everything: one bad date holds up no other.
    """
    landing = landing_out_of_date(pipeline.state(with_membership=False), listing)
    pending = _pending(pipeline, listing, landing)
    ready: dict[str, Reasons] = {
        name: {day: why for day, why in reasons.items() if day not in pending}
        for name, reasons in landing.items()
    }
    ready = {name: reasons for name, reasons in ready.items() if reasons}
    try:
        state = pipeline.state()
    except StediError:  # a data file may be lost: `catch_up` lists them, a tick does not
        return [_run_request(PlannedRun(), listing, _landing_files(pipeline))]
    # Also while objects keep landing: a withdrawal must not wait for the others to be quiet.
    stale = {**ready, **downstream_out_of_date(state)}
    planned = next_runs(pipeline, stale, waited)
    last = [PlannedRun()] if any(run.days for run in planned) else []
    people = what_was_built(state, stale)
    # With what was not finished: what died is tried in smaller parts the next time.
    attempts = sorted([a.table, *sorted(map(str, a.keys))] for a in pipeline.attempts())
    to_build = _to_build(state, listing, stale) + attempts

    def builds(run: PlannedRun) -> list[list[Any]]:
        return _to_build(state, listing, people) if run.without_new_dates else to_build

    runs = [*planned, *last]
    return [_run_request(run, listing, builds(run), bool(people)) for run in runs]


def _landing_files(pipeline: Pipeline) -> list[list[Any]]:
    """The identities of the landing tables' files: what says who is in."""
    logs = pipeline.state(with_membership=False).logs
    return [[table.name, files_of(logs[table.name], None)] for table in LANDING_TABLES]


def _pending(
    pipeline: Pipeline, listing: LandingListing, landing: Mapping[str, Reasons]
) -> set[date]:
    """The dates that wait until nothing has landed on them for a while."""
    if not landing:
        return set()
    now = pipeline.lakehouse.store.now()
    return {
        day
        for name, reasons in landing.items()
        for day in reasons
        if day and not is_quiet(pipeline, listing, (name.removesuffix("_landing"), day), now)
    }


def is_quiet(
    pipeline: Pipeline, listing: LandingListing, partition: LandingPartition, now: datetime
) -> bool:
    """Whether nothing landed in a partition for STEDI_QUIET_SECONDS, so that it may run.

    Where objects keep landing, one that has waited `MAX_PERIODS` times as long is enough.
    """
    # S3 reports times in whole seconds, rounded down: add one.
    period = timedelta(seconds=pipeline.settings.quiet_seconds)
    landed_before = now + timedelta(seconds=1) - period
    times = [listing.last_modified[o] for o in listing.objects.get(partition, ())]
    if not times or max(times) <= landed_before:
        return True
    entity, day = partition
    ledger = pipeline.state(with_membership=False).ledgers[f"{entity}_landing"]
    entry = ledger.entries.get(day)
    read_until = entry.newest_object if entry else 0.0
    waiting = [t for t in times if t.timestamp() > read_until]
    return bool(waiting) and min(waiting) <= landed_before - (MAX_PERIODS - 1) * period


def _run_request(
    run: PlannedRun,
    listing: LandingListing,
    to_build: list[list[Any]],
    people_wait: bool = False,
) -> dg.RunRequest:
    """The request of a run; its tag names run and content, to count failed attempts."""
    content = hashlib.sha256(f"{run} {_content(run, listing, to_build)}".encode()).hexdigest()
    tags = {WORK_TAG: content[:20], DOES_TAG: str(run), **(WAITING if people_wait else {})}
    arguments = run_arguments(run)
    if run.is_catch_up:
        return dg.RunRequest(job_name=catch_up.name, tags=tags, **arguments)
    tags |= arguments.get("tags", {})
    key = arguments.get("partition_key")
    return dg.RunRequest(job_name=lakehouse.name, partition_key=key, tags=tags)


def _to_build(
    state: LakeState, listing: LandingListing, stale: Mapping[str, Reasons]
) -> list[list[Any]]:
    """Every partition that is out of date, why, and what it would be built from now."""
    found: list[list[Any]] = []
    for name, reasons in stale.items():
        table = TABLES[name]
        landing = table.zone == "landing"
        inputs = listed_inputs(table, listing, state.limits) if landing else inputs_of(state, table)
        found += [[name, str(key), why, inputs.get(key)] for key, why in reasons.items()]
    return sorted(found, key=json.dumps)


def _content(run: PlannedRun, listing: LandingListing, to_build: list[list[Any]]) -> str:
    """What a run would read: the same run over other objects has failed attempts of its own."""
    days = set(run.days)
    objects = [
        (o.key, o.etag)
        for (_, day), objects in sorted(listing.objects.items())
        if day in days
        for o in objects
    ]
    return json.dumps([objects, to_build if run.is_catch_up else []])


def run_in_progress(context: dg.SensorEvaluationContext) -> str | None:
    """The id of an unfinished run that a tick waits for.

    A run of this project that shows no sign of life is marked as failed, whoever started it: it
    would hold up those in Dagster's queue, the sensor's too.
    """
    instance, in_progress = context.instance, None
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if not _is_ours(context, run):
            continue
        queued = run.status is dg.DagsterRunStatus.QUEUED
        if not queued and liveness.is_silent(instance, run):
            context.log.warning(
                f"Run {run.run_id} has emitted no event for {liveness.HEARTBEAT_TIMEOUT};"
                " marking it as failed (its process probably died)."
            )
            instance.report_run_failed(run, "Marked as failed by the landing sensor: no events.")
        elif run.job_name in (lakehouse.name, catch_up.name):
            in_progress = str(run.run_id)
    return in_progress


def _is_ours(context: dg.SensorEvaluationContext, run: dg.DagsterRun) -> bool:
    """Whether a run is of this project: a Dagster may have other code locations."""
    here, there = context.code_location_origin, run.tags.get(_LOCATION_TAG)
    if here and there:  # also of a job that an earlier release had
        return str(here.location_name) == there
    if run.job_name.startswith(_ASSET_JOB):  # every project's has this name
        return any(key in (run.asset_selection or ()) for key in map(dg.AssetKey, TABLES))
    repository = context.repository_def
    return repository is not None and repository.has_job(run.job_name)


@dg.sensor(
    jobs=[lakehouse, catch_up],
    minimum_interval_seconds=SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Runs what new, rewritten and deleted objects, late data and consent ask for.",
)
def landing_sensor(
    context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]
) -> dg.SensorResult:
    """Request the next run, or say why there is none.

    StediError where all runs that are due have failed RUN_ATTEMPTS times.
    """
    number, *warned = (context.cursor or "").split() or ["0"]
    tick = int(number) if number.isdecimal() else 0  # it only says which dates are next
    if run := run_in_progress(context):
        return dg.SensorResult(skip_reason=f"Skipped: run {run[:8]} is in progress.")
    events = received_events(pipeline)
    listing = listed_in_tick(pipeline, tick, events.dates if events else None)
    if events:
        events.acknowledge(_decided(pipeline, listing, events.dates))
    warned += _warn_of_misplaced(context, listing, warned)
    cursor = " ".join([str(tick + 1), *warned])

    waited = functools.partial(_people_waited, context.instance)
    wanted = wanted_runs(pipeline, listing, waited)
    request, given_up = _first_with_retries_left(context, wanted)
    if given_up and not request:
        # A failing tick keeps its cursor: it looks at all dates, so that none is left out.
        everything = list_landing(pipeline.lakehouse.store, EVERYTHING)
        request, given_up = _first_with_retries_left(
            context, wanted_runs(pipeline, everything, waited)
        )
    if request:
        context.log.info(f"Requesting {request.tags[DOES_TAG]}.")
        return dg.SensorResult(run_requests=[request], cursor=cursor)
    if given_up:
        raise StediError(
            f"Gave up on {'; '.join(r.tags[DOES_TAG] for r in given_up)} after {RUN_ATTEMPTS}"
            f" failed runs (tag {WORK_TAG}={', '.join(r.tags[WORK_TAG] for r in given_up)}). It is"
            " retried when its data changes; launch it by hand to retry now."
        )
    return dg.SensorResult(skip_reason=_nothing_to_run(pipeline, listing), cursor=cursor)


def _warn_of_misplaced(
    context: dg.SensorEvaluationContext, listing: LandingListing, warned: Collection[str]
) -> list[str]:
    """Warn of misplaced objects of which nobody was warned; their names as the cursor has them."""
    hashes = {hashlib.sha256(n.encode()).hexdigest()[:8]: n for n in listing.misplaced}
    new = [short for short in hashes if short not in warned][: MAX_WARNED - len(warned)]
    for short in new:
        name = shown_key(hashes[short])
        context.log.warning(f"Ignored, not in an ingest_date= folder with a valid date: {name}")
    return new


def _nothing_to_run(pipeline: Pipeline, listing: LandingListing) -> str:
    if waiting := _waiting(pipeline, listing):
        return f"Objects are still landing on {described(waiting)}: waiting until it is quiet."
    return "All tables are up to date."


def _people_waited(instance: dg.DagsterInstance) -> bool:
    """Whether a run of dates was requested while somebody may have had to leave the tables, and
    none that takes people out came after it."""
    dates = _newest(instance, dg.RunsFilter(job_name=lakehouse.name, tags=WAITING))
    return dates > _newest(instance, dg.RunsFilter(job_name=catch_up.name))


def _newest(instance: dg.DagsterInstance, chosen: dg.RunsFilter) -> int:
    """The number of the newest of some runs; 0 where there is none."""
    return next((run.storage_id for run in instance.get_run_records(chosen, limit=1)), 0)


def _first_with_retries_left(
    context: dg.SensorEvaluationContext, requests: Iterable[dg.RunRequest]
) -> tuple[dg.RunRequest | None, list[dg.RunRequest]]:
    """The first request that did not fail too often the last times, and those before it."""
    given_up: list[dg.RunRequest] = []
    for request in requests:
        same = dg.RunsFilter(tags={WORK_TAG: request.tags[WORK_TAG]})
        last = context.instance.get_runs(same, limit=RUN_ATTEMPTS)
        failed = [run for run in last if run.status is dg.DagsterRunStatus.FAILURE]
        if len(failed) < RUN_ATTEMPTS:
            return request, given_up
        given_up.append(request)
    return None, given_up
