"""Emails are compared in Unicode's NFC, trimmed, in lower case, alike on every engine."""

import unicodedata

import pytest

from stedi_assets.errors import StediError
from stedi_assets.privacy.address_search import identity, is_address
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


@pytest.mark.parametrize(
    ("typed", "email"),
    [
        ("ann@example.com", "ann@example.com"),
        (" Ann@Example.com\t\r\n", "ann@example.com"),
        (unicodedata.normalize("NFD", "É@example.com"), "é@example.com"),
        ('"jo ann"@example.com', '"jo ann"@example.com'),
        ("o'brien&sons@example.com", "o'brien&sons@example.com"),
    ],
)
def test_an_address_as_typed_is_normalized(typed, email):
    assert identity(typed) == email
    assert is_address(email)


# What may stand as an email in a table, and is no address.
ODD = [
    "ann smith@example.com",
    "Ann Smith <ann@example.com>",
    "ann@example.com;",
    "a@example.com b@example.com",
    "a@b.com,c@d.com",
    "a@b.com\nc@d.com",
    "ann",
    "a",
    "@example.com",
    "ann@",
    "\u00a0ann@example.com",
    "\ufeffann@example.com\u3000",
    "a\0@b.com",
    "{}",
    "\u00a0",
]


@pytest.mark.parametrize("typed", ODD)
def test_what_is_no_address_may_be_an_identity_exactly_as_it_is(typed):
    assert identity(f" \t{typed}\r\n") == typed.lower()
    assert not is_address(typed.lower())


@pytest.mark.parametrize("typed", ["", " \t\r\n"])
def test_nothing_is_nobodys_identity(typed):
    with pytest.raises(StediError, match="Give the email"):
        identity(typed)
