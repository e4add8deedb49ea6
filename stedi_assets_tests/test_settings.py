"""Settings: every wrong value is one line that names it."""

import pytest

from stedi_assets.errors import SettingsError
from stedi_assets.settings import load_settings


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STEDI_LAKE": "/data"}, "STEDI_LAKE='/data' is not an S3 location"),
        ({"STEDI_LAKE": "s3://B!"}, "is not an S3 location"),
        ({"STEDI_FIRST_INGEST_DATE": "18.6.2022"}, "is not a date"),
        ({"STEDI_FIRST_INGEST_DATE": "2199-01-01"}, "lies in the future"),
        ({"STEDI_CONSENT_SCOPE": "all"}, "is not one of: customer, reading"),
        ({"STEDI_SPARK": "yarn"}, "is not one of: embedded"),
        ({"STEDI_MAX_MALFORMED_SHARE": "2"}, "is not a number from 0 to 1"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(environ, message):
    with pytest.raises(SettingsError, match=message) as error:
        load_settings(environ)
    assert "\n" not in str(error.value)


def test_a_lake_of_ones_own_needs_a_salt():
    settings = load_settings({"STEDI_LAKE": "s3://bucket/some/prefix/"})
    assert settings.lake == "s3://bucket/some/prefix"
    assert settings.key("a/b") == "some/prefix/a/b"
    with pytest.raises(SettingsError, match="STEDI_SUBJECT_SALT is not set"):
        settings.salt()


def test_without_a_lake_no_aws_variable_matters(tmp_path):
    aws = {"AWS_ENDPOINT_URL": "https://s3.example.com", "STEDI_HOME": str(tmp_path)}
    settings = load_settings(aws)
    assert settings.embedded
    assert settings.endpoint == "http://127.0.0.1:9"


def test_the_salt_is_in_no_representation():
    settings = load_settings({"STEDI_LAKE": "s3://bucket", "STEDI_SUBJECT_SALT": "secret"})
    assert "secret" not in repr(settings)
