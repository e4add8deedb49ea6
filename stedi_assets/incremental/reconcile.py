"""Brings the tables up to date: `build_out_of_date` in one go, `catch_up` by runs that it plans.

A failure does not stop the rest: everything else is built, then the failures are reported.
"""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

from stedi_assets.errors import StediError
from stedi_assets.incremental.attempts import Attempt
from stedi_assets.incremental.empty import empty
from stedi_assets.incremental.ledger import Ledger, PartitionKey
from stedi_assets.incremental.partition_inputs import LakeState
from stedi_assets.incremental.pipeline import InputsChangedError, Pipeline
from stedi_assets.incremental.planner import (
    PlannedRun,
    Reasons,
    downstream_out_of_date,
    holds_rows,
    landing_out_of_date,
    out_of_date,
    plan_runs,
    was_built,
    what_was_built,
)
from stedi_assets.lakehouse.dates import described
from stedi_assets.lakehouse.delta_log import THREADS, TableLog
from stedi_assets.landing.listing import LandingListing, list_landing
from stedi_assets.settings import today
from stedi_assets.spark.errors import error_line, redact_engine_errors, shown_key
from stedi_assets.tables.schemas import (
    BUILD_ORDER,
    LANDING_TABLES,
    TABLES,
    TABLES_OF_PEOPLE,
    Table,
    tables_of_people,
)

WRITE_ATTEMPTS = 3
# What was begun less often and not finished may just have been interrupted.
_MANY_TRIES = 2


# Whether a partition of a table is to be built now.
Choice = Callable[[LakeState, Table, PartitionKey], bool]
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
    """What was built, what could not be (a line for each), and whether more is out of date.

    emptied: partitions, with their table, that are empty until they are built, since who withdrew
    may have been in them.
    """

    built: list[BuiltTable] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    emptied: set[tuple[str, PartitionKey]] = field(default_factory=set)
    some_wait: bool = False

    @property
    def warnings(self) -> list[str]:
        """What is empty until it is built, a line a table."""
        lines = []
        for name in sorted({name for name, _ in self.emptied}):
            days = described([key for of, key in self.emptied if of == name and key])
            lines.append(
                f"{f'{name} {days}'.rstrip()} was emptied: it could not be built, and other people"
                " are in now than its rows were of. `stedi catch-up` builds it when it can."
            )
        return lines


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
    """Build whatever is out of date, table by table, each table in one commit.

    What was built before comes first, then new dates, and last what was begun before and not
    finished, in parts: where the process dies on it again, it holds up nothing else. Where somebody
    who withdrew may be in what is not built, it is emptied until it is: what failed twice here, and
    what was begun twice before, or once with `without_new_dates`.

    say: takes a line about what is built and why; without_new_dates: as of `PlannedRun`. What could
    not be built is in the result; StediError where S3 or the engine does not answer.
    """
    listing = _refreshed(pipeline, verify_files=True)
    unfinished = [attempt for attempt in pipeline.attempts() if _is_put_off(attempt)]
    tried_again = [a for a in unfinished if not without_new_dates or _may_say_who_withdrew(a)]
    put_off = {(attempt.table, key) for attempt in unfinished for key in attempt.keys}
    left_out = put_off - {(attempt.table, key) for attempt in tried_again for key in attempt.keys}
    tried = [a for a in unfinished if without_new_dates or a.tries >= _MANY_TRIES]
    begun_often = {(attempt.table, key) for attempt in tried for key in attempt.keys}
    builder = _Builder(pipeline, listing, run_id, say, begun_often)
    if has_rows := holds_rows(pipeline.state(with_membership=False)):
        builder.go_through(_all_but(put_off, built_before=True))
    if not without_new_dates and (builder.result.some_wait or not has_rows):
        builder.go_through(_all_but(put_off))
    before = len(builder.result.built)
    for attempt in tried_again:
        for half in attempt.halves:
            builder.go_through(partial(_is_among, half), attempt.table)
    # What failed may have needed what came later.
    if builder.failed or len(builder.result.built) > before:
        builder.go_through(_all_but(left_out, built_before=without_new_dates), last=True)
    result = builder.result
    if left_out:
        result.failures += _customers_left_out(pipeline, listing, left_out)
    return result


def _is_put_off(attempt: Attempt) -> bool:
    """Whether what was not finished is built last: a table of people, for which others wait, only
    from the second try on."""
    return attempt.table not in TABLES_OF_PEOPLE or attempt.tries >= _MANY_TRIES


def _may_say_who_withdrew(attempt: Attempt) -> bool:
    """Whether it is of customers' dates, and not of a single one that was tried too often.

    Where the process dies on one each time, erasure is to go on without.
    """
    often = len(attempt.keys) == 1 and attempt.tries >= _MANY_TRIES
    return attempt.table == "customer_landing" and not often


def _customers_left_out(
    pipeline: Pipeline, listing: LandingListing, left_out: Collection[tuple[str, PartitionKey]]
) -> list[str]:
    """A line for each of customers' dates that is out of date and left out."""
    customers = TABLES["customer_landing"]
    stale = out_of_date(pipeline.state(with_membership=False), customers, listing)
    return [
        f"{customers.name} {key} was left out: it was begun {_MANY_TRIES} times or more and not"
        " finished. Who withdrew by its records is still in; `stedi catch-up` tries it again."
        for key in stale
        if (customers.name, key) in left_out
    ]


def _all_but(
    left_out: Collection[tuple[str, PartitionKey]], *, built_before: bool = False
) -> Choice:
    """Chooses every partition but some; built_before: of those that were built before."""

    def is_chosen(state: LakeState, table: Table, key: PartitionKey) -> bool:
        is_in = (table.name, key) not in left_out
        return is_in and (not built_before or was_built(state, table, key))

    return is_chosen


def _is_among(
    keys: Collection[PartitionKey], _state: LakeState, _table: Table, key: PartitionKey
) -> bool:
    return key in keys


@dataclass
class _Builder:
    """Builds the partitions that are out of date and chosen, table by table.

    listing, run_id, say: as of `build_out_of_date`; begun_often: partitions, with their table, that
    are emptied where they are not chosen and may hold who withdrew; result: what was built and
    emptied in all, and the rest of the last time; failed: whether anything ever did; behind: tables
    of people that were to be built and were not.
    """

    pipeline: Pipeline
    listing: LandingListing
    run_id: str
    say: Callable[[str], None]
    begun_often: Collection[tuple[str, PartitionKey]]
    result: BuildResult = field(default_factory=BuildResult)
    failed: bool = False
    behind: set[str] = field(default_factory=set)

    def go_through(self, is_chosen: Choice, only: str | None = None, last: bool = False) -> None:
        """Build chosen partitions of all tables, and empty others; or build of one table only.

        last: what fails, and what waits for it, is not tried again, but emptied.
        """
        self.result = BuildResult(self.result.built, emptied=self.result.emptied)
        for name in [only] if only else BUILD_ORDER:
            table = TABLES[name]
            try:
                state = self.pipeline.state(with_membership=table.zone != "landing")
            except StediError as error:
                assert_all_answer(self.pipeline)
                self.result.failures.append(f"{name}: {error}")
                self.result.some_wait = True  # not known
                continue
            stale = out_of_date(state, table, self.listing)
            self.pipeline.end_attempts(table, stale)
            # Who was in when a table of people was built need not be in now.
            waits = self.behind & tables_of_people(table)
            chosen = (k for k in stale if not waits and is_chosen(state, table, k))
            reasons = {key: stale[key] for key in chosen}
            self.result.some_wait |= reasons != stale
            if not only:
                left = stale.keys() - reasons.keys()
                if not (waits and (last or waits & {one for one, _ in self.begun_often})):
                    left = {key for key in left if (name, key) in self.begun_often}
                self._empty(table, left)
            if reasons:
                self.say(f"{name}: building {_described(reasons)}")
            if self._build(table, reasons, last) == stale.keys():
                self.behind.discard(name)
            elif name in TABLES_OF_PEOPLE:
                self.behind.add(name)
        self.failed |= bool(self.result.failures)

    def _build(self, table: Table, reasons: Reasons, last: bool) -> set[PartitionKey]:
        """Build all partitions at once; where that fails, each by itself; which were built."""
        pipeline = self.pipeline
        before = pipeline.lakehouse.log(table), pipeline.ledger(table)
        days = sorted(day for day in reasons if day)
        groups: list[list[date]] = [days] if reasons else []
        done = set[PartitionKey]()
        while groups:
            group = groups.pop(0)
            try:
                log = build(pipeline, table, group or None, self.run_id)
            except Exception as error:  # whatever it is, it holds up no other date, nor privacy
                assert_all_answer(pipeline)
                if len(group) > 1:
                    groups = [[day] for day in group] + groups
                else:
                    line = f"{table.name} {described(group)}: {error_line(error)}"
                    self.result.failures.append(line.strip())
                    if last:
                        self._empty(table, [*group] or [None])
            else:
                keys: list[PartitionKey] = [*group] or [None]
                why = {key: reasons[key] for key in keys}
                ledger = pipeline.ledger(table)
                self.result.built.append(BuiltTable(table, why, log, ledger, *before))
                self.result.emptied.difference_update((table.name, key) for key in keys)
                done.update(keys)
        return done

    def _empty(self, table: Table, keys: Collection[PartitionKey]) -> None:
        """Empty partitions, of a table past the landing zone, where who withdrew may be in them."""
        if table.zone == "landing" or not keys:
            return
        try:
            emptied = empty(self.pipeline, table, keys)
        except StediError as error:
            assert_all_answer(self.pipeline)
            self.result.failures.append(str(error))
            return
        if emptied:
            days = described([key for key in emptied if key])
            self.say(f"{table.name}: emptied {days or 'it'} until it is built")
            self.result.emptied.update((table.name, key) for key in emptied)


def _described(reasons: Reasons) -> str:
    """Which partitions, and how many of them for which reason."""
    days = [day for day in reasons if day]
    counts = {why: list(reasons.values()).count(why) for why in sorted(set(reasons.values()))}
    why = "; ".join(f"{reason} ({count})" if days else reason for reason, count in counts.items())
    return f"{described(days) if days else 'it'}: {why}"


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
    waited: Callable[[], bool],
    left: Collection[date] = (),
) -> list[PlannedRun]:
    """The runs to do next for what is out of date, in order.

    waited: asked where somebody may have to leave: whether dates went first the last time already,
    as they would for ever while they keep landing. left: as of `plan_runs`, besides the unfinished.
    """
    readings = [table for table in LANDING_TABLES if table.name != "customer_landing"]
    people_wait = bool(what_was_built(pipeline.state(with_membership=False), stale))
    return plan_runs(
        stale,
        built_dates(pipeline, readings),
        people_first=people_wait and waited(),
        left={*left, *_unfinished_dates(pipeline)},
        outside=_dates_outside(pipeline, stale),
    )


def _unfinished_dates(pipeline: Pipeline) -> set[date]:
    """The dates of which a partition of some table was begun and not finished."""
    return {key for attempt in pipeline.attempts() for key in attempt.keys if key}


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
    """Do the run that takes out who withdrew, if anything that was built is out of date.

    It is what erasure needs: neither new dates nor what was begun before and not finished hold it
    up. Arguments as of `catch_up`; StediError where some of it failed.
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
    with_runs_of_dates: bool = True,
) -> int:
    """Plan and do runs until the tables equal what has landed; how many runs it took.

    run: does a run; StediError where it failed. say: takes lines for a person. with_runs_of_dates:
    whether somebody can look at runs; else one of the job `catch_up` does it all. StediError, after
    all is done, where runs failed.
    """
    runs, failed, were_dates, landed = 0, dict[PlannedRun, str](), False, set[tuple[str, date]]()
    again = set[PlannedRun]()  # those of the failed runs that have something else to do now
    stale, listing = find_out_of_date(pipeline)
    for _ in range(MAX_ROUNDS):
        if not landed.issuperset(now := _landing_partitions(stale)):
            again.update(planned_run for planned_run in failed if planned_run.is_catch_up)
        landed = now
        planned = [PlannedRun()] if stale else []
        if stale and with_runs_of_dates:
            given_up = {day for planned_run in failed for day in planned_run.days}
            planned = next_runs(pipeline, stale, partial(bool, were_dates), given_up)
        planned = [p for p in planned if p not in failed or p in again]
        if not planned:
            break
        were_dates = not planned[-1].is_catch_up
        for planned_run in planned:
            again.discard(planned_run)
            say(f"Running {planned_run} …")
            runs += 1
            try:
                run(planned_run)
            except StediError as error:
                assert_all_answer(pipeline)
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
