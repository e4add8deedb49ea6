"""What the Glue Data Catalog holds of each table, and the same as DDL: pure functions.

A Delta table's entry says where it lies; engines read columns and files from its log. The columns
stand in the entry too, for Lake Formation, for views and for people. The tables `<entity>_raw`
show landed objects as they came: JSON, all fields as text, one partition an ingest date, computed
and never listed (partition projection).
"""

from typing import Any

from stedi_assets.settings import Settings
from stedi_assets.tables.schemas import ENTITIES, INGEST_DATE, TABLES, Entity, Table

# The parameter of a table that `sync` made. What does not have it is never touched.
MANAGED_BY = {"managed_by": "stedi_assets"}

_DELTA_PARAMETERS = {
    "EXTERNAL": "TRUE",
    "table_type": "delta",  # Athena asks for this one, Trino for the next
    "spark.sql.sources.provider": "delta",
    "spark.sql.partitionProvider": "catalog",
}
_HADOOP = "org.apache.hadoop"
_JSON_SERDE = "org.openx.data.jsonserde.JsonSerDe"
_TEXT_INPUT = f"{_HADOOP}.mapred.TextInputFormat"
_TEXT_OUTPUT = f"{_HADOOP}.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
# AWS: a line that is not JSON is left out instead of failing the query.
_JSON_OPTIONS = {"ignore.malformed.json": "true"}


def raw_table_name(entity: Entity) -> str:
    """The catalogue's name of the table over an entity's landed objects."""
    return f"{entity.name}_raw"


def table_inputs(settings: Settings) -> dict[str, dict[str, Any]]:
    """Glue's `TableInput` of every table, by name: the eight tables and the three raw ones.

    Args:
        settings: says where the lake lies and its first ingest date.
    """
    delta = {name: delta_table_input(table, settings) for name, table in TABLES.items()}
    raw = {
        raw_table_name(entity): raw_table_input(entity, settings) for entity in ENTITIES.values()
    }
    return delta | raw


def delta_table_input(table: Table, settings: Settings) -> dict[str, Any]:
    """Glue's `TableInput` of a Delta table.

    It has no partition keys: the log has them, and Glue would ask for a list of partitions.
    """
    location = settings.uri(table.path)
    return {
        "Name": table.name,
        "Description": table.row,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {**_DELTA_PARAMETERS, **MANAGED_BY},
        "PartitionKeys": [],
        "StorageDescriptor": {
            "Columns": [
                {"Name": c.name.lower(), "Type": c.type, "Comment": c.description}
                for c in table.columns
            ],
            "Location": location,
            "InputFormat": f"{_HADOOP}.mapred.SequenceFileInputFormat",
            "OutputFormat": f"{_HADOOP}.hive.ql.io.HiveSequenceFileOutputFormat",
            "SerdeInfo": {
                "SerializationLibrary": f"{_HADOOP}.hive.serde2.lazy.LazySimpleSerDe",
                "Parameters": {"path": location, "serialization.format": "1"},
            },
        },
    }


def raw_table_input(entity: Entity, settings: Settings) -> dict[str, Any]:
    """Glue's `TableInput` of the JSON that lands for an entity.

    Every column is a string: a value of the wrong type is shown, instead of failing the query.
    """
    partition = INGEST_DATE.name
    return {
        "Name": raw_table_name(entity),
        "Description": f"JSON as it lands for {entity.name}; {entity.name}_landing has all of it.",
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {
            "EXTERNAL": "TRUE",
            "classification": "json",
            **_projection(entity, settings),
            **MANAGED_BY,
        },
        "PartitionKeys": [
            {"Name": partition, "Type": "string", "Comment": "The day in the folder's name."}
        ],
        "StorageDescriptor": {
            "Columns": [
                {"Name": f.name.lower(), "Type": "string", "Comment": f.description}
                for f in entity.fields
            ],
            "Location": _landing_location(entity, settings),
            "InputFormat": _TEXT_INPUT,
            "OutputFormat": _TEXT_OUTPUT,
            "SerdeInfo": {"SerializationLibrary": _JSON_SERDE, "Parameters": _JSON_OPTIONS},
        },
    }


def _landing_location(entity: Entity, settings: Settings) -> str:
    return settings.uri(f"landing/{entity.name}/")


def _projection(entity: Entity, settings: Settings) -> dict[str, str]:
    partition = INGEST_DATE.name
    location = _landing_location(entity, settings)
    return {
        "projection.enabled": "true",
        f"projection.{partition}.type": "date",
        f"projection.{partition}.format": "yyyy-MM-dd",
        f"projection.{partition}.range": f"{settings.first_ingest_date.isoformat()},NOW",
        f"projection.{partition}.interval": "1",
        f"projection.{partition}.interval.unit": "DAYS",
        "storage.location.template": f"{location}{partition}=${{{partition}}}/",
    }


def ddl(settings: Settings, database: str) -> dict[str, str]:
    """The statement that makes each table in Athena by hand, by the table's name.

    Athena takes a Delta table's columns from its log, and refuses them in the statement.
    """
    statements = {name: _delta_ddl(table, settings, database) for name, table in TABLES.items()}
    for entity in ENTITIES.values():
        statements[raw_table_name(entity)] = _raw_ddl(entity, settings, database)
    return statements


def _delta_ddl(table: Table, settings: Settings, database: str) -> str:
    return (
        f"CREATE EXTERNAL TABLE `{database}`.`{table.name}`\n"
        f"LOCATION '{settings.uri(table.path)}/'\n"
        "TBLPROPERTIES ('table_type'='DELTA');"
    )


def _raw_ddl(entity: Entity, settings: Settings, database: str) -> str:
    columns = ",\n".join(f"  `{f.name.lower()}` string" for f in entity.fields)
    return (
        f"CREATE EXTERNAL TABLE `{database}`.`{raw_table_name(entity)}` (\n{columns}\n)\n"
        f"PARTITIONED BY (`{INGEST_DATE.name}` string)\n"
        f"ROW FORMAT SERDE '{_JSON_SERDE}'\n"
        f"WITH SERDEPROPERTIES ({_properties(_JSON_OPTIONS)})\n"
        f"STORED AS INPUTFORMAT '{_TEXT_INPUT}'\n"
        f"OUTPUTFORMAT '{_TEXT_OUTPUT}'\n"
        f"LOCATION '{_landing_location(entity, settings)}'\n"
        f"TBLPROPERTIES ({_properties(_projection(entity, settings))});"
    )


def _properties(values: dict[str, str]) -> str:
    return ", ".join(f"'{name}'='{value}'" for name, value in values.items())
