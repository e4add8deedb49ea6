"""Follows S3 by itself: a sensor that looks, asks `decision.py`, and requests the next run.

One run at a time: a run reads what the one before it wrote, and no date is written twice at once.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import date, timedelta
from email.utils import parsedate_to_datetime

import dagster as dg

from stedi_assets import ledger, observation, stale
from stedi_assets.catch_up import ATTEMPTS, RANGE_TAGS
from stedi_assets.decision import Partition, Work, what_must_run
from stedi_assets.io_manager import DeltaIOManager
from stedi_assets.lake import Lake, is_data
from stedi_assets.membership import Membership
from stedi_assets.schemas import ENTITIES, TABLES
from stedi_assets.settings import StediError

SECONDS = 10
NEWEST = 20  # ingest dates looked at in every tick; the others come round within ROUNDS ticks
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


def dates_to_look_at(days: Sequence[date], tick: int) -> list[date]:
    """The newest dates, and of the others every `ROUNDS`-th, another one with every tick."""
    newest_first = sorted(days, reverse=True)
    older = newest_first[NEWEST:]
    return sorted(newest_first[:NEWEST] + older[tick % ROUNDS :: ROUNDS])


def partitions_to_look_at(lake: Lake, tick: int) -> tuple[list[Partition], list[str]]:
    """Landing partitions to list in a tick, and objects that lie in no valid date's folder."""
    partitions: list[Partition] = []
    misplaced: list[str] = []
    for entity in ENTITIES:
        prefix = f"landing/{entity}/"
        folders, strays = lake.children(prefix)
        days = {name: observation.landed_day(lake, name) for name in folders}
        known = set(ledger.days(lake, entity)) | {d for d in days.values() if d}
        partitions += [(entity, day) for day in dates_to_look_at(sorted(known), tick)]
        misplaced += [prefix + stray for stray in strays if is_data(stray)]
        for name, day in days.items():
            if day is None:
                misplaced += [found["Key"] for found in lake.objects(f"{prefix}{name}/")]
    return partitions, misplaced


def is_quiet(lake: Lake, partition: Partition) -> bool:
    """Whether nothing landed in a partition for the quiet period, by S3's own clock."""
    entity, day = partition
    answer = lake.client.list_objects_v2(
        Bucket=lake.settings.bucket,
        Prefix=lake.settings.key(f"landing/{entity}/ingest_date={day}/"),
    )
    now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    newest = max((found["LastModified"] for found in answer.get("Contents", ())), default=now)
    quiet = timedelta(seconds=lake.settings.quiet_seconds)
    return not answer.get("Contents") or now - newest >= quiet


def run_request(work: Work, content: str) -> dg.RunRequest:
    """The run that does a work; its tag names work and content, to count failed attempts."""
    tags = {WORK_TAG: hashlib.sha256(f"{work} {content}".encode()).hexdigest()[:20]}
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
    partitions, misplaced = partitions_to_look_at(lake, tick)
    listing = observation.list_partitions(lake, partitions)
    changed = observation.changed(lake, listing)
    quiet = {partition for partition in changed if is_quiet(lake, partition)}
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
