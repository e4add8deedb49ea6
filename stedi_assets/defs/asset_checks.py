"""Asset checks: statements that are true when they pass, each one pass over what the run wrote.

They put counts into the event log, never a row.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from pyspark.sql import functions as F

from stedi_assets.defs.io_managers import Dates, DeltaIOManager
from stedi_assets.incremental import change_detection as observation
from stedi_assets.incremental import ledger
from stedi_assets.incremental.reconcile import RANGE_TAGS
from stedi_assets.incremental.rollups import CURRENT_RECORDS, summarized
from stedi_assets.settings import today
from stedi_assets.spark.errors import redact_engine_errors
from stedi_assets.tables.rules import (
    consents,
    current_records,
    devices_with_one_owner,
    normalized_email,
    normalized_serial_number,
    subject_id,
    well_formed,
)
from stedi_assets.tables.schemas import ENTITIES, TABLES, Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def dates_of_run(tags: Any) -> Dates | None:
    """The ingest dates that a run writes, from its tags; None: it has none, check everything."""
    if "dagster/partition" in tags:
        day = date.fromisoformat(tags["dagster/partition"])
        return Dates(day, day)
    if RANGE_TAGS[0] in tags:
        return Dates(*(date.fromisoformat(tags[tag]) for tag in RANGE_TAGS))
    return None


def _rows(io: DeltaIOManager, table: Table, dates: Dates | None) -> "DataFrame":
    return io.read(table, dates.predicate if dates and table.partitioned else None)


@dataclass(frozen=True)
class Outcome:
    """Whether a check passed, how bad it is where it did not, and the counts to show."""

    passed: bool
    severity: dg.AssetCheckSeverity
    counts: dict[str, int | float]


def _result(passed: bool, severity: dg.AssetCheckSeverity, **counts: int | float) -> Outcome:
    return Outcome(passed, severity, counts)


def rows_meet_the_contract(io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    """Required columns are there, keys unique, numbers finite, dates the lake's.

    A malformed row has its text and nothing else.
    """
    rows = _rows(io, table, dates)
    entity = ENTITIES.get(table.name.removesuffix("_landing"))
    if entity:
        required = sorted(entity.required)
        fields = [c.name for c in entity.fields]
        corrupt = F.col("_corrupt_record").isNotNull()
        wrong = F.when(corrupt, _any([F.col(f).isNotNull() for f in fields])).otherwise(
            _any([F.col(name).isNull() for name in required] + _out_of_range(io, table))
        )
        found = rows.agg(F.count(F.when(wrong, 1)).alias("wrong")).collect()[0]
        return _result(found.wrong == 0, ERROR, rows_that_break_it=found.wrong)
    required = list(table.keys) or table.column_names
    empty = [F.col(name).isNull() for name in [*required, "ingest_date"]]
    wrong = _any(empty + _out_of_range(io, table))
    if not table.keys:
        found = rows.agg(F.count(F.when(wrong, 1)).alias("wrong")).collect()[0]
        return _result(found.wrong == 0, ERROR, rows_that_break_it=found.wrong)
    hashes = _hash(table)
    found = rows.agg(
        F.count("*").alias("rows"),
        F.countDistinct(hashes).alias("hashes"),
        F.count(F.when(wrong, 1)).alias("wrong"),
    ).collect()[0]
    repeated = 0
    if found.hashes < found.rows:  # keys repeat, or only their hashes do
        several = rows.groupBy(*table.keys).agg(F.count("*").alias("n")).where("n > 1")
        repeated = several.count()
    return _result(
        found.wrong + repeated == 0,
        ERROR,
        rows_that_break_it=found.wrong,
        keys_that_repeat=repeated,
    )


def _hash(table: Table) -> Any:
    """64 bits of a row's key: a third of the time of grouping by the key, and little memory."""
    return F.xxhash64(*table.keys)


def _out_of_range(io: DeltaIOManager, table: Table) -> list[Any]:
    """Conditions that no row meets: a number that is none, a date on which nothing can land."""
    numbers = [F.col(c.name) for c in table.columns if c.type == "double"]
    first = F.lit(io.lake.settings.first_ingest_date.isoformat()).cast("date")
    last = F.lit(today().isoformat()).cast("date")
    return [
        *(F.isnan(number) | (F.abs(number) == float("inf")) for number in numbers),
        ~F.col("ingest_date").between(first, last),
    ]


def _any(conditions: list[Any]) -> Any:
    whole = F.lit(False)
    for condition in conditions:
        whole = whole | condition
    return whole


def only_consenting_customers(io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    """Every row is of a customer whose current record consents, as the tables upstream say."""
    count = _rows(io, table, dates).join(*_members(io, table)).count()
    return _result(count == 0, ERROR, rows_of_others=count)


def _members(io: DeltaIOManager, table: Table) -> tuple["DataFrame", str, str]:
    """Whom a table's rows may be of, as the arguments of an anti join."""
    trusted, curated = TABLES["customer_trusted"], TABLES["customers_curated"]
    if table.name == "customer_trusted":
        current = current_records(summarized(io, CURRENT_RECORDS))
        members = current.where(consents()).select("email")
    elif table.name == "accelerometer_trusted":
        members = io.read(trusted).select(F.col("email").alias("user"))
    elif table.name == "customers_curated":
        members = io.read(trusted).select("email")
    elif table.name == "step_trainer_trusted":
        members = _owned_devices(io).select("serialNumber")
    else:
        members = io.read(curated).select(subject_id("email").alias("subject_id"))
    return members, members.columns[0], "left_anti"


def every_object_is_accounted_for(io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    """Every listed object is in the ledger with its etag, and its records add up to the rows."""
    entity = table.name.removesuffix("_landing")
    span = (dates.start, dates.end) if dates else (None, None)
    one_day = dates.start if dates and dates.start == dates.end else None
    known = ledger.built(io.lake, entity, one_day)
    listing = observation.look(io.lake, [span], [entity], known)
    log = io.lake.log(table)
    files = log.of(*span) if log else []
    paths: dict[date | None, list[str]] = {}
    for file in files:
        paths.setdefault(file.ingest_date, []).append(file.path)
    missing = records = 0
    for partition, objects in listing.objects.items():
        made = ledger.fingerprint(paths.get(partition[1], []))
        named = [built for built in listing.ledger.get(partition, ()) if built.files == made]
        entry = ledger.entry(io.lake, partition, named[0]) if named else None
        missing += len(set(objects) - set(entry.objects if entry else ()))
        records += entry.records if entry else 0
    rows = sum(f.rows for f in files)
    return _result(
        missing == 0 and rows == records, WARN, objects_missing=missing, rows=rows, records=records
    )


def few_records_are_malformed(io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    """The share of malformed records is at most STEDI_MAX_MALFORMED_SHARE."""
    log = io.lake.log(table)
    files = (log.of(dates.start, dates.end) if dates else log.files) if log else ()
    rows, malformed = sum(f.rows for f in files), sum(f.malformed for f in files)
    share = malformed / rows if rows else 0.0
    most = io.lake.settings.max_malformed_share
    return _result(share <= most, WARN, malformed=malformed, share=share, at_most=most)


def newest_ingest_date_is_recent(io: DeltaIOManager, table: Table, _dates: Dates | None) -> Outcome:
    """The newest ingest date with rows is at most STEDI_MAX_DATA_AGE_DAYS days old."""
    log = io.lake.log(table)
    newest = (
        max((f.newest for f in log.files if f.rows and f.newest), default=None) if log else None
    )
    most = io.lake.settings.max_data_age_days
    age = (today() - newest).days if newest else 1_000_000
    return _result(age <= most, WARN, age_in_days=age, at_most=most)


def no_backlog(io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    """No eligible landed reading of the dates is missing from the trusted table."""
    upstream = table.name.replace("_trusted", "_landing")
    landed = _rows(io, TABLES[upstream], dates)
    if table.name == "accelerometer_trusted":
        customers = io.read(TABLES["customer_trusted"]).select(
            F.col("email").alias("user"), F.col("shareWithResearchAsOfDate").alias("since")
        )
        eligible = (
            well_formed(landed)
            .withColumn("user", normalized_email("user"))
            .join(customers, "user", "inner")
        )
        if io.lake.settings.consent_scope == "reading":
            eligible = eligible.where("timestamp >= since")
    else:
        eligible = (
            well_formed(landed)
            .withColumn("serialNumber", normalized_serial_number())
            .join(_owned_devices(io).select("serialNumber"), "serialNumber", "left_semi")
        )
    # A repeat stands in an earlier date: rows of the same times there count too.
    trusted = io.read_up_to(table, dates, [upstream]) if dates else io.read(table)
    # By hash: among a hundred million readings a missing one is taken for another, and so not
    # missed, with a probability of 5e-12.
    missing = eligible.select(_hash(table).alias("key")).join(
        trusted.select(_hash(table).alias("key")), "key", "left_anti"
    )
    count = missing.distinct().count()
    return _result(count == 0, WARN, readings_missing=count)


def _owned_devices(io: DeltaIOManager) -> "DataFrame":
    """serialNumber and email of the devices that belong to a customer of customers_curated."""
    owned = devices_with_one_owner(current_records(summarized(io, CURRENT_RECORDS)))
    curated = io.read(TABLES["customers_curated"]).select("email")
    return owned.join(curated, "email", "left_semi")


def serial_numbers_have_one_owner(
    io: DeltaIOManager, table: Table, _dates: Dates | None
) -> Outcome:
    """No two customers of the table name the same device."""
    claims = io.read(table).groupBy("serialNumber").agg(F.count("email").alias("n"))
    # How many devices have how many claims: a row for each number of claims, so a handful.
    counts = claims.groupBy("n").agg(F.count("n").alias("devices")).collect()
    twice = [row for row in counts if row.n > 1]
    return _result(
        not twice,
        WARN,
        devices_claimed_twice=sum(row.devices for row in twice),
        customers=sum(row.n * row.devices for row in twice),
    )


def pairs_are_of_one_person(io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    """Pairs are made by customer and time: it says how many more the time alone would have made.

    Those are pairs of different people, among the readings of the run's dates. A figure to watch,
    not a test: it always passes.
    """
    steps, readings = (
        _rows(io, TABLES[name], dates).select(
            F.col(str(TABLES[name].time_column)).alias("moment"),
            F.lit(step).alias("steps"),
            F.lit(1 - step).alias("readings"),
        )
        for name, step in (("step_trainer_trusted", 1), ("accelerometer_trusted", 0))
    )
    moments = steps.unionAll(readings).groupBy("moment")
    counts = moments.agg(F.sum("steps").alias("steps"), F.sum("readings").alias("readings"))
    on_time = counts.agg(F.sum(F.col("steps") * F.col("readings"))).collect()[0][0] or 0
    log = io.lake.log(table)
    files = (log.of(dates.start, dates.end) if dates else log.files) if log else ()
    pairs = sum(f.rows for f in files)
    return _result(True, WARN, pairs=pairs, pairs_of_different_people=max(0, on_time - pairs))


_Check = Callable[[DeltaIOManager, Table, Dates | None], Outcome]


def _checks_of(table: Table) -> list[tuple[_Check, bool]]:
    """The checks of a table, and whether a failure stops what is downstream in the run."""
    checks: list[tuple[_Check, bool]] = [(rows_meet_the_contract, True)]
    if table.zone == "landing":
        checks += [
            (every_object_is_accounted_for, False),
            (few_records_are_malformed, False),
            (newest_ingest_date_is_recent, False),
        ]
    else:
        checks += [(only_consenting_customers, True)]
    if table.name in ("accelerometer_trusted", "step_trainer_trusted"):
        checks += [(no_backlog, False)]
    if table.name == "customer_trusted":
        checks += [(serial_numbers_have_one_owner, False)]
    if table.name == "machine_learning_curated":
        checks += [(pairs_are_of_one_person, False)]
    return checks


def _outcome(check: _Check, io: DeltaIOManager, table: Table, dates: Dates | None) -> Outcome:
    with redact_engine_errors(f"The check {check.__name__} of {table.name}"):
        return check(io, table, dates)


def _checks(table: Table) -> dg.AssetChecksDefinition:
    """All checks of a table as one step."""
    checks = _checks_of(table)

    @dg.multi_asset_check(
        name=f"{table.name}_checks",
        specs=[
            dg.AssetCheckSpec(
                check.__name__, asset=table.name, description=check.__doc__, blocking=blocking
            )
            for check, blocking in checks
        ],
        can_subset=True,  # the UI can run one by itself
    )
    def run_checks(
        context: dg.AssetCheckExecutionContext, io_manager: dg.ResourceParam[DeltaIOManager]
    ) -> Iterator[dg.AssetCheckResult]:
        dates, chosen = dates_of_run(context.run.tags), context.selected_asset_check_keys
        wanted = [
            check
            for check, _ in checks
            if dg.AssetCheckKey(dg.AssetKey(table.name), check.__name__) in chosen
        ]
        io_manager.lake.look_again()
        with ThreadPoolExecutor(len(checks)) as pool:  # they mostly wait for the engine
            outcomes = list(
                pool.map(lambda check: _outcome(check, io_manager, table, dates), wanted)
            )
        for check, outcome in zip(wanted, outcomes, strict=True):
            yield dg.AssetCheckResult(
                check_name=check.__name__,
                asset_key=table.name,
                passed=outcome.passed,
                severity=outcome.severity,
                metadata=outcome.counts,
            )

    return run_checks


asset_checks = [_checks(table) for table in TABLES.values()]


def failing_checks(io: DeltaIOManager) -> tuple[list[str], list[str]]:
    """The checks of whole tables that fail, as `table.check`: the errors, then the warnings."""
    failing = [
        (f"{table.name}.{check.__name__}", outcome.severity)
        for table in TABLES.values()
        if io.lake.log(table) is not None
        for check, _ in _checks_of(table)
        if not (outcome := _outcome(check, io, table, None)).passed
    ]
    return (
        [name for name, severity in failing if severity is ERROR],
        [name for name, severity in failing if severity is WARN],
    )
