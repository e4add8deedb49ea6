"""Whole processes over data with odd cases: nobody's name, email or device is in what they say."""

import gzip
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from pyspark.sql import functions as F

from stedi_assets.cli.main import main
from stedi_assets.defs import table_checks as checks
from stedi_assets.incremental import membership
from stedi_assets.incremental.read_rows import ReadRows
from stedi_assets_tests.odd_data import DATES, T0, compact
from stedi_assets_tests.test_catch_up import landed

STEDI = str(Path(sys.executable).with_name("stedi"))
# Every personal value of the data has this in it.
MARK = "findme"
EMAIL = f"{MARK}@example.com"
CUSTOMER = {
    "customerName": f'Ann O\'{MARK} "Nick"',
    "email": EMAIL,
    "phone": f"{MARK} 5550100",
    "birthDay": f"{MARK} 1990-01-01",
    "serialNumber": f"{MARK}-device",
    "registrationDate": T0,
    "lastUpdateDate": T0,
    "shareWithResearchAsOfDate": T0,
}
READING = {"user": EMAIL, "timestamp": T0, "x": 1.0, "y": 2.0, "z": 3.0}
STEP = {"sensorReadingTime": T0, "serialNumber": f"{MARK}-device", "distanceFromObject": 1}


def odd(record: dict) -> list[str]:
    """A record, and texts that are nearly one."""
    line = compact(record)
    return [line, line[:-4], f"{line}{line}", f"[{line}]", f"'{MARK}'", f'"{MARK}"', line + MARK]


@pytest.fixture
def odd_lake(lake):
    """Odd records, malformed ones and unreadable objects in every folder."""
    records = {"customer": CUSTOMER, "accelerometer": READING, "step_trainer": STEP}
    for entity, record in records.items():
        folder = f"landing/{entity}/ingest_date={DATES[0]}"
        text = "\n".join(odd(record)).encode()
        lake.put(landed(entity, DATES[0], "odd.json", *odd(record)))
        lake.put({f"{folder}/cut.json.gz": gzip.compress(text)[:-9], f"{folder}/no.gz": text})
        lake.put({f"{folder}/utf16.json": text.decode().encode("utf-16")})
        lake.put({f"landing/{entity}/stray.json": text})
    return lake


@pytest.fixture
def said(tmp_path):
    """Runs commands with a Dagster home; everything that they said or kept, in lower case."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    output: list[str] = []

    def run(*command: str, code: int = 0, text: str = "", **environ: str) -> str:
        done = subprocess.run(
            command,
            env=os.environ | {"DAGSTER_HOME": str(home)} | environ,
            input=text,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        output.append(done.stdout + done.stderr)
        kept = [p.read_bytes().decode("latin-1") for p in home.rglob("*") if p.is_file()]
        assert any("SQLite format 3" in one for one in kept)
        return "\n".join(output + kept).lower()

    return run


def materialize(module: str) -> list[str]:
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "--select", "*"]
    return [*command, "-m", module, "--partition", str(DATES[0])]


@pytest.mark.slow
def test_no_personal_value_is_in_logs_metadata_or_output(odd_lake, said, tmp_path):
    assert MARK not in said(*materialize("stedi_assets.definitions"))
    source = tmp_path / "source" / "customer"
    source.mkdir(parents=True)
    (source / "more.json").write_text("\n".join(odd(CUSTOMER)))
    date = ("--ingest-date", str(DATES[1]))
    assert MARK not in said(STEDI, "land", str(source.parent), *date)
    assert MARK not in said(STEDI, "catch-up")
    assert MARK not in said(STEDI, "tables")
    assert MARK not in said(STEDI, "consent", text=f"{EMAIL}\n")
    assert MARK not in said(STEDI, "forget", text=f"{EMAIL}\n")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cast", "raise", "date"])
def test_an_engine_that_quotes_data_in_its_error_is_not_quoted(odd_lake, said, how):
    text = said(*materialize("stedi_assets_tests.broken"), code=1, BREAK=how)
    assert "customer_landing was not written for 2022-06-18" in text
    assert MARK not in text


def failing(made_of):
    """Makes the same rows, of which the engine can compute none and says whose they are."""

    def make(*arguments):
        made = made_of(*arguments)
        says = F.raise_error(F.lit(f"Who is {EMAIL}")).cast("boolean")
        if isinstance(made, ReadRows):
            return replace(made, frame=made.frame.where(says))
        return made.where(says)

    return make


def test_a_check_and_a_look_at_who_is_in_whose_engine_fails_quote_nobody(lake, monkeypatch, capfd):
    lake.put(landed("customer", DATES[0], "c", compact(CUSTOMER)))
    lake.put(landed("accelerometer", DATES[0], "a", compact(READING)))
    lake.put(landed("step_trainer", DATES[0], "s", compact(STEP)))
    lake.materialize(DATES[0])
    lake.put(landed("customer", DATES[0], "c", compact(CUSTOMER | {"lastUpdateDate": T0 + 1})))
    monkeypatch.setattr(checks, "_rows", failing(checks._rows))
    monkeypatch.setattr(membership, "_sets", failing(membership._sets))
    key = dg.AssetCheckKey(dg.AssetKey("customer_landing"), "rows_meet_the_contract")
    job = lake.defs.resolve_implicit_global_asset_job_def()
    jobs = {
        "The check rows_meet_the_contract of customer_landing failed": job.get_subset(
            asset_check_selection={key}
        ),
        "Computing membership failed": lake.defs.resolve_job_def("catch_up"),
    }
    for said, failing_job in jobs.items():
        with dg.DagsterInstance.ephemeral() as instance:
            result = failing_job.execute_in_process(instance=instance, raise_on_error=False)
            events = "".join(str(entry) for entry in instance.all_logs(result.run_id))
        assert not result.success
        assert said in events
        assert MARK not in events.lower()
    command = CliRunner().invoke(main, ["catch-up"])
    assert command.exit_code == 1
    assert MARK not in f"{command.output} {command.exception} {capfd.readouterr()}".lower()
