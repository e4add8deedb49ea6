"""The commands as a person types them, each a process, on an embedded lake of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from stedi_assets.cli.main import main
from stedi_assets.defs.materialize import landing_warnings, split_dates
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.settings import today
from stedi_assets.spark.session import SparkSessions
from stedi_assets_tests.test_catch_up import DATES, landed, person, three_days
from stedi_assets_tests.waiting import until

STEDI = str(Path(sys.executable).with_name("stedi"))


@pytest.fixture
def run(tmp_path):
    """Runs a command with `.stedi` below the test's folder and an empty Dagster home."""

    def run_here(*command: str, code: int = 0, **environ: str) -> str:
        keep = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "STEDI_"))}
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=keep | {"DAGSTER_HOME": ""} | environ,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run_here


def servers(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if f"-dir={folder}" in str(p.info)]


def test_a_command_line_is_read_before_what_takes_seconds_to_import():
    """Else Ctrl-C in these seconds would be answered by a traceback of Python's imports."""
    slow = "{'dagster', 'boto3', 'pyspark', 'pandas', 'pyarrow'}"
    code = f"import sys, stedi_assets.cli.main; print(*sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_land_materialize_tables_and_query_on_the_embedded_lake(run, tmp_path):
    run(STEDI, "sample", "sample", "--customers", "50", "--days", "2")
    steps = """
        stedi land sample; stedi materialize; stedi catch-up; stedi tables --json > tables.json
        stedi land sample; stedi materialize; stedi catch-up; stedi tables --json > again.json
    """
    said = run(STEDI, "local", "--", "sh", "-ec", steps)
    assert "(0 were there already" in said
    assert "Landed 0 objects" in said
    assert "All tables are up to date: nothing to materialize." in said
    assert "Nothing to catch up on." in said
    assert (tmp_path / "again.json").read_text() == (tmp_path / "tables.json").read_text()
    tables = json.loads((tmp_path / "tables.json").read_text())
    assert [t["table"] for t in tables][::7] == ["customer_landing", "machine_learning_curated"]
    assert all(t["rows"] > 0 for t in tables)
    counted = "SELECT count(*) AS n FROM machine_learning_curated"
    answer = run(STEDI, "local", "--", "stedi", "query", counted, "--format", "json")
    assert json.loads(answer) == [{"n": tables[-1]["rows"]}]
    assert servers(tmp_path / ".stedi/s3") == []


def test_local_passes_on_exit_codes_and_hides_the_persons_aws_settings(run):
    run(STEDI, "local", "--", "sh", "-c", "exit 7", code=7)
    run(STEDI, "local", "--", "no-such-command", code=127)
    script = "env | grep AWS_ ; true"
    said = run(STEDI, "local", "--", "sh", "-c", script, AWS_PROFILE="work", AWS_ROLE_ARN="arn")
    assert "work" not in said
    assert "AWS_ROLE_ARN" not in said


@pytest.mark.parametrize(
    ("command", "closed", "code"),
    [("consent", "<&-", 1), ("forget --yes", "<&-", 1), ("tables", ">&-", 0)],
)
def test_a_command_whose_standard_streams_are_closed_ends_without_a_traceback(
    lake, command, closed, code
):
    done = subprocess.run(
        ["sh", "-c", f"exec '{STEDI}' {command} {closed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    said = "stedi: There is no standard input: give the email on it.\n"
    assert done.stderr.endswith(said if code else "")
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_the_command_and_then_the_server(tmp_path):
    process = subprocess.Popen(
        [STEDI, "local", "--", "sh", "-c", "touch started; sleep 60"],
        cwd=tmp_path,
        env=os.environ | {"STEDI_HOME": str(tmp_path / ".stedi")},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until((tmp_path / "started").exists)
        assert servers(tmp_path / ".stedi/s3")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert servers(tmp_path / ".stedi/s3") == []
    finally:
        process.kill()
        process.wait()


def test_without_a_running_lake_dagster_says_what_to_run(run):
    asset = [sys.executable, "-m", "dagster", "asset", "materialize"]
    said = run(
        *asset,
        *("-m", "stedi_assets.definitions", "--select", "*", "--partition", "2022-06-18"),
        code=1,
    )
    assert "The embedded lake is not running. Start" in said
    assert run(STEDI, "tables", code=1).startswith("stedi: The embedded lake is not running.")


@pytest.fixture
def stedi(lake):
    """Runs a command on the test's lake in this process: exit code and what it says."""

    def run_here(*arguments: str, **environ: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, list(arguments), env=environ)
        return result.exit_code, result.output

    return run_here


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("land", "nothing"), 1, "holds none of the folders"),
        (("materialize",), 1, "Nothing has landed yet"),
        (("land", ".", "--ingest-date", "20220618"), 2, "is not a date"),
        (("query", "DROP TABLE x"), 1, "tables are read-only"),
        (("query", "SELECT * FROM text.`/etc/passwd`"), 1, "none of the tables"),
        (("query", ""), 1, "0 statements"),
        (
            ("query", "SELECT nothing FROM customer_landing"),
            1,
            "The query does not run: AnalysisException",
        ),
        (("query", "DESCRIBE passwords"), 1, "There is no table passwords"),
        (("query", "SELECT 1", "--engine", "athena"), 1, "need STEDI_ATHENA_WORKGROUP"),
    ],
)
def test_a_mistake_is_one_line(stedi, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    found, output = stedi(*arguments)
    assert found == code
    assert said in output.strip().splitlines()[-1]


class AthenaConnection:
    """A connection of pyathena, and its cursor, that answers with rows given beforehand."""

    query_id = "1"
    description = (("number", "bigint"), ("number", "bigint"), ("nothing", "varchar"))

    def __init__(self, rows):
        self.rows = rows

    def cursor(self):
        return contextlib.nullcontext(self)

    def execute(self, sql):
        assert sql.startswith("SELECT")

    def fetchall(self):
        return self.rows


@pytest.mark.parametrize(
    ("rows", "lines"),
    [([(2**60 + 1, 1, None), (None, 2, None)], [f"{2**60 + 1},1,", ",2,"]), ([], [])],
)
def test_whole_numbers_from_athena_stay_exact_beside_nulls(stedi, monkeypatch, rows, lines):
    pyathena = pytest.importorskip("pyathena")
    monkeypatch.setattr(pyathena, "connect", lambda **_: AthenaConnection(rows))
    monkeypatch.setenv("STEDI_ATHENA_WORKGROUP", "w")
    monkeypatch.setenv("STEDI_GLUE_DATABASE", "d")
    sql = "SELECT 1 FROM customer_landing"
    code, output = stedi("query", sql, "--engine", "athena", "--format", "csv")
    assert (code, output.splitlines()) == (0, ["number,number,nothing", *lines])


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"STEDI_LAKE": "data"}, "is not an S3 location"),
        ({"STEDI_LAKE": "s3://nosuch"}, "there is no such bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the keys are refused"),
        ({"AWS_ENDPOINT_URL": "localhost:9000"}, "The AWS settings do not work for S3"),
        ({"AWS_ENDPOINT_URL": "me:hidden@localhost:9000"}, "do not work for S3"),
        ({"AWS_ENDPOINT_URL": "me:hidden"}, "do not work for S3: Invalid endpoint: …"),
        ({"AWS_ENDPOINT_URL": "http://me:hidden"}, "No S3 answers at http://… for"),
        ({"AWS_ENDPOINT_URL": "http://me:my hidden@[::1"}, "do not work for S3"),
        ({"AWS_ENDPOINT_URL": "http://me:hidden@127.0.0.1:9"}, "No S3 answers at http://…@127."),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:99999"}, "127.0.0.1:99999"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, "The AWS settings do not work for S3"),
    ],
)
def test_a_lake_that_cannot_be_had_is_one_line(environ, said):
    elsewhere = {"STEDI_LAKE": "s3://stedi/x", "AWS_ENDPOINT_URL_S3": "", "STEDI_EMBEDDED": ""}
    if "AWS_ENDPOINT_URL" in environ:
        environ = elsewhere | environ
    done = subprocess.run([STEDI, "tables"], env=os.environ | environ, capture_output=True)
    assert done.returncode == 1
    assert b"hidden" not in done.stderr
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def into_a_full_disk(command: list[str], **environ: str) -> subprocess.CompletedProcess:
    with open("/dev/full", "w") as full:
        return subprocess.run(
            command, env=os.environ | environ, stdout=full, stderr=subprocess.PIPE, text=True
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a full device")
@pytest.mark.parametrize(
    "command",
    [["query", "SHOW TABLES", "--format", "csv"], ["tables"], ["audit", "--json"]],
    ids=" ".join,
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_for_which_there_is_no_room_is_one_line(lake, command, unbuffered):
    done = into_a_full_disk([STEDI, *command], PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == "stedi: The output cannot be written: No space left on device.\n"


def customers(lake) -> dict[str, str]:
    """The landed customer objects: their keys and etags."""
    return {o["Key"]: o["ETag"] for o in lake.lake.objects("landing/customer/")}


INTERRUPTED = """
import os, signal, sys
from stedi_assets.incremental.pipeline import Pipeline
write = Pipeline.write

def interrupt(*arguments):
    Pipeline.write = write
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return write(*arguments)

Pipeline.write = interrupt
from stedi_assets.cli.main import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("command", [["catch-up"], ["forget", "--yes"]], ids=" ".join)
def test_an_interrupt_during_a_run_ends_the_command(lake, number, command):
    """Dagster takes it for the run's failure: another began, and `forget` went on to delete."""
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    before = customers(lake)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, number, *command],
        input="p1@example.com\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "Aborted!")
    assert customers(lake) == before
    assert lake.catch_up() > 0
    assert lake.differences() == {}


@pytest.mark.parametrize("form", ["table", "csv"])
def test_output_that_its_encoding_cannot_hold_is_one_line(lake, form):
    command = [STEDI, "query", "SELECT 'caf\u00e9' AS a", "--format", form]
    environ = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "stedi: The output's encoding, ascii, does not hold every character of it: set"
        " PYTHONIOENCODING=utf-8.\n"
    )


def test_a_reader_that_wants_no_more_is_no_error_of_ours(lake):
    done = subprocess.run(
        [
            "bash",
            "-c",
            f"{STEDI} query 'SELECT explode(sequence(1, 99999))' --format csv | head -1",
        ],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_a_query_opens_only_the_tables_that_it_names(stedi, monkeypatch):
    opened = []
    log = Lakehouse.log
    monkeypatch.setattr(
        Lakehouse, "log", lambda self, table: opened.append(table.name) or log(self, table)
    )
    sql = "SELECT count(email) AS n, max(lastUpdateDate) AS newest FROM customer_trusted"
    code, said = stedi("query", sql, "--format", "json")
    assert (code, json.loads(said)) == (0, [{"n": 0, "newest": None}])
    assert set(opened) == {"customer_trusted"}


def test_show_tables_and_describe_say_what_there_is_to_ask(stedi):
    assert "machine_learning_curated" in stedi("query", "show tables")[1]
    assert "shareWithResearchAsOfDate" in stedi("query", "DESCRIBE customer_trusted;")[1]


@pytest.mark.parametrize("command", ["materialize", "catch-up"])
@pytest.mark.parametrize(
    ("home", "said"), [("dagster", "is a relative path"), ("/no/such/folder", "is not a folder")]
)
def test_a_dagster_home_that_cannot_be_is_one_line(stedi, command, home, said):
    code, output = stedi(command, DAGSTER_HOME=home)
    assert code == 1
    assert said in output
    assert output.count("\n") == 1


WRONG_CONFIGS = [
    *(b"telemetri: {}\n", b"telemetry:\n  enabled: secret\n", b"a: [\n", b"- secret\n", b"\xff"),
    b"storage:\n  sqlite:\n    base_dir:\n      env: NO_SUCH_VARIABLE\n",
    b"run_storage:\n  module: nosuch\n  class: X\n",
]


@pytest.mark.parametrize(
    ("command", "config"),
    [
        ("catch-up", WRONG_CONFIGS[0]),
        ("rebuild", WRONG_CONFIGS[0]),
        *(("forget", config) for config in WRONG_CONFIGS),
    ],
    ids=range(9),
)
def test_a_dagster_yaml_that_is_wrong_is_one_line_and_nothing_goes_on(
    stedi, tmp_path, monkeypatch, command, config
):
    (tmp_path / "dagster.yaml").write_bytes(config)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    result = CliRunner().invoke(main, [command], input="ann@example.com\n")
    assert result.exit_code == 1
    assert f"{tmp_path}/dagster.yaml is wrong (" in result.output
    assert result.output.count("\n") == 1
    assert "secret" not in result.output


def test_a_query_may_be_in_parentheses_and_name_a_table_that_is_not_there_yet(stedi):
    empty = "(SELECT count(*) AS n FROM customer_landing WHERE email <> 'insert into')"
    code, said = stedi("query", empty, "--format", "csv")
    assert (code, said.split()) == (0, ["n", "0"])


def test_sample_and_other_data_do_not_land_in_one_lake_unless_told_to(lake, stedi, tmp_path):
    for name, content in (("sample", '{"arguments": {"seed": 0}}'), ("real", "[" * 200_000)):
        (tmp_path / name / "customer").mkdir(parents=True)
        (tmp_path / name / "customer" / f"{name}.json").write_text("{}")
        (tmp_path / name / "sample.json").write_text(content)
    sample, real = str(tmp_path / "sample"), str(tmp_path / "real")
    assert stedi("land", sample)[0] == stedi("land", sample)[0] == 0
    code, said = stedi("land", real)
    assert code == 1
    assert "is not sample data and" in said
    assert "holds sample data: take another lake" in said
    assert stedi("land", real, "--mix")[0] == 0
    lake.lake.delete([found["Key"] for found in lake.lake.objects("landing/")])
    assert stedi("land", real)[0] == 0
    assert "holds other data" in stedi("land", sample)[1]


def test_the_sample_ends_today_unless_it_is_told_its_first_date(stedi, tmp_path):
    assert stedi("sample", str(tmp_path / "s"), "--customers", "5", "--days", "2")[0] == 0
    dates = {path.name for path in (tmp_path / "s").rglob("ingest_date=*")}
    assert dates == {f"ingest_date={today()}", f"ingest_date={today() - timedelta(1)}"}
    code, said = stedi("sample", str(tmp_path / "t"), "--days", "9999999999")
    assert (code, said.count("\n")) == (1, 1)


def test_rebuild_drops_tables_and_settings_and_keeps_landed_objects_and_audit_rows(lake, stedi):
    kept = ("landing/customer/ingest_date=2022-06-18/a.json", "_stedi/audit/a.json")
    gone = ("trusted/customer_trusted/_delta_log/0.json", "_stedi/ledger/b.json")
    for path in kept + gone:
        lake.lake.put(path, b"{}")
    code, said = stedi("rebuild", "--yes")
    assert (code, "The tables are gone" in said) == (0, True)
    left = {found["Key"] for found in lake.lake.objects("")}
    assert left == set(kept)


def test_materialize_takes_landed_dates_from_the_first_ingest_date_to_today():
    first, last = date(2022, 6, 18), date(2022, 6, 20)
    days = [date(2022, 6, 20), date(2022, 6, 17), date(2022, 6, 18), date(2022, 6, 21)]
    assert split_dates(days, first, last) == ([first, last], [days[1], days[3]])


def test_landing_on_a_date_that_no_table_takes_in_is_refused(run, tmp_path):
    for day in ("2022-06-17", "2022-06-18"):
        (tmp_path / "source/customer" / f"ingest_date={day}").mkdir(parents=True)
        (tmp_path / "source/customer" / f"ingest_date={day}" / "a.json").write_text("{}")
    first = {"STEDI_FIRST_INGEST_DATE": "2022-06-18"}
    said = run(STEDI, "local", "--", "stedi", "land", "source", code=1, **first)
    assert "ingest_date=2022-06-17 is outside the partition range" in said
    assert "Landed" not in said


def test_empty_tables_and_mostly_malformed_landing_is_said_without_a_value(lake):
    email = "ann@example.com"
    record = f'{{"email":"{email}","serialNumber":"s","registrationDate":"x","lastUpdateDate":1}}'
    lake.put({"landing/customer/ingest_date=2022-06-18/a.json": record.encode()})
    lake.materialize(date(2022, 6, 18))
    lines = landing_warnings(Lakehouse(lake.lake, SparkSessions()))
    assert "customer_trusted is empty." in lines
    (malformed,) = (line for line in lines if "are malformed" in line)
    assert "1 of 1 rows of customer_landing" in malformed
    assert "registrationDate is not an integer" in malformed
    assert email not in malformed


def test_settings_that_do_not_fit_the_lakes_are_refused(run):
    script = "stedi tables > /dev/null; STEDI_CONSENT_SCOPE=reading stedi tables"
    said = run(STEDI, "local", "--", "sh", "-c", script, code=1)
    assert "was built with customer for STEDI_CONSENT_SCOPE" in said
    assert "stedi rebuild" in said


@pytest.mark.parametrize(
    "typed",
    [
        "forget EMAIL",
        "consent EMAIL",
        "audit EMAIL",
        "EMAIL",
        "--EMAIL",
        "forget --EMAIL",
        "land EMAIL",
        "land . --ingest-date EMAIL",
        "sample out --seed EMAIL",
        "query --format EMAIL",
        "forget ann%40example.com",
    ],
)
def test_an_address_that_was_typed_in_the_wrong_place_is_not_shown(typed):
    result = CliRunner().invoke(main, typed.replace("EMAIL", "ann@example.com").split())
    assert result.exit_code == 2, result.output
    assert "…" in result.output
    assert "ann" not in result.output.replace("cannot", "")
