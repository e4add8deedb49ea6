"""`stedi catalog`, against moto's Glue."""

import uuid

import pytest
from click.testing import CliRunner

from stedi_assets.cli.main import main
from stedi_assets.tables.schemas import TABLES


@pytest.fixture
def database(aws, moto_endpoint, lake, monkeypatch):
    name = f"stedi_{uuid.uuid4().hex}"
    glue = aws("glue", "us-east-1")
    glue.create_database(DatabaseInput={"Name": name})
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", moto_endpoint)
    monkeypatch.setenv("STEDI_GLUE_DATABASE", name)
    yield name
    glue.delete_database(Name=name)


def run(*arguments):
    return CliRunner().invoke(main, ["catalog", *arguments])


def test_sync_says_what_it_did_with_each_table(database):
    done = run("sync")
    assert done.exit_code == 0, done.output
    assert dict(line.split(": ") for line in done.output.splitlines()) == {
        **dict.fromkeys(TABLES, "not written yet"),
        **dict.fromkeys(("customer_raw", "accelerometer_raw", "step_trainer_raw"), "created"),
    }
    assert "customer_raw: unchanged\n" in run("sync").output


def test_sync_names_a_table_of_somebody_else(database, aws):
    aws("glue", "us-east-1").create_table(
        DatabaseName=database, TableInput={"Name": "customer_raw", "Parameters": {}}
    )
    done = run("sync")
    assert done.exit_code == 1
    assert "left alone: customer_raw. Drop them" in done.output
    assert "step_trainer_raw: created\n" in done.output


def test_sync_without_a_database_or_with_the_embedded_lake_is_one_line(lake, monkeypatch):
    assert "STEDI_GLUE_DATABASE is not set" in run("sync").output
    monkeypatch.setenv("STEDI_GLUE_DATABASE", "stedi")
    assert "The embedded lake has no Glue catalogue" in run("sync").output


def test_ddl_is_a_statement_for_each_table(lake):
    done = run("ddl")
    assert done.exit_code == 0, done.output
    assert done.output.count("CREATE EXTERNAL TABLE `stedi`.") == len(TABLES) + 3
