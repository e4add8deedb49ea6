"""What is registered in the Glue Data Catalog (moto's server), and what is left alone there."""

import re
import uuid
from dataclasses import replace

import botocore.session
import pytest

from stedi_assets.catalog.sync import sync
from stedi_assets.catalog.table_input import ddl, table_inputs
from stedi_assets.errors import StediError
from stedi_assets.settings import load_settings
from stedi_assets.tables.schemas import TABLES

SETTINGS = load_settings(
    {
        "STEDI_LAKE": "s3://lake/stedi",
        "STEDI_SUBJECT_SALT": "salt of the tests",
        "STEDI_FIRST_INGEST_DATE": "",
    }
)
RAW = {"customer_raw", "accelerometer_raw", "step_trainer_raw"}


@pytest.fixture
def glue(aws):
    return aws("glue")


@pytest.fixture
def database(glue):
    name = f"stedi_{uuid.uuid4().hex}"
    glue.create_database(DatabaseInput={"Name": name})
    yield name
    glue.delete_database(Name=name)


def entry(glue, database, name):
    return glue.get_table(DatabaseName=database, Name=name)["Table"]


def test_eight_tables_and_the_landed_json_are_registered(glue, database):
    outcomes = sync(glue, database, SETTINGS, set(TABLES))
    assert outcomes == dict.fromkeys({*TABLES, *RAW}, "created")
    table = entry(glue, database, "customer_landing")
    storage = table["StorageDescriptor"]
    assert storage["Location"] == "s3://lake/stedi/landing/customer_landing"
    assert storage["SerdeInfo"]["Parameters"]["path"] == storage["Location"]
    assert table["Parameters"]["spark.sql.sources.provider"] == "delta"
    assert table["Parameters"]["table_type"] == "delta"
    columns = {c["Name"]: (c["Type"], c["Comment"]) for c in storage["Columns"]}
    registered = TABLES["customer_landing"].columns[5]
    assert columns["registrationdate"] == ("bigint", registered.description)
    assert list(columns)[-1] == "ingest_date"


def test_repeating_changes_nothing(glue, database):
    sync(glue, database, SETTINGS, set(TABLES))
    versions = {name: entry(glue, database, name)["VersionId"] for name in {*TABLES, *RAW}}
    assert set(sync(glue, database, SETTINGS, set(TABLES)).values()) == {"unchanged"}
    assert {name: entry(glue, database, name)["VersionId"] for name in versions} == versions


def test_another_location_updates_the_entries_and_keeps_what_engines_put_there(glue, database):
    sync(glue, database, SETTINGS, set(TABLES))
    table_input = table_inputs(SETTINGS)["customer_trusted"]
    table_input["Parameters"]["trino_version"] = "476"
    glue.update_table(DatabaseName=database, TableInput=table_input)
    moved = replace(SETTINGS, prefix="elsewhere")
    assert set(sync(glue, database, moved, set(TABLES)).values()) == {"updated"}
    table = entry(glue, database, "customer_trusted")
    assert table["StorageDescriptor"]["Location"] == "s3://lake/elsewhere/trusted/customer_trusted"
    assert table["Parameters"]["trino_version"] == "476"


def test_another_schema_updates_the_entry(glue, database):
    older = table_inputs(SETTINGS)["customers_curated"]
    older["StorageDescriptor"]["Columns"].pop()
    glue.create_table(DatabaseName=database, TableInput=older)
    assert sync(glue, database, SETTINGS, set(TABLES))["customers_curated"] == "updated"
    columns = entry(glue, database, "customers_curated")["StorageDescriptor"]["Columns"]
    assert columns[-1]["Name"] == "ingest_date"


def test_a_table_of_somebody_else_is_left_alone(glue, database):
    theirs = {"Name": "customer_trusted", "Parameters": {"owner": "somebody else"}}
    glue.create_table(DatabaseName=database, TableInput=theirs)
    outcomes = sync(glue, database, SETTINGS, set(TABLES))
    assert outcomes.pop("customer_trusted") == "not ours"
    assert set(outcomes.values()) == {"created"}
    table = entry(glue, database, "customer_trusted")
    assert table["Parameters"] == theirs["Parameters"]
    assert "Location" not in table.get("StorageDescriptor", {})


def test_a_table_that_was_never_written_waits(glue, database):
    outcomes = sync(glue, database, SETTINGS, {"customer_landing"})
    waiting = {name for name, outcome in outcomes.items() if outcome == "not written yet"}
    assert waiting == set(TABLES) - {"customer_landing"}
    registered = {t["Name"] for t in glue.get_tables(DatabaseName=database)["TableList"]}
    assert registered == {"customer_landing", *RAW}


def test_a_missing_database_is_one_line(glue):
    with pytest.raises(StediError, match="no Glue database nowhere: create it"):
        sync(glue, "nowhere", SETTINGS, set(TABLES))


@pytest.mark.parametrize("name", [*TABLES, *sorted(RAW)])
def test_an_entry_is_within_glues_limits(name):
    model = botocore.session.get_session().get_service_model("glue")
    assert list(violations(table_inputs(SETTINGS)[name], model.shape_for("TableInput"))) == []


def violations(value, shape, path="TableInput"):
    """The places where a value breaks the limits of botocore's model, which AWS alone enforces."""
    limits = shape.metadata
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from violations(member, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for number, member in enumerate(value):
            yield from violations(member, shape.member, f"{path}[{number}]")
    elif shape.type_name == "map":
        for key, member in value.items():
            yield from violations(key, shape.key, f"{path}[{key}]")
            yield from violations(member, shape.value, f"{path}[{key}]")
    elif shape.type_name == "string":
        pattern = limits.get("pattern", "").replace(r"\uD800\uDC00-\uDBFF\uDFFF", "")
        too_long = len(value) > limits.get("max", len(value)) or len(value) < limits.get("min", 0)
        if too_long or (pattern and not re.fullmatch(pattern, value)):
            yield path


def test_a_comment_that_is_too_long_breaks_the_limits():
    model = botocore.session.get_session().get_service_model("glue")
    table_input = table_inputs(SETTINGS)["customer_landing"]
    table_input["StorageDescriptor"]["Columns"][0]["Comment"] = "x" * 256
    found = list(violations(table_input, model.shape_for("TableInput")))
    assert found == ["TableInput.StorageDescriptor.Columns[0].Comment"]


def test_the_ddl_of_a_delta_table_is_its_location_and_type():
    assert ddl(SETTINGS, "db")["machine_learning_curated"] == (
        "CREATE EXTERNAL TABLE `db`.`machine_learning_curated`\n"
        "LOCATION 's3://lake/stedi/curated/machine_learning_curated/'\n"
        "TBLPROPERTIES ('table_type'='DELTA');"
    )


def test_the_ddl_of_landed_json_computes_its_partitions():
    statement = ddl(SETTINGS, "db")["accelerometer_raw"]
    assert "  `timestamp` string,\n" in statement
    assert "ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'" in statement
    assert "'projection.ingest_date.range'='2022-06-18,NOW'" in statement
    template = "s3://lake/stedi/landing/accelerometer/ingest_date=${ingest_date}/"
    assert f"'storage.location.template'='{template}'" in statement
    assert set(ddl(SETTINGS, "db")) == {*TABLES, *RAW}
