"""Nothing of a person who left is in any object under trusted/ and curated/, each one decoded."""

import io

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from stedi_assets.cli import main
from stedi_assets.settings import today
from stedi_assets_tests.test_catch_up import DATES, landed, person, three_days


def everything_in(lake, *zones: str) -> str:
    """Every object under some prefixes as text: parquet decoded with its statistics."""
    texts = []
    for zone in zones:
        for found in lake.lake.objects(f"{zone}/"):
            key = lake.lake.settings.key(found["Key"])
            body = lake.lake.client.get_object(Bucket="stedi", Key=key)["Body"].read()
            if found["Key"].endswith(".parquet"):
                table = pq.read_table(io.BytesIO(body))
                metadata = pq.ParquetFile(io.BytesIO(body)).metadata
                columns = [
                    str(metadata.row_group(g).column(c).statistics)
                    for g in range(metadata.num_row_groups)
                    for c in range(metadata.num_columns)
                ]
                texts.append(f"{found['Key']} {table.to_pylist()} {columns}")
            else:
                texts.append(f"{found['Key']} {body!r}")
    return "\n".join(texts)


def run(*arguments: str, email: str = "") -> str:
    result = CliRunner().invoke(main, list(arguments), input=email, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_after_erase_now_nothing_of_a_withdrawn_person_is_left(lake):
    three_days(lake)
    assert "p1@example.com" in everything_in(lake, "trusted", "curated")
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    run("erase", "--now")
    left = everything_in(lake, "trusted", "curated", "_stedi/settled")
    assert "p1@example.com" not in left
    assert '"d1"' not in left
    assert "p2@example.com" in left
    assert lake.differences() == {}
    assert lake.catch_up() == 0
    lake.materialize(DATES[0], DATES[2])
    assert lake.differences() == {}


@pytest.mark.slow
def test_forget_takes_a_person_out_of_landed_objects_too_and_leaves_an_audit_row(lake):
    three_days(lake)
    lake.put(landed("customer", DATES[1], "broken", '{"email": "P1@example.com", '))
    run("forget", email="P1@example.com \n")
    assert "p1@example.com" not in everything_in(lake, "").lower()
    assert "p2@example.com" in everything_in(lake, "landing")
    audit = [lake.lake.get_json(found["Key"]) for found in lake.lake.objects("_stedi/audit/")]
    assert [row["rows"] for row in audit] == [
        {"customer_landing": 2, "accelerometer_landing": 2, "step_trainer_landing": 1}
    ]
    assert audit[0]["when"].startswith(str(today()))
    assert sum(lake.table("machine_learning_curated").values()) == 2


def test_consent_says_what_is_held_without_saying_who(lake):
    three_days(lake)
    said = run("consent", email="p1@example.com\n")
    assert '"consents": true' in said
    assert '"machine_learning_curated": 1' in said
    assert "p1@" not in said
