"""An engine's error is shown without data, never swallowed, and kept in full for its owner."""

import os
import time

import pytest

from stedi_assets.errors import StediError
from stedi_assets.spark.error_log import MAX_FILES, write_error_log
from stedi_assets.spark.errors import (
    diagnosis,
    redact,
    redact_engine_errors,
    redacted_message,
    shown_key,
)


class EngineError(Exception):
    """As an engine raises it: of its own package, with a condition."""

    __module__ = "pyspark.errors"

    def getCondition(self) -> str:
        return "CAST_INVALID_INPUT"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Cast error: Cannot cast string 'O'Brien' to Int64", "Cast error: Cannot cast string '…'"),
        ("[CAST_INVALID_INPUT] The value 'Ann of type", "[CAST_INVALID_INPUT] The value '…'"),
        ("[USER_RAISED_EXCEPTION] Ann", "[USER_RAISED_EXCEPTION] …"),
        ("Ann Example born 1990-01-01, serial 5551234567", "…"),
        ("Failed to parse a@example.com\nAnn", "Failed to parse …"),
        ("Generic S3 error: No space left on device", "Generic S3 error: No space left on device"),
        ("delta: commit version 12 has conflicts", "delta: commit version 12 has conflicts"),
    ],
)
def test_only_the_engines_own_words_are_shown(message, shown):
    line = redact(message)
    assert line.startswith(shown)
    assert not any(value in line for value in ("Ann", "Brien", "a@", "1990", "5551234567"))


def test_ingest_dates_are_shown_and_birthdays_are_not():
    line = redact("a row of customer_trusted has ingest_date 2022-06-19, born 1990-01-02")
    assert line.startswith("a row of customer_trusted has ingest_date 2022-06-19")
    assert "1990" not in line


def test_object_keys_are_shown_without_an_address_in_them():
    line = redact("External error: 'landing/customer/ingest_date=2022-06-18/ann@x.org/b.json' lost")
    assert "landing/customer/ingest_date=2022-06-18/…/b.json" in line
    assert "ann" not in line


@pytest.mark.parametrize(
    "name",
    [
        "ann@x.org.json",
        "ann%40x.org.json",
        "ann%2540x.org",
        "ann&#64;x.org",
        "ann&#64x.org",
        "ann&commat;x.org",
        r"ann\u0040x.org",
        r"ann\\u0040x.org",
        r"ann\x40x.org",
        r"ann\100x.org",
        r"ann\U00000040x.org",
        r"ann\u{40}x.org",
        r"ann\u{000000040}x.org",
        "ann&#00000064;x.org",
        "ann&#x" + 5000 * "0" + "40;x.org",
        "ann&#" + 5000 * "0" + "64x.org",
        "ann%u0040x.org",
        "ann＠x.org",
        "ann%EF%BC%A0x.org",
        "ann%" + 20 * "25" + "40x.org",
    ],
)
def test_a_key_is_shown_without_an_address_however_that_is_escaped(name):
    assert shown_key(f"landing/customer/{name}/b%20.json") == "landing/customer/…/b%20.json"


@pytest.mark.parametrize(
    "message",
    [
        "Cannot cast string 'Jane Blanding' to value of Int64 type",
        "[CAST_INVALID_INPUT] The value 'Blanding/customer/Jane' cannot be cast",
        "The value 'Jane_delta_log' of landing/Jane",
        "ingest_date=Jane landing",
        "the landing is Jane's_delta_log/",
    ],
)
def test_a_word_that_is_no_key_is_not_shown_as_one(message):
    line = redact(message)
    assert "(object" not in line
    assert "Jane" not in line
    assert "Blanding" not in line


@pytest.mark.parametrize(
    "key",
    [
        "landing/step_trainer/ingest_date=2022-06-18/b.json",
        "s3://lake/a/landing/customer_landing/_delta_log/00000000000000000001.json",
        "trusted/step_trainer_trusted/ingest_date=2022-06-18/part-0.parquet",
        "s3a://lake/trusted/customer_trusted/_delta_log/_last_checkpoint",
    ],
)
def test_keys_of_objects_and_of_data_files_are_shown(key):
    for message in (f"lost: {key}", f'Path {{ raw: "{key}" }}', f"({key}), lost"):
        assert f"(object {key}" in redact(message)


def test_class_code_operation_and_table_are_shown_and_the_full_text_is_the_owners(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("STEDI_HOME", str(tmp_path))
    monkeypatch.setenv("STEDI_ERROR_LOG", "on")
    with (
        pytest.raises(StediError) as error,
        redact_engine_errors("Writing customer_trusted"),
    ):
        raise EngineError("[CAST_INVALID_INPUT] The value 'Ann' cannot be cast")
    line = str(error.value)
    assert line.startswith("Writing customer_trusted failed: EngineError [CAST_INVALID_INPUT]: The")
    assert "Ann" not in line
    assert "\n" not in line
    (file,) = (tmp_path / "errors").iterdir()
    assert str(file) in line
    assert "The value 'Ann' cannot be cast" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_of_an_error_that_py4j_wraps_class_and_code_are_java_s():
    text = (
        "An error occurred while calling o9.save.\n: org.apache.spark.SparkException:"
        " [FAILED_READ_FILE.NO_HINT] Encountered error while reading file Ann. SQLSTATE: KD001\n"
        "\tat org.apache.spark.sql.errors"
    )
    assert redacted_message(RuntimeError(text)).startswith(
        "SparkException [FAILED_READ_FILE.NO_HINT]: … error while reading file …"
    )


def test_of_a_java_error_without_a_message_the_class_is_shown():
    text = "An error occurred while calling o9.save.\n: java.lang.OutOfMemoryError\n\tat java.base"
    assert redacted_message(RuntimeError(text)) == "OutOfMemoryError: no message"


def test_words_that_somebody_typed_are_no_diagnosis():
    line = redacted_message(RuntimeError("cannot resolve attribute Forbidden"), "SELECT Forbidden")
    assert line == "RuntimeError: cannot resolve attribute Forbidden"


def test_an_error_that_cannot_say_what_it_is_any_more_is_shown_by_its_class():
    class Dead(EngineError):
        def __str__(self) -> str:
            raise ConnectionRefusedError

        getCondition = __str__

    assert redacted_message(Dead()) == "Dead: no message"


def test_the_status_of_grpc_is_shown_where_pyspark_keeps_it_in_the_text_only():
    text = "<_MultiThreadedRendezvous of RPC that:\n\tstatus = StatusCode.CANCELLED\n"
    assert redacted_message(RuntimeError(text)).startswith("RuntimeError [CANCELLED]: ")


def test_the_full_text_is_kept_nowhere_when_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv("STEDI_HOME", str(tmp_path))
    monkeypatch.setenv("STEDI_ERROR_LOG", "off")
    assert "full text" not in redacted_message(EngineError("The value 'Ann'"))
    assert not (tmp_path / "errors").exists()


def test_half_a_character_in_a_full_text_is_kept_as_its_escape(tmp_path):
    path = write_error_log("half \ud800", tmp_path)
    assert path.read_text() == "half \\ud800"


def test_a_folder_that_cannot_be_written_does_not_hide_the_error(tmp_path):
    (tmp_path / "file").touch()
    assert write_error_log("text", tmp_path / "file" / "errors") is None


def test_full_texts_are_few_and_go_after_a_week(tmp_path):
    old = write_error_log("old", tmp_path)
    assert old is not None
    week_ago = time.time() - 8 * 86_400
    os.utime(old, (week_ago, week_ago))
    for _ in range(MAX_FILES + 5):
        write_error_log("text", tmp_path)
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == MAX_FILES


def test_an_error_of_another_class_is_an_engines_where_its_code_raised_it():
    engine = {"__name__": "pyspark.sql.connect.conversion"}
    exec("def convert(): raise ValueError('Ann Example')", engine)
    expected = pytest.raises(StediError, match=r"^Reading failed: ValueError: …$")
    with expected, redact_engine_errors("Reading"):
        engine["convert"]()


def test_our_own_error_passes_where_an_engine_called_us():
    engine = {"__name__": "pyspark.sql.connect.dataframe"}
    exec("def transform(function): function()", engine)

    def ours():
        raise StediError("ours")

    with pytest.raises(StediError, match=r"^ours$"), redact_engine_errors("Reading"):
        engine["transform"](ours)


def test_errors_that_are_not_an_engines_pass_as_they_are():
    with pytest.raises(ValueError, match="ours"), redact_engine_errors("Reading"):
        raise ValueError("ours")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("[JAVA_GATEWAY_EXITED] Java gateway process exited", "io.delta:delta-spark_4.1_2.13"),
        ("[DATA_SOURCE_NOT_FOUND] Failed to find the data source: delta", "there is no Delta"),
        ("java.lang.ClassNotFoundException: io.delta.package", "there is no Delta"),
        ("ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found", "s3://"),
        ('UnsupportedFileSystemException: No FileSystem for scheme "s3"', "s3:// URIs"),
        ("java.lang.NoSuchMethodError: 'void org.apache.spark.X'", "do not fit one another"),
        ("Status Code: 403; Error Code: InvalidAccessKeyId", "refuses its keys"),
        ("[PYTHON_VERSION_MISMATCH] Python in worker has different", "PYSPARK_PYTHON"),
        ("<_InactiveRpcError status = StatusCode.UNAVAILABLE", "went away"),
    ],
)
def test_a_known_failure_says_what_to_do(message, expected):
    line = diagnosis(f"{message}\n\tat org.apache.spark", "sc://host:15002")
    assert line is not None
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Cast error: Cannot cast string 'a@b.example' to value of Int32 type", "Cannot cast"),
        ("a@b.example", "…"),
        ('attribute ObjectName([Identifier("emial")]) is missing from the schema', "emial"),
    ],
)
def test_of_a_query_that_fails_what_was_typed_is_shown_and_no_value(said, shown):
    line = redact(said, "SELECT cast(emial AS int) FROM customer_trusted")
    assert shown in line
    assert "example" not in line
