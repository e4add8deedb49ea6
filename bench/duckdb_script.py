"""The contract's eight tables as one plain DuckDB script, from local JSON to local parquet.

    python -m bench.duckdb_script SOURCE OUT [--salt S]

What a good data engineer would write for one machine: one ingest date, consent scope `customer`,
one JSON object a line. A line that is no JSON, or lacks a required value, stands in its landing
table as `_corrupt_record`. Simpler than the contract in what no plain script would do: DuckDB's
casts are lenient (a quoted number is a number), and several objects on one line are one malformed
record. Prints the counts as JSON.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

INGEST_DATE = "2022-06-18"
Landing = Callable[[Path, str], str]
# White space off both ends; most texts have none, and to see that is much cheaper than `trim`.
TRIMMED = (
    r"if(ascii(text) > 32 AND NOT (suffix(text, ' ') OR suffix(text, E'\t')"
    r" OR suffix(text, E'\r') OR suffix(text, E'\n')), text, trim(text, E' \t\r\n'))"
)

FIELDS = {
    "customer": {
        "customerName": "VARCHAR",
        "email": "VARCHAR",
        "phone": "VARCHAR",
        "birthDay": "VARCHAR",
        "serialNumber": "VARCHAR",
        "registrationDate": "BIGINT",
        "lastUpdateDate": "BIGINT",
        "shareWithResearchAsOfDate": "BIGINT",
        "shareWithPublicAsOfDate": "BIGINT",
        "shareWithFriendsAsOfDate": "BIGINT",
    },
    "accelerometer": {
        "user": "VARCHAR",
        "timestamp": "BIGINT",
        "x": "DOUBLE",
        "y": "DOUBLE",
        "z": "DOUBLE",
    },
    "step_trainer": {
        "sensorReadingTime": "BIGINT",
        "serialNumber": "VARCHAR",
        "distanceFromObject": "BIGINT",
    },
}
# Fields that are not simply what stands under their name: old producers write `timeStamp`.
SPECIAL = {
    "timestamp": "coalesce(r.timestamp, TRY_CAST(line ->> '$.timeStamp' AS BIGINT))",
    **{axis: f"if(r.{axis} = 0, 0, r.{axis})" for axis in "xyz"},  # -0 is 0
}
WELL_FORMED = {
    "customer": (
        "trimmed(email) <> '' AND trimmed(serialNumber) <> ''"
        " AND registrationDate IS NOT NULL AND lastUpdateDate IS NOT NULL"
    ),
    "accelerometer": (
        "trimmed(user_) <> '' AND timestamp IS NOT NULL"
        " AND isfinite(x) AND isfinite(y) AND isfinite(z)"
    ),
    "step_trainer": (
        "sensorReadingTime IS NOT NULL AND trimmed(serialNumber) <> ''"
        " AND distanceFromObject IS NOT NULL"
    ),
}

TABLES = {
    # Every customer's newest record, consenting or not: not one of the eight tables.
    "current_records": """
        SELECT * EXCLUDE _corrupt_record
            REPLACE (normalised(email) AS email, trimmed(serialNumber) AS serialNumber)
        FROM customer_landing
        WHERE _corrupt_record IS NULL
        QUALIFY row_number() OVER (
            PARTITION BY normalised(email)
            ORDER BY lastUpdateDate DESC, ingest_date DESC,
                coalesce(shareWithResearchAsOfDate, 0) > 0,
                shareWithResearchAsOfDate DESC NULLS LAST, trimmed(serialNumber) DESC,
                customerName DESC NULLS LAST, phone DESC NULLS LAST, birthDay DESC NULLS LAST,
                registrationDate DESC, shareWithPublicAsOfDate DESC NULLS LAST,
                shareWithFriendsAsOfDate DESC NULLS LAST) = 1""",
    "customer_trusted": "SELECT * FROM current_records WHERE shareWithResearchAsOfDate > 0",
    "accelerometer_trusted": """
        SELECT normalised("user") AS "user", timestamp, x, y, z, min(ingest_date) AS ingest_date
        FROM accelerometer_landing
        WHERE _corrupt_record IS NULL
            AND normalised("user") IN (SELECT email FROM customer_trusted)
        GROUP BY ALL""",
    "customers_curated": """
        SELECT * FROM customer_trusted
        WHERE email IN (SELECT "user" FROM accelerometer_trusted)""",
    "step_trainer_trusted": """
        SELECT sensorReadingTime, trimmed(serialNumber) AS serialNumber, distanceFromObject,
            min(ingest_date) AS ingest_date
        FROM step_trainer_landing
        WHERE _corrupt_record IS NULL AND trimmed(serialNumber) IN (
            SELECT serialNumber FROM customers_curated
            INTERSECT
            SELECT serialNumber FROM current_records GROUP BY serialNumber HAVING count(*) = 1)
        GROUP BY ALL""",
    "machine_learning_curated": """
        SELECT c.subject_id, s.sensorReadingTime, s.distanceFromObject, a.x, a.y, a.z,
            greatest(s.ingest_date, a.ingest_date) AS ingest_date
        FROM step_trainer_trusted s
        JOIN (SELECT *, sha256(getvariable('salt') || email) AS subject_id
              FROM customers_curated) c USING (serialNumber)
        JOIN accelerometer_trusted a
            ON a."user" = c.email AND a.timestamp = s.sensorReadingTime""",
}


def landing(source: Path, entity: str) -> str:
    """The query of an entity's landing table: every line of its files is a row."""
    fields = FIELDS[entity]
    well_formed = WELL_FORMED[entity].replace("user_", '"user"')
    values = ", ".join(f'{SPECIAL.get(name, f"r.{name}")} AS "{name}"' for name in fields)
    kept = ", ".join(f'if(good, "{name}", NULL) AS "{name}"' for name in fields)
    return f"""
        WITH parsed AS (
            SELECT line, TRY(json_transform(line, '{json.dumps(fields)}')) AS r
            FROM read_csv('{source}/{entity}/*', columns = {{line: 'VARCHAR'}}, delim = '',
                quote = '', escape = '', header = false, auto_detect = false)
            WHERE trimmed(line) <> ''),
        fields AS (SELECT line, {values} FROM parsed),
        judged AS (SELECT *, coalesce({well_formed}, false) AS good FROM fields)
        SELECT {kept}, if(good, NULL, line) AS _corrupt_record, DATE '{INGEST_DATE}' AS ingest_date
        FROM judged"""


def make(description: str, landing: Landing, other: Mapping[str, str] | None = None) -> None:
    """Parse the arguments, make the tables, and print how many rows each has.

    landing: gives the query of an entity's landing table; other: queries in the place of TABLES'.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--salt", default="salt")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    db = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
    db.execute("SET VARIABLE salt = ?", [arguments.salt])
    db.execute(f"CREATE MACRO trimmed(text) AS {TRIMMED}")
    db.execute("CREATE MACRO normalised(text) AS lower(trimmed(text))")
    queries = {f"{entity}_landing": landing(arguments.source, entity) for entity in FIELDS}
    for name, query in {**queries, **TABLES, **(other or {})}.items():
        db.execute(f"CREATE TABLE {name} AS {query}")
    counts = {}
    for name in [name for name in [*queries, *TABLES] if name != "current_records"]:
        path = arguments.out / f"{name}.parquet"
        (counts[name],) = db.execute(f"COPY {name} TO '{path}' (FORMAT parquet)").fetchone() or ()
    print(json.dumps(counts))


if __name__ == "__main__":
    make(__doc__.splitlines()[0], landing)
