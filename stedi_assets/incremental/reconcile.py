"""Brings the tables up to date: `build_out_of_date` in one go, `catch_up` by runs that it plans.

A failure does not stop the rest: everything else is built, then the failures are reported.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from enum import IntEnum
from functools import partial

from stedi_assets.errors import StediError
from stedi_assets.incremental.ledger import Ledger, PartitionKey
from stedi_assets.incremental.partition_inputs import LakeState
from stedi_assets.incremental.pipeline import InputsChangedError, Pipeline
from stedi_assets.incremental.planner import (
    PlannedRun,
    Reasons,
    RecordedRuns,
    downstream_out_of_date,
    holds_rows,
    in_order,
    landing_out_of_date,
    may_hold_people,
    out_of_date,
    plan_runs,
    was_built,
    what_was_built,
    with_other_readings,
)
from stedi_assets.lakehouse.dates import described
from stedi_assets.lakehouse.delta_log import THREADS, TableLog
from stedi_assets.landing.listing import LandingListing, list_landing
from stedi_assets.settings import today
from stedi_assets.spark.errors import error_line, redact_engine_errors, shown_key
from stedi_assets.tables.schemas import BUILD_ORDER, LANDING_TABLES, TABLES, Table

WRITE_ATTEMPTS = 3


class NotRecordedError(StediError):
    """Dagster's database takes no run of dates: nothing would say that a process died on it."""


class Turn(IntEnum):
    """When a partition is built: all tables' of a turn, and of those before, then the next.

    LEFT_OVER: it holds rows of other readings than are there now, by a run that was interrupted.
    """

    HOLDS_ROWS = 1
    LEFT_OVER = 2
    LATE_OR_EMPTY = 3
    NEW = 4


TurnOf = Callable[[LakeState, Table, PartitionKey], Turn]
# A lake is up to date after a few rounds, unless data arrives as fast as it is processed.
MAX_ROUNDS = 50


@dataclass(frozen=True)
class BuiltTable:
    """What was written of one table: which partitions, why, its log and ledger after and before.

    ledger: None for the newest; log_before, ledger_before: None where nothing was written.
    """

    table: Table
    reasons: Reasons
    log: TableLog
    ledger: Ledger | None = None
    log_before: TableLog | None = None
    ledger_before: Ledger | None = None


@dataclass
class BuildResult:
    """What was built, what it could not do (a line for each), and later turns that have work."""

    built: list[BuiltTable] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    waiting: set[Turn] = field(default_factory=set)


def build(pipeline: Pipeline, table: Table, days: Collection[date] | None, run_id: str) -> TableLog:
    """Build dates of a table (None: all of it) from what is upstream now.

    StediError where the engine or S3 fails, or others write the same all the time.
    """
    scope = f" for {described(days)}" if days else ""
    for attempt in range(1, WRITE_ATTEMPTS + 1):
        with redact_engine_errors(f"Building {table.name}{scope}"):
            try:
                return pipeline.write(table, days, pipeline.read_and_compute(table, days), run_id)
            except InputsChangedError:
                if attempt == WRITE_ATTEMPTS:
                    raise
    raise AssertionError("the last attempt returns or raises")


def build_out_of_date(
    pipeline: Pipeline,
    run_id: str = "",
    say: Callable[[str], None] = lambda _line: None,
    without_new_dates: bool = False,
) -> BuildResult:
    """Build whatever is out of date, table by table, each table in one commit, people first.

    say: takes a line about what is built and why; without_new_dates: just what was built before.
    What could not be built is in the result; StediError where S3 or the engine does not answer.
    """
    listing = _refreshed(pipeline, verify_files=True)
    state = pipeline.state(with_membership=False)
    turn_of = _turns(state, listing)
    turns = list(Turn)[:-1] if holds_rows(state) else []
    turns.append(Turn.LATE_OR_EMPTY if without_new_dates else Turn.NEW)
    result = BuildResult(waiting={turns[0]})
    for number, turn in enumerate(turns, 1):
        try_again = number == len(turns) and result.failures
        if turn in result.waiting or try_again:
            done = _build_tables(pipeline, listing, run_id, say, turn_of, turn)
            result = replace(done, built=result.built + done.built)
    return result


def _turns(state: LakeState, listing: LandingListing) -> TurnOf:
    """A function that gives a partition's turn.

    A date that takes hours, or on which the process dies each time, keeps nobody in the others who
    withdrew: what has late objects comes after what may hold people, new dates last.
    """
    other = with_other_readings(state, listing)
    late = {day for table in LANDING_TABLES for day in other.get(table.name, ())}

    def turn_of(state: LakeState, table: Table, key: PartitionKey) -> Turn:
        if not was_built(state, table, key):
            return Turn.NEW
        if not may_hold_people(state, table, key):
            return Turn.LATE_OR_EMPTY
        if key not in other.get(table.name, ()):
            return Turn.HOLDS_ROWS
        return Turn.LATE_OR_EMPTY if key in late else Turn.LEFT_OVER

    return turn_of


def _build_tables(
    pipeline: Pipeline,
    listing: LandingListing,
    run_id: str,
    say: Callable[[str], None],
    turn_of: TurnOf,
    turn: Turn,
) -> BuildResult:
    """Build the partitions that are out of date, of a turn and those before, table by table."""
    result = BuildResult()
    for name in BUILD_ORDER:
        table = TABLES[name]
        try:
            state = pipeline.state(with_membership=table.zone != "landing")
        except StediError as error:
            assert_all_answer(pipeline)
            result.failures.append(f"{name}: {error}")
            result.waiting.update(Turn)  # not known
            continue
        all_reasons = out_of_date(state, table, listing)
        turns = {key: turn_of(state, table, key) for key in all_reasons}
        reasons = {key: why for key, why in all_reasons.items() if turns[key] <= turn}
        result.waiting.update(later for later in turns.values() if later > turn)
        if reasons:
            say(f"{name}: building {_described(reasons)}")
            _build_what_can_be(pipeline, table, reasons, run_id, result)
    return result


def _described(reasons: Reasons) -> str:
    """Which partitions, and how many of them for which reason."""
    days = [day for day in reasons if day]
    counts = {why: list(reasons.values()).count(why) for why in sorted(set(reasons.values()))}
    why = "; ".join(f"{reason} ({count})" if days else reason for reason, count in counts.items())
    return f"{described(days) if days else 'it'}: {why}"


def _build_what_can_be(
    pipeline: Pipeline, table: Table, reasons: Reasons, run_id: str, result: BuildResult
) -> None:
    """Build all partitions at once; where that fails, each by itself."""
    before = pipeline.lakehouse.log(table), pipeline.ledger(table)
    days = sorted(day for day in reasons if day)
    groups: list[list[date]] = [days]
    while groups:
        group = groups.pop(0)
        try:
            log = build(pipeline, table, group or None, run_id)
        except Exception as error:  # whatever it is, it holds up no other date, nor privacy
            assert_all_answer(pipeline)
            if len(group) > 1:
                groups = [[day] for day in group] + groups
            else:
                line = f"{table.name} {described(group)}: {error_line(error)}"
                result.failures.append(line.strip())
        else:
            keys: list[PartitionKey] = [*group] or [None]
            why = {key: reasons[key] for key in keys}
            result.built.append(BuiltTable(table, why, log, pipeline.ledger(table), *before))


def assert_all_answer(pipeline: Pipeline) -> None:
    """StediError where S3 or the engine does not answer: then everything else would fail too."""
    pipeline.lakehouse.store.now()
    _ = pipeline.lakehouse.spark_session


def find_out_of_date(
    pipeline: Pipeline, *, verify_files: bool = True
) -> tuple[dict[str, Reasons], LandingListing]:
    """What is out of date now, by table, and what has landed.

    Where it cannot be said who is in (a data file of a landing table may be lost) while something
    of that zone is out of date, `customer_trusted` stands for the tables past it: what there is to
    do about them the next run finds, or says why it cannot.
    """
    listing = _refreshed(pipeline, verify_files=verify_files)
    stale = landing_out_of_date(pipeline.state(with_membership=False), listing)
    try:
        state = pipeline.state()
    except StediError:
        if not stale:
            raise
        return stale | {"customer_trusted": {None: "who is in is not known"}}, listing
    return stale | downstream_out_of_date(state), listing


def _refreshed(pipeline: Pipeline, verify_files: bool) -> LandingListing:
    """Read the lake's state anew; what has landed.

    S3 is asked again for the objects that it refused when they were read.
    """
    store = pipeline.lakehouse.store
    with ThreadPoolExecutor(1) as pool:  # both wait for S3
        listed = pool.submit(list_landing, store)
        pipeline.refresh(verify_files=verify_files)
    listing = listed.result()
    refused = [
        ((table.entity.name, day), landed_object.key)
        for table in LANDING_TABLES
        if table.entity
        for day, entry in pipeline.ledger(table).entries.items()
        if day and entry.refused
        for landed_object in listing.objects.get((table.entity.name, day), ())
        if entry.lacks(landed_object.key)
    ]

    def is_given(key: str) -> bool:
        try:
            store.get_range(key, 0, 1)
        except StediError:  # refused still, or not sure: asked again next time
            return False
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        given = pool.map(is_given, [key for _, key in refused])
        again = {partition for (partition, _), is_so in zip(refused, given, strict=True) if is_so}
    return replace(listing, given_again=frozenset(again))


def built_dates(pipeline: Pipeline, tables: Collection[Table] = LANDING_TABLES) -> set[date]:
    """The ingest dates that some of the tables has files or, in its ledger, an entry of."""
    state = pipeline.state(with_membership=False)
    days: set[PartitionKey] = set()
    for table in tables:
        log = state.logs[table.name]
        days.update(state.ledgers[table.name].entries, log.by_date if log else ())
    return {day for day in days if day}


def next_runs(
    pipeline: Pipeline,
    stale: Mapping[str, Reasons],
    recorded: RecordedRuns,
    waited: Callable[[], bool],
    left: Collection[date] = (),
) -> list[PlannedRun]:
    """The runs to do next for what is out of date, in order (`in_order`).

    waited: asked where somebody may have to leave: whether dates went first the last time already,
    as they would for ever while they keep landing. left: as of `plan_runs`.
    """
    readings = [table for table in LANDING_TABLES if table.name != "customer_landing"]
    state = pipeline.state(with_membership=False)
    people_first: Collection[date] = ()
    if what_was_built(state, stale):
        every = {day for reasons in stale.values() for day in reasons if day}
        people_first = every if waited() else recorded.dates_that_failed
    planned = plan_runs(
        stale,
        built_dates(pipeline, readings),
        people_first=people_first,
        left=left,
        outside=_dates_outside(pipeline, stale),
    )
    return in_order(planned, recorded)


def _dates_outside(pipeline: Pipeline, stale: Mapping[str, Reasons]) -> set[date]:
    """The dates that are out of date and outside the partition range: somebody else wrote them."""
    first, last = pipeline.settings.first_ingest_date, today()
    days = {day for reasons in stale.values() for day in reasons if day}
    return {day for day in days if not first <= day <= last}


def _landing_partitions(stale: Mapping[str, Reasons]) -> set[tuple[str, date]]:
    """The partitions of landing tables that are out of date."""
    landing = {table.name for table in LANDING_TABLES}
    return {(name, day) for name in landing.intersection(stale) for day in stale[name] if day}


def catch_up_without_new_dates(
    pipeline: Pipeline, run: Callable[[PlannedRun], None], say: Callable[[str], None]
) -> None:
    """Do the run that brings up to date what was built before, if any of it is not.

    It is what erasure needs: new dates are left alone, so that one on which the process dies each
    time holds up none. Arguments as of `catch_up`; StediError where some of it failed.
    """
    stale, _ = find_out_of_date(pipeline)
    if what_was_built(pipeline.state(with_membership=False), stale):
        planned = PlannedRun(without_new_dates=True)
        say(f"Running {planned} …")
        run(planned)


def catch_up(
    pipeline: Pipeline,
    run: Callable[[PlannedRun], None],
    say: Callable[[str], None],
    recorded_runs: Callable[[], RecordedRuns | None] = RecordedRuns,
) -> int:
    """Plan and do runs until the tables equal what has landed; how many runs it took.

    run: does a run; StediError where it failed, NotRecordedError where it does none of dates. say:
    takes lines for a person. recorded_runs: gives what is known of earlier runs; None where none is
    recorded: then all is left to the job `catch_up`, which takes out who withdrew before it tries
    new dates. StediError, after all is done, where runs failed.
    """
    runs, failed, were_dates, landed = 0, dict[PlannedRun, str](), False, set[tuple[str, date]]()
    again = set[PlannedRun]()  # those of the failed runs that have something else to do now
    stale, listing = find_out_of_date(pipeline)
    for _ in range(MAX_ROUNDS):
        if not landed.issuperset(now := _landing_partitions(stale)):
            again.update(planned_run for planned_run in failed if planned_run.is_catch_up)
        landed = now
        planned = [PlannedRun()] if stale else []
        if stale and (recorded := recorded_runs()) is not None:
            given_up = {run.start for run in failed if run.start and run.start == run.end}
            planned = next_runs(pipeline, stale, recorded, partial(bool, were_dates), given_up)
        planned = [p for p in planned if p not in failed or p in again]
        if not planned:
            break
        were_dates = not planned[-1].is_catch_up
        while planned:
            planned_run = planned.pop(0)
            again.discard(planned_run)
            say(f"Running {planned_run} …")
            runs += 1
            try:
                run(planned_run)
            except NotRecordedError:
                recorded_runs, planned, runs = (lambda: None), [], runs - 1
            except StediError as error:
                assert_all_answer(pipeline)
                if len(planned_run.days) > 1:
                    planned = [PlannedRun(day, day) for day in planned_run.days] + planned
                else:
                    failed[planned_run] = str(error)
            else:
                catch_ups = {failed_run for failed_run in failed if failed_run.is_catch_up}
                if planned_run == PlannedRun():  # it did all that they had to do
                    failed = {r: line for r, line in failed.items() if r not in catch_ups}
                elif not planned_run.is_catch_up:
                    again |= catch_ups
        stale, listing = find_out_of_date(pipeline, verify_files=False)
    else:
        left = "; ".join(f"{name} {_described(reasons)}" for name, reasons in stale.items())
        raise StediError(
            f"Still out of date after {MAX_ROUNDS} rounds, perhaps since data lands faster than"
            f" it is processed: {left}. Run `stedi catch-up` again."
        )
    for name in listing.misplaced:
        say(f"Ignored, not in an ingest_date= folder with a valid date: {shown_key(name)}")
    for line in failed.values():
        say(line)
    if failed:
        count = f"{len(failed)} runs" if len(failed) > 1 else "1 run"
        raise StediError(
            f"{count} failed (listed above); everything else is done. Fix the cause and run `stedi"
            " catch-up` again."
        )
    return runs
