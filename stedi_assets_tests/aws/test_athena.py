"""The tables as Athena sees them: Trino through moto's Glue catalogue (make test-athena)."""

import gzip
import io
import json
import re
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

import pandas
import pytest

from stedi_assets.catalog.athena import run_athena_query
from stedi_assets.catalog.sync import sync
from stedi_assets.errors import StediError
from stedi_assets.lakehouse.object_store import open_store
from stedi_assets.lakehouse.query import run_query
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.settings import load_settings
from stedi_assets.spark.session import SparkSessions
from stedi_assets.tables.schemas import TABLES
from stedi_assets_tests.aws import template, trino
from stedi_assets_tests.aws.athena_api import athena_api
from stedi_assets_tests.waiting import free_port

pytestmark = pytest.mark.athena

DOCUMENTED = re.findall(
    r"```sql\n(.*?)```", (template.ROOT / "docs" / "athena.md").read_text("utf-8"), re.DOTALL
)
SUMS = {
    "customer_landing": "count(_corrupt_record), sum(lastUpdateDate), count(DISTINCT email)",
    "accelerometer_landing": "count(_corrupt_record), sum(timestamp), round(sum(x + y + z), 4)",
    "step_trainer_landing": "count(_corrupt_record), sum(sensorReadingTime + distanceFromObject)",
    "customer_trusted": "sum(shareWithResearchAsOfDate), count(DISTINCT email)",
    "accelerometer_trusted": "sum(timestamp), round(sum(x + y + z), 4), count(DISTINCT t.user)",
    "step_trainer_trusted": "sum(sensorReadingTime + distanceFromObject)",
    "customers_curated": "sum(shareWithResearchAsOfDate), count(DISTINCT serialNumber)",
    "machine_learning_curated": "sum(sensorReadingTime), round(sum(x + y + z), 4),"
    " count(DISTINCT subject_id), min(ingest_date), max(ingest_date)",
}
QUERIES = [f"SELECT count(*), {sums} FROM {name} t" for name, sums in SUMS.items()] + DOCUMENTED


def stedi(*arguments):
    done = subprocess.run(
        [str(Path(sys.executable).with_name("stedi")), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_read(frame):
    """A frame as its CSV is read: Trino's answers have dates and decimals as text."""
    return pandas.read_csv(io.StringIO(frame.to_csv(index=False)))


class Lake:
    """A lake of synthetic data, in the embedded server, and Trino over it."""

    def __init__(self, folder, engine, glue):
        self.folder, self.trino, self.glue = folder, engine, glue
        self.settings = load_settings()
        self.sample = folder / "sample"
        stedi("sample", str(self.sample), "--customers", "30", "--first-date", "2022-06-18")
        stedi("land", str(self.sample))
        stedi("catch-up")

    def sync(self):
        return sync(self.glue, "stedi", self.settings, set(TABLES))

    def differences(self):
        """The queries that Trino and the embedded engine answer differently, with both answers."""
        lakehouse = Lakehouse(open_store(self.settings), SparkSessions())
        wrong = []
        for sql in QUERIES:
            ours = as_read(run_query(lakehouse, sql).to_pandas())
            columns, rows = self.trino.execute(sql)
            theirs = as_read(pandas.DataFrame(rows, columns=[c["name"] for c in columns]))
            if ours.to_numpy().tolist() != theirs.to_numpy().tolist():
                wrong.append((sql, ours.to_dict("records"), theirs.to_dict("records")))
        return wrong

    def count(self, table):
        return self.trino.query(f"SELECT count(*) FROM {table}")[0][0]


@pytest.fixture(scope="module")
def lake(tmp_path_factory, server, aws, moto_endpoint):
    folder = tmp_path_factory.mktemp("athena")
    s3 = {name: getattr(server, name) for name in ("endpoint", "access_key", "secret_key")}
    glue = aws("glue", "us-east-1")
    glue.create_database(DatabaseInput={"Name": "stedi"})
    port = free_port()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("STEDI_LAKE", f"s3://stedi/{uuid.uuid4().hex}")
        patched.setenv("STEDI_HOME", str(folder))
        with trino.running(folder, port, moto_endpoint, s3) as engine:
            made = Lake(folder, engine, glue)
            made.sync()
            yield made


def test_trino_counts_sums_and_joins_as_the_embedded_engine_does(lake):
    assert lake.differences() == []
    assert lake.count("machine_learning_curated") > 0


def test_columns_are_described_in_the_catalogue(lake):
    described = {row[0]: (row[1], row[3]) for row in lake.trino.query("DESCRIBE customer_trusted")}
    assert described["email"][0] == "varchar"
    assert described["ingest_date"][0] == "date"


def test_only_the_asked_ingest_dates_are_read(lake):
    where = "WHERE ingest_date = DATE '2022-06-18'"
    everything = lake.count("accelerometer_landing")
    ((plan,),) = lake.trino.query(f"EXPLAIN ANALYZE SELECT * FROM accelerometer_landing {where}")
    read = int(re.search(r"Input: ([\d,]+) rows", plan)[1].replace(",", ""))
    of_the_date = lake.count(f"accelerometer_landing {where}")
    assert 0 < of_the_date < everything
    assert read == of_the_date
    assert "ingest_date:date:PARTITION_KEY" in plan


def test_landed_json_is_seen_by_computed_partitions(lake):
    days = lake.trino.query(
        "SELECT ingest_date, count(email) FROM customer_raw"
        " WHERE ingest_date BETWEEN '2022-06-18' AND '2022-06-20' GROUP BY 1 ORDER BY 1",
        "hive",
    )
    assert days == sorted([day, count] for day, count in first_records(lake.sample).items())
    assert len(days) > 1
    registered = lake.glue.get_partitions(DatabaseName="stedi", TableName="customer_raw")
    assert registered["Partitions"] == []
    (asked,) = lake.trino.query(
        f"SELECT count(email) FROM customer_raw WHERE ingest_date = '{days[1][0]}'", "hive"
    )
    assert asked == [days[1][1]]


def first_records(sample):
    """By ingest date, the lines that begin with a customer's record: what the JSON SerDe sees."""
    counts = Counter()
    for path in sample.glob("customer/ingest_date=*/*"):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                try:
                    record, _ = json.JSONDecoder().raw_decode(line)
                except ValueError:
                    continue
                counts[path.parent.name.removeprefix("ingest_date=")] += "email" in record
    return counts


def test_pyathena_gives_the_rows(lake, monkeypatch):
    with athena_api(lake.trino) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ATHENA", endpoint)
        asked = {"workgroup": "stedi-privacy", "database": "stedi", "region": "us-east-1"}
        answer = run_athena_query("SELECT count(*) AS customers FROM customer_trusted", **asked)
        assert answer.to_pylist() == [{"customers": lake.count("customer_trusted")}]
        with pytest.raises(StediError, match=r"The query does not run: .*'nothing' cannot be"):
            run_athena_query("SELECT nothing FROM customer_trusted", **asked)
        failed_cast = "SELECT CAST(email AS bigint) FROM customer_trusted"
        with pytest.raises(StediError, match="Athena did not answer") as told:
            run_athena_query(failed_cast, **asked)
        assert "@" not in str(told.value)


def test_a_withdrawal_and_compaction_are_seen(lake):
    ((email,),) = lake.trino.query(
        "SELECT c.email FROM customers_curated c JOIN step_trainer_trusted s"
        " ON c.serialNumber = s.serialNumber GROUP BY c.email ORDER BY count(*) DESC LIMIT 1"
    )
    before = {name: lake.count(name) for name in TABLES}
    withdraw(lake, email)
    stedi("catch-up")
    assert set(lake.sync().values()) == {"unchanged"}
    assert lake.differences() == []
    after = {name: lake.count(name) for name in TABLES}
    assert after["customer_trusted"] == before["customer_trusted"] - 1
    assert after["machine_learning_curated"] < before["machine_learning_curated"]
    stedi("erase", "--now")
    assert lake.differences() == []
    assert {name: lake.count(name) for name in TABLES} == after


def withdraw(lake, email):
    names = TABLES["customer_trusted"].column_names[:-1]
    (row,) = lake.trino.query(
        f"SELECT {', '.join(names)} FROM customer_trusted WHERE email = '{email}'"
    )
    newest = dict(zip(names, row, strict=True)) | {"shareWithResearchAsOfDate": None}
    newest["lastUpdateDate"] += 1
    landing = lake.folder / "withdrawal" / "customer"
    landing.mkdir(parents=True)
    (landing / "withdrawal.json").write_text(json.dumps(newest))
    stedi("land", str(landing.parent), "--ingest-date", "2022-06-20", "--mix")
