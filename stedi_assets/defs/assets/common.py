"""What every asset says of itself: zone, row, rule, columns and where they come from, owners."""

from typing import Any

import dagster as dg

from stedi_assets.defs.assets.descriptions import (
    EXAMPLES,
    PSEUDONYMOUS_READERS,
    PURPOSES,
    READERS,
    SOURCES,
)
from stedi_assets.defs.freshness import BY_ZONE
from stedi_assets.defs.partitions import INGEST_DATES
from stedi_assets.settings import load_settings
from stedi_assets.tables.schemas import ENTITIES, TABLES, Column, Entity, Table

OWNERS = ["team:stedi-data-engineering"]
# Of everything that writes the lake: production's dagster.yaml lets one run of it work at a time.
POOL = "lakehouse"

_RENAMED = {"subject_id": "user"}


def asset_arguments(name: str) -> dict[str, Any]:
    """The arguments of `@dg.asset` that follow from the table's record in `schemas.py`."""
    table = TABLES[name]
    return {
        "name": name,
        "description": _description(table),
        "group_name": table.zone,
        "owners": OWNERS,
        "kinds": {"pyspark", "deltalake", "s3"},
        "tags": {
            "zone": table.zone,
            "personal_data": "direct" if table.personal_columns else "pseudonymous",
        },
        "metadata": {
            "dagster/column_schema": _columns(table.columns),
            "dagster/column_lineage": _lineage(table),
            "dagster/table_name": f"{table.zone}.{name}",
            "dagster/uri": load_settings().uri(table.path),
        },
        "partitions_def": INGEST_DATES if table.partitioned else None,
        "freshness_policy": BY_ZONE[table.zone],
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "pool": POOL,
    }


def landed_objects(name: str) -> dg.AssetSpec:
    """The prefix where producers land an entity's objects; an external asset."""
    entity = ENTITIES[name]
    folder = f"landing/{name}/"
    return dg.AssetSpec(
        f"{name}_objects",
        description=_description_of_objects(entity, folder),
        group_name="landing",
        owners=OWNERS,
        kinds={"s3", "json"},
        tags={"zone": "landing", "personal_data": "direct"},
        metadata={
            "dagster/column_schema": _columns(entity.fields, entity.required),
            "dagster/uri": load_settings().uri(folder),
        },
        partitions_def=INGEST_DATES,
    )


def _description(table: Table) -> str:
    """What a row is, what the table is good for, who may read it, and where the rule stands."""
    personal = [c.name for c in table.columns if c.personal]
    readers = READERS[table.zone] if personal else PSEUDONYMOUS_READERS
    paragraphs = [
        f"**A row** is {table.row[0].lower()}{table.row[1:]}",
        PURPOSES[table.name],
        f"**Who may read it.** {readers}",
    ]
    if table.keys:
        paragraphs.append(f"**Unique.** No two rows have the same {', '.join(table.keys)}.")
    if personal:
        paragraphs.append(f"**Personal**, and masked in every preview: {', '.join(personal)}.")
    paragraphs.append(f"**The rule:** docs/tables.md, and stedi_assets/tables/{table.zone}.py.")
    return "\n\n".join(paragraphs)


def _description_of_objects(entity: Entity, folder: str) -> str:
    return "\n\n".join(
        [
            f"**An object** is JSON text, plain or gzipped, from {SOURCES[entity.name]}, under"
            f" `{folder}ingest_date=YYYY-MM-DD/`. Nobody here materializes it: producers write it"
            " to S3, or `stedi land` does, and the sensor follows. It is never changed, but by"
            " `stedi forget`.",
            "**A partition** is the date in the folder's name; *Events* shows how many objects"
            " each run read from it.",
            f"**A record** must have {', '.join(sorted(entity.required))}:",
            f"```json\n{EXAMPLES[entity.name]}\n```",
            f"**Who may read it.** {READERS['landing']}",
            "**What counts as a record:** docs/tables.md.",
        ]
    )


def _columns(columns: tuple[Column, ...], required: frozenset[str] = frozenset()) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                c.name,
                c.type,
                c.description,
                constraints=dg.TableColumnConstraints(nullable=c.name not in required),
                tags={"personal": ""} if c.personal else {},
            )
            for c in columns
        ]
    )


def _lineage(table: Table) -> dg.TableColumnLineage:
    """Of each column, the columns upstream that its values are taken from."""
    return dg.TableColumnLineage(
        {
            column.name: [
                dg.TableColumnDep(dg.AssetKey(asset), source)
                for asset in _sources(table)
                if source in _names(asset)
            ]
            for column in table.columns
            for source in [_RENAMED.get(column.name, column.name)]
        }
    )


def _sources(table: Table) -> tuple[str, ...]:
    """The assets whose columns become a table's columns."""
    return (f"{table.entity.name}_objects",) if table.entity else table.rows_from


def _names(asset: str) -> set[str]:
    entity = ENTITIES.get(asset.removesuffix("_objects"))
    return {c.name for c in (entity.fields if entity else TABLES[asset].columns)}
