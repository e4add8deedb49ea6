"""What a good data engineer would write with DuckDB: the contract's tables, disk to disk.

python -m bench.duckdb_script SOURCE OUT: JSON in SOURCE/<entity>/*.json to parquet in OUT; prints
the counts as JSON. One ingest date, consent scope `customer`.
"""

import json
import sys
from pathlib import Path

import duckdb

WHITE = "' ' || chr(9) || chr(13) || chr(10)"
COLUMNS = {
    "customer": (
        "customerName VARCHAR, email VARCHAR, phone VARCHAR, birthDay VARCHAR,"
        " serialNumber VARCHAR, registrationDate BIGINT, lastUpdateDate BIGINT,"
        " shareWithResearchAsOfDate BIGINT, shareWithPublicAsOfDate BIGINT,"
        " shareWithFriendsAsOfDate BIGINT"
    ),
    "accelerometer": '"user" VARCHAR, "timestamp" BIGINT, x DOUBLE, y DOUBLE, z DOUBLE',
    "step_trainer": "sensorReadingTime BIGINT, serialNumber VARCHAR, distanceFromObject BIGINT",
}
TABLES = {
    "customer_trusted": f"""
        SELECT * REPLACE (lower(trim(email, {WHITE})) AS email,
                          trim(serialNumber, {WHITE}) AS serialNumber)
        FROM customer_landing
        QUALIFY row_number() OVER (
            PARTITION BY lower(trim(email, {WHITE}))
            ORDER BY lastUpdateDate DESC, ingest_date DESC,
                     coalesce(shareWithResearchAsOfDate, 0) > 0,
                     shareWithResearchAsOfDate DESC NULLS LAST, serialNumber DESC) = 1""",
    "accelerometer_trusted": f"""
        SELECT lower(trim(a."user", {WHITE})) AS "user", a."timestamp", a.x, a.y, a.z,
               min(a.ingest_date) AS ingest_date
        FROM accelerometer_landing a
        JOIN customer_trusted c ON c.email = lower(trim(a."user", {WHITE}))
        GROUP BY ALL""",
    "customers_curated": """
        SELECT * FROM customer_trusted
        WHERE email IN (SELECT "user" FROM accelerometer_trusted)""",
    "step_trainer_trusted": f"""
        SELECT s.sensorReadingTime, trim(s.serialNumber, {WHITE}) AS serialNumber,
               s.distanceFromObject, min(s.ingest_date) AS ingest_date
        FROM step_trainer_landing s
        WHERE trim(s.serialNumber, {WHITE}) IN (
            SELECT serialNumber FROM current_records GROUP BY 1 HAVING count(*) = 1
            INTERSECT SELECT serialNumber FROM customers_curated)
        GROUP BY ALL""",
    "machine_learning_curated": """
        SELECT sha256('salt' || c.email) AS subject_id, s.sensorReadingTime, s.distanceFromObject,
               a.x, a.y, a.z, greatest(s.ingest_date, a.ingest_date) AS ingest_date
        FROM step_trainer_trusted s
        JOIN customers_curated c USING (serialNumber)
        JOIN accelerometer_trusted a
          ON a."user" = c.email AND a."timestamp" = s.sensorReadingTime""",
}


def main(source: Path, out: Path) -> dict[str, int]:
    """Make the tables; rows by table."""
    out.mkdir(parents=True, exist_ok=True)
    db = duckdb.connect(config={"threads": 2})
    for entity, columns in COLUMNS.items():
        struct = {c.split()[0].strip('"'): c.split()[1] for c in columns.split(", ")}
        db.execute(
            f"CREATE TABLE {entity}_landing AS SELECT *, DATE '2022-06-18' AS ingest_date"
            f" FROM read_json('{source}/{entity}/*.json', format='newline_delimited',"
            f" columns={struct}, ignore_errors=true)"
        )
    current = TABLES["customer_trusted"]
    db.execute(f"CREATE TABLE current_records AS {current}")
    TABLES["customer_trusted"] = "SELECT * FROM current_records WHERE shareWithResearchAsOfDate > 0"
    for name, query in TABLES.items():
        db.execute(f"CREATE TABLE {name} AS {query}")
    names = [f"{entity}_landing" for entity in COLUMNS] + list(TABLES)
    for name in names:
        db.execute(f"COPY {name} TO '{out}/{name}.parquet' (FORMAT parquet)")
    return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
