"""The columns of every landed record and every table, once: names, types, meaning, privacy.

What belongs here: what a column is. What does not: how a row comes about (`landing.py`,
`trusted.py` and `curated.py` beside this file).
"""

from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


@dataclass(frozen=True)
class Column:
    """One column: its Spark type, what it means, and whether its values identify a person."""

    name: str
    type: str
    description: str
    personal: bool = False


@dataclass(frozen=True)
class Entity:
    """What a producer lands: the fields of a record and which of them must be there."""

    name: str
    fields: tuple[Column, ...]
    required: frozenset[str]
    # Old producers' name of a field -> its name; the proper name beats the old one.
    aliases: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """One Delta table of the lake: its zone, what a row is, and its columns in order."""

    name: str
    zone: str
    row: str
    columns: tuple[Column, ...]
    partition_column: str | None = "ingest_date"
    # The tables whose rows become its rows; () where those are landed objects.
    rows_from: tuple[str, ...] = ()
    # The tables that decide which of those rows it takes.
    filtered_by: tuple[str, ...] = ()
    # The columns that no two rows share; empty where repeats are kept.
    keys: tuple[str, ...] = ()
    # The column that says when a reading was taken, ms since the epoch.
    time_column: str | None = None

    @property
    def partitioned(self) -> bool:
        """Whether the table is by ingest date."""
        return self.partition_column == INGEST_DATE.name

    @property
    def upstream(self) -> tuple[str, ...]:
        """The tables that it is made of."""
        return (*self.rows_from, *self.filtered_by)

    @property
    def entity(self) -> Entity | None:
        """What a landing table's rows were landed as; None past the landing zone."""
        return ENTITIES.get(self.name.removesuffix("_landing"))

    @property
    def path(self) -> str:
        """Where the table lies under the lake."""
        return f"{self.zone}/{self.name}"

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in the table's order."""
        return [column.name for column in self.columns]

    @property
    def personal_columns(self) -> set[str]:
        """The names of the columns that hold personal data."""
        return {column.name for column in self.columns if column.personal}


INGEST_DATE = Column(
    "ingest_date", "date", "Day (UTC) on which the object landed: the date in its folder's name."
)
CORRUPT_RECORD = Column(
    "_corrupt_record",
    "string",
    "Raw text of a malformed record, which has null in every field; null in a well-formed one.",
    personal=True,
)

CUSTOMER = Entity(
    "customer",
    (
        Column("customerName", "string", "The customer's name.", personal=True),
        Column("email", "string", "The customer's email: who they are.", personal=True),
        Column("phone", "string", "The customer's phone number, digits as typed.", personal=True),
        Column("birthDay", "string", "The customer's birthday, as YYYY-MM-DD.", personal=True),
        Column("serialNumber", "string", "Serial number of their Step Trainer.", personal=True),
        Column(
            "registrationDate",
            "bigint",
            "When they registered: ms since the epoch (1970-01-01 UTC).",
        ),
        Column(
            "lastUpdateDate",
            "bigint",
            "When this record was made: ms since the epoch (1970-01-01 UTC); the newest counts.",
        ),
        Column(
            "shareWithResearchAsOfDate",
            "bigint",
            "Since when they share with research, ms since the epoch; null or 0: they do not.",
        ),
        Column(
            "shareWithPublicAsOfDate",
            "bigint",
            "Since when they share with the public, ms since the epoch; null or 0: they do not.",
        ),
        Column(
            "shareWithFriendsAsOfDate",
            "bigint",
            "Since when they share with friends, ms since the epoch; null or 0: they do not.",
        ),
    ),
    frozenset({"email", "serialNumber", "registrationDate", "lastUpdateDate"}),
)
ACCELEROMETER = Entity(
    "accelerometer",
    (
        Column("user", "string", "Email of the customer whose phone it is.", personal=True),
        Column(
            "timestamp",
            "bigint",
            "When the reading was taken: ms since the epoch (1970-01-01 UTC).",
        ),
        Column(
            "x",
            "double",
            "Acceleration along the phone's x axis, in the phone's unit (about -2 to 2).",
        ),
        Column(
            "y",
            "double",
            "Acceleration along the phone's y axis, in the phone's unit (about -2 to 2).",
        ),
        Column(
            "z",
            "double",
            "Acceleration along the phone's z axis, in the phone's unit (about -2 to 2).",
        ),
    ),
    frozenset({"user", "timestamp", "x", "y", "z"}),
    {"timeStamp": "timestamp"},
)
STEP_TRAINER = Entity(
    "step_trainer",
    (
        Column(
            "sensorReadingTime",
            "bigint",
            "When the reading was taken: ms since the epoch (1970-01-01 UTC).",
        ),
        Column("serialNumber", "string", "Serial number of the device.", personal=True),
        Column(
            "distanceFromObject",
            "bigint",
            "Distance to the object in front of it, whole cm (up to about 300).",
        ),
    ),
    frozenset({"sensorReadingTime", "serialNumber", "distanceFromObject"}),
)
ENTITIES = {entity.name: entity for entity in (CUSTOMER, ACCELEROMETER, STEP_TRAINER)}

_SUBJECT_ID = Column(
    "subject_id",
    "string",
    "Who took the reading, as a pseudonym: 64 hexadecimal digits, the SHA-256 of the lake's salt"
    " and the email. The same person has the same one on every date.",
)


def _landing(entity: Entity, row: str, time_column: str | None = None) -> Table:
    columns = (*entity.fields, CORRUPT_RECORD, INGEST_DATE)
    return Table(f"{entity.name}_landing", "landing", row, columns, time_column=time_column)


_ROWS = "repeats and malformed ones included."
TABLES = {
    table.name: table
    for table in (
        _landing(CUSTOMER, f"A record of a customer that landed on the day, {_ROWS}"),
        _landing(ACCELEROMETER, f"A phone reading that landed on the day, {_ROWS}", "timestamp"),
        _landing(
            STEP_TRAINER, f"A device reading that landed on the day, {_ROWS}", "sensorReadingTime"
        ),
        Table(
            "customer_trusted",
            "trusted",
            "A customer whose current record agrees to share with research: that record.",
            (*CUSTOMER.fields, INGEST_DATE),
            partition_column=None,
            rows_from=("customer_landing",),
            keys=("email",),
        ),
        Table(
            "accelerometer_trusted",
            "trusted",
            "A phone reading of a consenting customer, once, in the earliest date it landed on.",
            (*ACCELEROMETER.fields, INGEST_DATE),
            rows_from=("accelerometer_landing",),
            filtered_by=("customer_trusted",),
            keys=("user", "timestamp", "x", "y", "z"),
            time_column="timestamp",
        ),
        Table(
            "step_trainer_trusted",
            "trusted",
            "A reading of a device that belongs to one customer of customers_curated, once, in"
            " the earliest date it landed on.",
            (*STEP_TRAINER.fields, INGEST_DATE),
            rows_from=("step_trainer_landing",),
            filtered_by=("customer_landing", "customers_curated"),
            keys=("sensorReadingTime", "serialNumber", "distanceFromObject"),
            time_column="sensorReadingTime",
        ),
        Table(
            "customers_curated",
            "curated",
            "A consenting customer who has at least one phone reading in accelerometer_trusted.",
            (*CUSTOMER.fields, INGEST_DATE),
            partition_column=None,
            rows_from=("customer_trusted",),
            filtered_by=("accelerometer_trusted",),
            keys=("email",),
        ),
        Table(
            "machine_learning_curated",
            "curated",
            "A device reading and a phone reading of the same consenting customer at the same"
            " millisecond, in the later of the two readings' ingest dates.",
            (
                _SUBJECT_ID,
                STEP_TRAINER.fields[0],
                STEP_TRAINER.fields[2],
                *ACCELEROMETER.fields[2:],
                INGEST_DATE,
            ),
            rows_from=("accelerometer_trusted", "step_trainer_trusted"),
            filtered_by=("customers_curated",),
            time_column="sensorReadingTime",
        ),
    )
}
LANDING_TABLES = tuple(table for table in TABLES.values() if table.zone == "landing")

# The order in which tables can be built: every table after those that it is made of.
BUILD_ORDER = tuple(TopologicalSorter({t.name: t.upstream for t in TABLES.values()}).static_order())
# Tables without dates, which say who is in.
TABLES_OF_PEOPLE = tuple(table.name for table in TABLES.values() if not table.partitioned)


def tables_of_people(table: Table) -> set[str]:
    """The tables of people that a table is made of, directly or not."""
    direct = {name for name in table.upstream if name in TABLES_OF_PEOPLE}
    return direct.union(*(tables_of_people(TABLES[name]) for name in table.upstream))


def spark_schema(columns: tuple[Column, ...]) -> "StructType":
    """The columns as a Spark schema, all nullable."""
    from pyspark.sql import types as t

    by_name = {
        "bigint": t.LongType(),
        "double": t.DoubleType(),
        "string": t.StringType(),
        "date": t.DateType(),
    }
    return t.StructType([t.StructField(c.name, by_name[c.type]) for c in columns])
