"""Settings: every wrong value is one line that names it."""

from pathlib import Path

import pytest

from stedi_assets.errors import SettingsError, shown_address
from stedi_assets.settings import dagster_home, load_settings

SALT = "sixteen letters."


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STEDI_LAKE": "/data"}, "STEDI_LAKE='/data' is not an S3 location"),
        ({"STEDI_LAKE": "s3://B!"}, "is not an S3 location"),
        ({"STEDI_LAKE": "s3://bucket/a\nb"}, "is not an S3 location"),
        ({"STEDI_FIRST_INGEST_DATE": "18.6.2022"}, "is not a date"),
        ({"STEDI_FIRST_INGEST_DATE": "0001-01-01"}, "is not a date"),
        ({"STEDI_FIRST_INGEST_DATE": "2199-01-01"}, "lies in the future"),
        ({"STEDI_CONSENT_SCOPE": "all"}, "is not one of: customer, reading"),
        ({"STEDI_SPARK": "yarn"}, "is not one of: embedded"),
        ({"STEDI_MAX_MALFORMED_SHARE": "2"}, "is not a number from 0 to 1"),
        ({"STEDI_RETENTION_DAYS": "2.5"}, "is not a whole number from 0 to 36,500"),
        ({"STEDI_MAX_OBJECT_BYTES": "1"}, "is not a whole number from 1,000 to"),
        ({"STEDI_ERROR_LOG": "yes"}, "is not one of: on, off"),
        ({"STEDI_EVENTS_QUEUE": "stedi-events"}, "is not the URL of an SQS queue"),
        ({"STEDI_GLUE_DATABASE": "stedi-lake"}, "is not the name of a Glue database"),
        ({"STEDI_ATHENA_WORKGROUP": "my group"}, "is not the name of an Athena workgroup"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(environ, message):
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(environ)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "my lake",
        "team%20a",
        "2022/#1",
        "q?x",
        "a*",
        "[a]",
        "a{b}",
        "café",
        "a//b",
        "/a",
        "a//",
        ".",
        "a/../b",
        "a/./b",
        "a:b",
        "a\\b",
    ],
)
def test_a_prefix_that_an_engine_would_read_otherwise_is_refused_in_one_line(prefix):
    with pytest.raises(SettingsError, match="its prefix may hold only ASCII letters") as error:
        load_settings({"STEDI_LAKE": f"s3://bucket/{prefix}"})
    assert "\n" not in str(error.value)


def test_a_token_in_a_lakes_address_is_not_repeated():
    with pytest.raises(SettingsError, match="its prefix may hold only") as error:
        load_settings({"STEDI_LAKE": "s3://bucket/lake?X-Amz-Signature=abc123"})
    assert "abc123" not in str(error.value)


def test_a_lake_of_ones_own_needs_a_salt():
    settings = load_settings({"STEDI_LAKE": "s3://bucket/some/prefix/"})
    assert settings.lake == "s3://bucket/some/prefix"
    assert settings.key("a/b") == "some/prefix/a/b"
    with pytest.raises(SettingsError, match="STEDI_SUBJECT_SALT is not set"):
        settings.salt()


def test_a_salt_that_can_be_guessed_is_refused_and_not_shown():
    with pytest.raises(SettingsError, match=r"has 6 characters; .* at least 16") as error:
        load_settings({"STEDI_LAKE": "s3://bucket", "STEDI_SUBJECT_SALT": "secret"})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"STEDI_SPARK": "sc://host/;token=secret"},
        {"STEDI_SPARK": "sc://me:secret@host"},
        {"STEDI_SPARK": "sc://host;token=x@secret"},
        {"STEDI_SPARK": "me:secret@host:15002"},
        {"STEDI_LAKE": "s3://key:sec/ret;secret@bucket"},
        {"STEDI_EVENTS_QUEUE": "sqs://me:secret@host/queue"},
    ],
)
def test_a_secret_in_a_wrong_address_is_not_shown(environ):
    with pytest.raises(SettingsError, match="is not ") as error:
        load_settings(environ)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sc://spark:15002/;token=secret", "sc://spark:15002"),
        ("http://me:se/c://ret@s3.example.com:9000", "http://…@s3.example.com:9000"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/path", "http://[::1]:9000/path"),
        ("spark://one:7077,two:7077", "spark://one:7077,two:7077"),
        ("localhost:9000", "localhost:9000"),
        ("http://host/path#token=secret", "http://host/path"),
        ("http://me:secret%40host:9000", "http://…@host:9000"),
        ("http://me:secret%2540host", "http://…@host"),
        ("http://me:secret＠host", "http://…@host"),
        ("http://me:secret", "http://…"),
        ("me:secret", "…"),
        ("local[*]", "local[*]"),
    ],
)
def test_of_an_address_is_shown_where_it_leads(address, shown):
    assert shown_address(address) == shown


def test_the_embedded_lake_takes_any_salt():
    settings = load_settings({"STEDI_SUBJECT_SALT": "short"})
    assert settings.salt() == "short"


def test_without_a_lake_no_aws_variable_matters(tmp_path):
    aws = {"AWS_ENDPOINT_URL": "https://s3.example.com", "STEDI_HOME": str(tmp_path)}
    settings = load_settings(aws)
    assert settings.embedded
    assert settings.endpoint == "http://127.0.0.1:9"


def test_the_salt_is_in_no_representation():
    settings = load_settings({"STEDI_LAKE": "s3://bucket", "STEDI_SUBJECT_SALT": SALT})
    assert SALT not in repr(settings)


def test_full_texts_of_errors_are_kept_below_the_home_or_nowhere(tmp_path):
    home = {"STEDI_HOME": str(tmp_path)}
    assert load_settings(home).error_folder == tmp_path / "errors"
    assert load_settings(home | {"STEDI_ERROR_LOG": "off"}).error_folder is None


def test_the_dagster_home_is_an_absolute_path_of_a_folder_or_unset(tmp_path):
    assert dagster_home({}) is None
    assert dagster_home({"DAGSTER_HOME": ""}) is None
    assert dagster_home({"DAGSTER_HOME": str(tmp_path)}) == Path(tmp_path)
    with pytest.raises(SettingsError, match="is a relative path: write it as an absolute one"):
        dagster_home({"DAGSTER_HOME": "dagster"})
    with pytest.raises(SettingsError, match="is not a folder: create it"):
        dagster_home({"DAGSTER_HOME": str(tmp_path / "missing")})
