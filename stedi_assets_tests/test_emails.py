"""Emails are compared in Unicode's NFC, trimmed, in lower case, alike on every engine."""

import pytest

from stedi_assets.tables.rules import normalize_email, normalized_email
from stedi_assets_tests.reference import compared

EMAILS = ["Ann@Example.com", " \t\r\nann@example.com\n", "\u00a0nb@example.com", "", None]
EMAILS += [
    "JOSE\u0301@example.com",
    "josé@example.com",
    "JOSÉ@EXAMPLE.COM",
    "A\u030a@x",
    "\u212b@x",
]
EMAILS += ["J\u030c@x", "\u01f0@x", "ΑΣ@Example.com", "İ@x", "I\u0307@x", "\u1100\u1161@x", "🚲@x"]


@pytest.fixture
def spark(lake):
    return lake.pipeline.lakehouse.spark_session


@pytest.mark.every_engine
def test_an_email_is_the_same_person_whichever_way_it_is_written(spark):
    frame = spark.createDataFrame([(email,) for email in EMAILS], "email string")
    rows = frame.select("email", normalized_email("email").alias("normalized")).collect()
    assert {row.email: row.normalized for row in rows} == {
        email: None if email is None else compared(email) for email in EMAILS
    }


@pytest.mark.every_engine
def test_an_email_can_be_a_key_of_groups_joins_and_filters(spark):
    frame = spark.createDataFrame([(email,) for email in EMAILS if email], "email string")
    named = frame.select(normalized_email("email").alias("email"))
    people = {compared(email) for email in EMAILS if email}
    assert named.distinct().count() == named.groupBy("email").count().count() == len(people)
    assert named.join(named.distinct(), "email").count() == frame.count()
    assert frame.where(normalized_email("email") == "josé@example.com").count() == 3


def test_an_email_at_hand_is_normalized_as_in_the_tables():
    assert all(normalize_email(email) == compared(email) for email in EMAILS if email is not None)
