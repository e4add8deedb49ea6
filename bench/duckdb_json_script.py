"""The same eight tables by DuckDB's own JSON reader: the fastest plain script, for plain data.

    python -m bench.duckdb_json_script SOURCE OUT [--salt S]

Every rule of the contract that a record which is plainly well-formed can need: required fields,
trimmed and lower-case keys, -0 as 0, current records, consent, owners, repeats, pairs. What it
leaves out, and `duckdb_script.py` does not: the text of a malformed record (a line that is no JSON
ends the script, one that lacks a required value stands in its landing table with nothing but
nulls), and the old producers' `timeStamp`. Prints the counts as JSON.
"""

from pathlib import Path

from bench.duckdb_script import FIELDS, INGEST_DATE, WELL_FORMED, make

# Repeats are found by a number for each person, which is cheaper than by email.
ACCELEROMETER_TRUSTED = """
    WITH readings AS (
        SELECT c.rowid AS person, timestamp, x, y, z, min(a.ingest_date) AS ingest_date
        FROM accelerometer_landing a JOIN customer_trusted c ON c.email = normalised(a."user")
        WHERE _corrupt_record IS NULL
        GROUP BY ALL)
    SELECT c.email AS "user", timestamp, x, y, z, r.ingest_date
    FROM readings r JOIN customer_trusted c ON c.rowid = r.person"""


def landing(source: Path, entity: str) -> str:
    """The query of an entity's landing table: every line of its files is a row."""
    fields = FIELDS[entity]
    good = WELL_FORMED[entity].replace("user_", '"user"')
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in fields.items())
    # -0 + 0 is 0
    values = ", ".join(
        f'"{name}" + 0 AS "{name}"' if kind == "DOUBLE" else f'"{name}"'
        for name, kind in fields.items()
    )
    kept = ", ".join(f'if(good, "{name}", NULL) AS "{name}"' for name in fields)
    return f"""
        SELECT {kept}, if(good, NULL, 'malformed') AS _corrupt_record,
            DATE '{INGEST_DATE}' AS ingest_date
        FROM (
            SELECT {values}, coalesce({good}, false) AS good
            FROM read_json('{source}/{entity}/*', format = 'newline_delimited',
                columns = {{{columns}}}))"""


if __name__ == "__main__":
    made = {"accelerometer_trusted": ACCELEROMETER_TRUSTED}
    make(__doc__.splitlines()[0], landing, made)
