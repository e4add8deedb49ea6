"""What the checks of the tables look at: statements that are true when they pass.

Each takes the pipeline, a table, and the ingest dates to look at (None: all), makes one pass over
them, and gives counts, never a row. `asset_checks.py` makes them Dagster's.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
from pyspark.sql import functions as F

from stedi_assets.incremental.inputs import read_with_lookback
from stedi_assets.incremental.partition_inputs import landing_inputs
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.incremental.rollups import CURRENT_RECORDS, rolled_up
from stedi_assets.lakehouse.dates import on_days
from stedi_assets.lakehouse.delta_log import DataFile
from stedi_assets.landing.listing import list_landing
from stedi_assets.privacy.audit import audit_rows, landed_again
from stedi_assets.tables.plausible_times import implausible_times
from stedi_assets.tables.rules import consents, current_records, device_owners, subject_id
from stedi_assets.tables.schemas import TABLES, Table, spark_schema
from stedi_assets.tables.trusted import readings_of_consenting, readings_of_owned_devices

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
Days = Collection[date] | None  # the ingest dates to check; None: the whole table


def _rows(pipeline: Pipeline, table: Table, days: Days) -> "DataFrame":
    if days is None or not table.partitioned:
        return pipeline.lakehouse.read(table)
    files = _files(pipeline, table, days)
    return pipeline.lakehouse.read(table, on_days(days), files=files)


def _other(pipeline: Pipeline, name: str, days: Days = None) -> "DataFrame":
    """A table that another is checked against; no rows where nothing ever landed for it."""
    table = TABLES[name]
    if pipeline.lakehouse.log(table) is None:
        spark = pipeline.lakehouse.spark_session
        return spark.createDataFrame([], spark_schema(table.columns))
    return _rows(pipeline, table, days)


def _files(pipeline: Pipeline, table: Table, days: Days) -> list[DataFile]:
    log = pipeline.lakehouse.log(table)
    return [f for f in (log.files if log else ()) if days is None or f.ingest_date in set(days)]


def _current_records(pipeline: Pipeline) -> "DataFrame":
    state = pipeline.state(with_membership=False)
    return rolled_up(pipeline.lakehouse, CURRENT_RECORDS, state.logs, state.ledgers).frame


@dataclass(frozen=True)
class Outcome:
    """Whether a check passed, how bad it is where it did not, and the counts to show."""

    passed: bool
    severity: dg.AssetCheckSeverity
    counts: dict[str, int | float | str]


def _result(passed: bool, severity: dg.AssetCheckSeverity, **counts: int | float | str) -> Outcome:
    return Outcome(passed, severity, counts)


def rows_meet_the_contract(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """Required columns are there, keys unique, numbers finite, dates the lake's.

    A malformed row has its text and nothing else.
    """
    rows = _rows(pipeline, table, days)
    entity = table.entity
    if entity:
        required = sorted(entity.required)
        fields = [c.name for c in entity.fields]
        corrupt = F.col("_corrupt_record").isNotNull()
        wrong = F.when(corrupt, _any([F.col(f).isNotNull() for f in fields])).otherwise(
            _any([F.col(name).isNull() for name in required] + _out_of_range(pipeline, table))
        )
        totals = rows.agg(F.count(F.when(wrong, 1)).alias("wrong")).collect()[0]
        return _result(totals.wrong == 0, ERROR, rows_that_break_it=totals.wrong)
    required = list(table.keys) or table.column_names
    empty = [F.col(name).isNull() for name in [*required, "ingest_date"]]
    wrong = _any(empty + _out_of_range(pipeline, table))
    if not table.keys:
        totals = rows.agg(F.count(F.when(wrong, 1)).alias("wrong")).collect()[0]
        return _result(totals.wrong == 0, ERROR, rows_that_break_it=totals.wrong)
    hashes = _hash(table)
    totals = rows.agg(
        F.count("*").alias("rows"),
        F.countDistinct(hashes).alias("hashes"),
        F.count(F.when(wrong, 1)).alias("wrong"),
    ).collect()[0]
    repeated = 0
    if totals.hashes < totals.rows:  # keys repeat, or only their hashes do
        several = rows.groupBy(*table.keys).agg(F.count("*").alias("n")).where("n > 1")
        repeated = several.count()
    return _result(
        totals.wrong + repeated == 0,
        ERROR,
        rows_that_break_it=totals.wrong,
        keys_that_repeat=repeated,
    )


def _hash(table: Table) -> Any:
    """64 bits of a row's key: a third of the time of grouping by the key, and little memory."""
    return F.xxhash64(*table.keys)


def _out_of_range(pipeline: Pipeline, table: Table) -> list[Any]:
    """Conditions of invalid rows: non-finite numbers, ingest dates out of range."""
    numbers = [F.col(c.name) for c in table.columns if c.type == "double"]
    first = F.lit(pipeline.settings.first_ingest_date.isoformat()).cast("date")
    last = F.lit(pipeline.lakehouse.store.today().isoformat()).cast("date")
    return [
        *(F.isnan(number) | (F.abs(number) == float("inf")) for number in numbers),
        ~F.col("ingest_date").between(first, last),
    ]


def _any(conditions: list[Any]) -> Any:
    whole = F.lit(False)
    for condition in conditions:
        whole = whole | condition
    return whole


def only_consenting_customers(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """Every row is of a customer whose current record consents, as the tables upstream say."""
    count = _rows(pipeline, table, days).join(*_members(pipeline, table)).count()
    return _result(count == 0, ERROR, rows_of_others=count)


def _members(pipeline: Pipeline, table: Table) -> tuple["DataFrame", str, str]:
    """Whom a table's rows may be of, as the arguments of an anti join."""
    if table.name == "customer_trusted":
        members = current_records(_current_records(pipeline)).where(consents()).select("email")
    elif table.name == "accelerometer_trusted":
        members = _other(pipeline, "customer_trusted").select(F.col("email").alias("user"))
    elif table.name == "customers_curated":
        members = _other(pipeline, "customer_trusted").select("email")
    elif table.name == "step_trainer_trusted":
        customers = _other(pipeline, "customers_curated")
        members = device_owners(current_records(_current_records(pipeline)), customers).select(
            "serialNumber"
        )
    else:
        subject = subject_id("email", pipeline.settings.salt()).alias("subject_id")
        members = _other(pipeline, "customers_curated").select(subject)
    return members, members.columns[0], "left_anti"


def every_object_is_accounted_for(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """What is listed is what the ledger says was read, and its records add up to the rows."""
    assert table.entity is not None, "a landing table"
    span = (min(days), max(days)) if days else (None, None)
    listing = list_landing(pipeline.lakehouse.store, [span], [table.entity.name])
    state = pipeline.state(with_membership=False)
    log, ledger = state.logs[table.name], state.ledgers[table.name]
    unread = listed = 0
    for (_, day), objects in listing.objects.items():
        if days is not None and day not in days:
            continue
        listed += len(objects)
        entry = ledger.valid_entry(day, log)
        if entry is None or entry.inputs != landing_inputs(objects, state.limits):
            unread += len(objects)
    rows = sum(f.rows for f in _files(pipeline, table, days))
    records = sum(e.rows for d, e in ledger.entries.items() if days is None or d in days)
    return _result(
        unread == 0 and rows == records,
        WARN,
        objects=listed,
        objects_of_dates_that_changed=unread,
        rows=rows,
        records=records,
    )


def few_records_are_malformed(pipeline: Pipeline, table: Table, _days: Days) -> Outcome:
    """On no ingest date is the share of malformed records above STEDI_MAX_MALFORMED_SHARE.

    Of all dates, whichever the run wrote: a bad one stays, by name, until its objects are mended.
    """
    log = pipeline.lakehouse.log(table)
    rows = log.rows_by_date() if log else {}
    malformed = {day: sum(f.malformed for f in log.of(day)) for day in rows} if log else {}
    shares = {day: malformed[day] / rows[day] for day in rows if rows[day]}
    most = pipeline.settings.max_malformed_share
    above = sum(share > most for share in shares.values())
    counts: dict[str, Any] = {"malformed": sum(malformed.values()), "dates_above": above}
    if shares:
        worst = max(shares, key=lambda day: shares[day])
        counts |= {"worst_date": str(worst), "share_on_worst_date": shares[worst]}
    return Outcome(above == 0, WARN, {**counts, "at_most": most})


def newest_ingest_date_is_recent(pipeline: Pipeline, table: Table, _days: Days) -> Outcome:
    """The newest date with a well-formed row is at most STEDI_MAX_DATA_AGE_DAYS days old."""
    files = _files(pipeline, table, None)
    newest = max((f.newest for f in files if f.rows > f.malformed and f.newest), default=None)
    most = pipeline.settings.max_data_age_days
    age = (pipeline.lakehouse.store.today() - newest).days if newest else 1_000_000
    return _result(age <= most, WARN, age_in_days=age, at_most=most)


def no_backlog(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """No eligible landed reading of the dates is missing from the trusted table."""
    source = TABLES[table.rows_from[0]]
    readings = _other(pipeline, source.name, days)
    if table.name == "accelerometer_trusted":
        customers = _other(pipeline, "customer_trusted")
        scope = pipeline.settings.consent_scope
        eligible = readings_of_consenting(readings, customers, consent_scope=scope)
    else:
        customers = _other(pipeline, "customers_curated")
        eligible = readings_of_owned_devices(readings, _current_records(pipeline), customers)
    # A repeated reading is kept on its earliest date: count rows of the same times there too.
    if days is None:
        trusted = pipeline.lakehouse.read(table)
    else:
        state = pipeline.state(with_membership=False)
        rows = read_with_lookback(pipeline.lakehouse, state, table, days, [source.name])
        trusted = rows.frame
    # By hash: among a hundred million readings a missing one is taken for another, and so not
    # missed, with a probability of 5e-12.
    missing = eligible.select(_hash(table).alias("key")).join(
        trusted.select(_hash(table).alias("key")), "key", "left_anti"
    )
    count = missing.distinct().count()
    return _result(count == 0, WARN, readings_missing=count)


def serial_numbers_have_one_owner(pipeline: Pipeline, table: Table, _days: Days) -> Outcome:
    """No two customers of the table name the same device."""
    claims = pipeline.lakehouse.read(table).groupBy("serialNumber").agg(F.count("email").alias("n"))
    # How many devices have how many claims: a row for each number of claims, so a handful.
    counts = claims.groupBy("n").agg(F.count("n").alias("devices")).collect()
    twice = [row for row in counts if row.n > 1]
    return _result(
        not twice,
        WARN,
        devices_claimed_twice=sum(row.devices for row in twice),
        customers=sum(row.n * row.devices for row in twice),
    )


def pairs_are_of_one_person(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """Pairs are made by customer and time: it says how many more the time alone would have made.

    Those are pairs of different people, among the readings of the run's dates. A figure to watch,
    not a test: it always passes.
    """
    steps, readings = (
        _other(pipeline, name, days).select(
            F.col(str(TABLES[name].time_column)).alias("moment"),
            F.lit(step).alias("steps"),
            F.lit(1 - step).alias("readings"),
        )
        for name, step in (("step_trainer_trusted", 1), ("accelerometer_trusted", 0))
    )
    moments = steps.unionAll(readings).groupBy("moment")
    counts = moments.agg(F.sum("steps").alias("steps"), F.sum("readings").alias("readings"))
    on_time = counts.agg(F.sum(F.col("steps") * F.col("readings"))).collect()[0][0] or 0
    files = _files(pipeline, table, days)
    pairs = sum(f.rows for f in files)
    return _result(True, WARN, pairs=pairs, pairs_of_different_people=max(0, on_time - pairs))


def times_are_plausible(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """Times are milliseconds since the epoch, of this century and not to come.

    A withdrawal dated in seconds is older than any consent, and would be ignored for ever.
    """
    now = datetime.now(UTC)
    (counts,) = implausible_times(_rows(pipeline, table, days), table.name, now).collect()
    wrong = {name: count for name, count in counts.asDict().items() if count}
    return Outcome(not wrong, WARN, {"implausible_times": sum(wrong.values()), **wrong})


def forgotten_people_stay_forgotten(pipeline: Pipeline, table: Table, days: Days) -> Outcome:
    """Nothing of a person who was forgotten (`stedi forget`) has landed again.

    It says whose by subject_id, with how many records: forget them again, and find out who sends.
    """
    rows = audit_rows(pipeline.lakehouse.store)
    if not rows:
        return Outcome(True, WARN, {"forgotten_people_who_landed_again": 0})
    customers = _rows(pipeline, table, days)
    salt = pipeline.settings.salt()
    readings = _other(pipeline, "accelerometer_landing", days)
    again = landed_again(rows, customers, readings, salt)
    counts = {
        f"{subject} in {name}": count
        for subject, tables in sorted(again.items())
        for name, count in tables.items()
    }
    return Outcome(not again, WARN, {"forgotten_people_who_landed_again": len(again), **counts})


Check = Callable[[Pipeline, Table, Days], Outcome]


def checks_of(table: Table) -> list[tuple[Check, bool]]:
    """The checks of a table, and whether a failure stops what is downstream in the run."""
    checks: list[tuple[Check, bool]] = [(rows_meet_the_contract, True)]
    if table.zone == "landing":
        checks += [
            (every_object_is_accounted_for, False),
            (few_records_are_malformed, False),
            (newest_ingest_date_is_recent, False),
            (times_are_plausible, False),
        ]
    else:
        checks += [(only_consenting_customers, True)]
    if table.name in ("accelerometer_trusted", "step_trainer_trusted"):
        checks += [(no_backlog, False)]
    if table.name == "customer_landing":
        checks += [(forgotten_people_stay_forgotten, False)]
    if table.name == "customer_trusted":
        checks += [(serial_numbers_have_one_owner, False)]
    if table.name == "machine_learning_curated":
        checks += [(pairs_are_of_one_person, False)]
    return checks
