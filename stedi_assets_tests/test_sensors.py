"""The sensor, and what it requests of Dagster."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from unittest.mock import Mock

import dagster as dg
import pytest

from stedi_assets import definitions
from stedi_assets.defs import liveness, sensors
from stedi_assets.defs.sensors import MAX_PERIODS, ROUNDS, WORK_TAG, is_quiet, ranges_to_list
from stedi_assets.errors import StediError
from stedi_assets.incremental import inputs
from stedi_assets.incremental.attempts import begin, read_attempts
from stedi_assets.incremental.membership import MEMBERSHIP_PATH
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.landing.events import LandingEvents
from stedi_assets.landing.layout import LandedObject
from stedi_assets.landing.listing import LandingListing
from stedi_assets.tables.schemas import ENTITIES, TABLES
from stedi_assets_tests import seams
from stedi_assets_tests.conftest import TestLake
from stedi_assets_tests.driver import execute, tick, until_quiet
from stedi_assets_tests.odd_data import DATES, T0, plain_objects
from stedi_assets_tests.test_catch_up import failing_write, landed, person, phone, three_days
from stedi_assets_tests.test_damage import keys, write_over

DAY = date(2022, 6, 18)
ONE, TWO = LandedObject("k", "etag", 3), LandedObject("k", "other", 3)


def test_all_dates_are_looked_at_within_the_rounds():
    days = [DAY + timedelta(n) for n in range(1000)]
    built = days[:980]
    looked = [
        {
            day
            for first, last in ranges_to_list(DAY, days[-1], built, tick)
            for day in days
            if (first is None or first <= day) and (last is None or day <= last)
        }
        for tick in range(ROUNDS)
    ]
    assert set.union(*looked) == set(days)
    assert all({built[-1], days[-1]} <= one and len(one) < 150 for one in looked)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_date_that_is_new_is_looked_at_in_every_tick(number):
    old, today = date(2022, 6, 18), date(2026, 11, 24)
    for built in (set(), {old + timedelta(n) for n in range(1, 1000)}):
        spans = ranges_to_list(old, today, built, number, {old, *built})
        assert any((a is None or a <= old) and (b is None or old <= b) for a, b in spans)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_evaluations_that_overlap_in_a_code_server_take_turns(lake, monkeypatch):
    # Each reads logs anew, and deletes local files at its end, that the other is at work with.
    monkeypatch.setattr(definitions, "WAIT_SECONDS", 0.2)
    resources = {"pipeline": lake.defs.resources["pipeline"]}
    refreshed = []
    monkeypatch.setattr(type(lake.pipeline), "refresh", lambda *_: refreshed.append(True))
    with dg.build_resources(resources):
        with pytest.raises(dg.DagsterUserCodeExecutionError) as refused:
            dg.build_resources(resources).__enter__()
        assert "Another evaluation in this process" in str(refused.value.user_exception)
        assert len(refreshed) == 1
    with dg.build_resources(resources):
        assert len(refreshed) == 2


def test_an_evaluation_that_fails_at_once_holds_up_no_other(lake, monkeypatch):
    monkeypatch.setattr(definitions, "WAIT_SECONDS", 0.2)
    resources = {"pipeline": lake.defs.resources["pipeline"]}
    with monkeypatch.context() as broken:
        broken.setattr(type(lake.pipeline), "refresh", Mock(side_effect=StediError("no S3")))
        with pytest.raises(dg.DagsterUserCodeExecutionError):
            dg.build_resources(resources).__enter__()
    with dg.build_resources(resources) as made:
        assert made.pipeline is lake.pipeline


@pytest.mark.parametrize("hours", [-26, 26])
def test_what_has_landed_does_not_depend_on_the_machines_clock(lake, monkeypatch, hours):
    today = lake.lake.now().date()
    lake.put(landed("customer", DATES[0], "c", person(1, 0, T0)))
    lake.put(landed("accelerometer", DATES[0], "a", phone(1, 0)))
    lake.put(landed("customer", today, "withdrawn", person(1, 1, None)))
    assert lake.catch_up() > 0
    assert lake.table("accelerometer_trusted") == Counter()
    seams.set_clock_ahead(monkeypatch, timedelta(hours=hours))
    other = TestLake(lake.settings)
    assert other.catch_up() == 0
    assert other.table("accelerometer_trusted") == Counter()


def test_an_event_of_a_date_that_begins_in_a_moment_waits_in_the_queue(lake, instance, monkeypatch):
    queue, today = Mock(), lake.lake.now().date()
    messages = {f"message {n}": frozenset({("customer", today + timedelta(n))}) for n in (0, 1, 2)}
    named = frozenset().union(*messages.values())
    received = LandingEvents(named, 0, queue, tuple(messages.items()))
    monkeypatch.setattr(sensors, "received_events", lambda _pipeline: received)
    tick(lake, instance)
    ((deleted,),) = [call.args for call in queue.delete.call_args_list]
    assert sorted(deleted) == ["message 0", "message 2"]


def test_the_sensor_drives_an_empty_lake_to_the_reference_tables(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[2]))
    lake.put({"landing/customer/stray.json": b"{}"})
    requested = [request.job_name for request in until_quiet(lake, instance)]
    assert lake.differences() == {}
    assert requested == ["Lakehouse", "Lakehouse", "catch_up"]


def test_the_sensor_waits_for_the_quiet_period(new_lake, instance):
    lake = new_lake(quiet_seconds="3600")
    lake.put(plain_objects())
    assert tick(lake, instance).skip_reason


def test_objects_that_keep_landing_do_not_keep_a_date_waiting(lake):
    period = lake.lake.settings.quiet_seconds
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for waited, quiet in ((period * 3, False), (period * (MAX_PERIODS + 1), True)):
        listing = LandingListing(
            objects={("customer", DAY): (ONE, TWO)},
            last_modified={ONE: now - timedelta(seconds=waited), TWO: now},
        )
        assert is_quiet(lake.pipeline, listing, ("customer", DAY), now) == quiet


def test_a_run_is_requested_once_and_the_next_waits_for_it(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[1]))
    (request,) = tick(lake, instance).run_requests
    assert dict(request.tags) | {WORK_TAG: ""} == {
        "dagster/asset_partition_range_start": str(DATES[0]),
        "dagster/asset_partition_range_end": str(DATES[1]),
        WORK_TAG: "",
        "stedi/does": "all tables for 2022-06-18 to 2022-06-19",
    }
    job = lake.defs.resolve_job_def("Lakehouse")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert tick(lake, instance).skip_reason.skip_message.startswith("Skipped: run ")


@pytest.mark.parametrize(
    ("job", "tags"),
    [
        ("Lakehouse", {WORK_TAG: "requested by the sensor"}),
        ("catch_up", {}),  # `stedi catch-up`
        ("maintenance", {}),
        ("__ASSET_JOB", {}),  # `dagster asset materialize`
    ],
)
def test_a_run_that_has_said_nothing_for_long_holds_up_nothing(
    new_lake, instance, monkeypatch, job, tags
):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    definition = lake.defs.resolve_implicit_global_asset_job_def()
    if job != "__ASSET_JOB":
        definition = lake.defs.resolve_job_def(job)
    run = instance.create_run_for_job(
        definition,
        status=dg.DagsterRunStatus.STARTED,
        tags=tags,
        asset_selection={dg.AssetKey("customer_trusted")} if job == "__ASSET_JOB" else None,
    )
    instance.report_engine_event("started", run)
    waits = job in ("Lakehouse", "catch_up")
    assert bool(tick(lake, instance).skip_reason) is waits
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
    monkeypatch.setattr(liveness, "HEARTBEAT_TIMEOUT", timedelta(0))
    assert tick(lake, instance).run_requests
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    told = [entry.message for entry in instance.all_logs(run.run_id)]
    assert "Marked as failed by the landing sensor: no events." in told


@pytest.mark.parametrize(
    ("name", "location", "assets", "status"),
    [
        ("theirs", None, None, "STARTED"),
        ("maintenance", "their_project", None, "STARTED"),
        ("__ASSET_JOB", None, {dg.AssetKey("their_table")}, "STARTED"),
        # Of an earlier release: killed while this one was installed.
        ("lakehouse", "stedi_assets", None, "FAILURE"),
    ],
)
def test_a_silent_run_is_ended_where_it_is_ours_and_left_where_it_is_another_projects(
    lake, instance, monkeypatch, name, location, assets, status
):
    tags = {"dagster/code_location": location} if location else {}
    run = instance.create_run_for_job(
        lake.defs.resolve_job_def("Lakehouse"), status=dg.DagsterRunStatus.STARTED, tags=tags
    )
    theirs = run._replace(job_name=name, asset_selection=assets and frozenset(assets))
    monkeypatch.setattr(type(instance), "get_runs", lambda *_, **__: [theirs])
    monkeypatch.setattr(liveness, "HEARTBEAT_TIMEOUT", timedelta(0))
    here = Mock(location_name="stedi_assets")
    monkeypatch.setattr(dg.SensorEvaluationContext, "code_location_origin", here)
    tick(lake, instance)
    assert instance.get_run_by_id(run.run_id).status.value == status


def test_misplaced_objects_are_reported_by_name_and_left_alone(new_lake, instance, capfd):
    lake = new_lake(quiet_seconds="0")
    names = ["stray.json", "ingest_date=2022-02-30/bad.json", "ingest_date=2199-01-01/late.json"]
    lake.put({f"landing/customer/{name}": b"{}" for name in names})
    until_quiet(lake, instance)
    said = "".join(capfd.readouterr())
    assert [said.count(f"landing/customer/{name}") for name in names] == [1, 1, 1]
    assert len(list(lake.lake.objects("landing/customer/"))) == len(names)
    assert lake.table("customer_landing") == Counter()


@pytest.mark.slow
def test_one_date_that_cannot_be_built_is_reported_loudly_and_holds_up_no_other(
    new_lake, instance, monkeypatch
):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[1]))
    read = inputs.read_landed

    def read_all_but_one_date(spark, s3, entity, objects, *how):
        if any(f"ingest_date={DATES[0]}" in o.key for o in objects):
            raise RuntimeError("this date cannot be read")
        return read(spark, s3, entity, objects, *how)

    with monkeypatch.context() as patch:
        patch.setattr(inputs, "read_landed", read_all_but_one_date)
        with pytest.raises(StediError, match=r"Gave up on .* after 3 failed runs"):
            until_quiet(lake, instance)
        assert {row[-1] for row in lake.table("machine_learning_curated")} == {DATES[1]}
        with pytest.raises(StediError, match="after 3 failed runs"):
            tick(lake, instance)
    lake.put(plain_objects(3, DATES[0]))  # something new there: it is tried again
    until_quiet(lake, instance)
    assert lake.differences() == {}


def test_a_tick_that_fails_half_way_loses_nothing(new_lake, instance, monkeypatch):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    with monkeypatch.context() as patch:
        patch.setattr(sensors, "next_runs", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tick(lake, instance)
    assert tick(lake, instance).run_requests


@pytest.mark.slow
def test_nothing_is_lost_with_the_cursor_and_dagsters_database(new_lake, instance):
    """Also: landed in the same second, in an old date, rewritten, deleted."""
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[2]))
    until_quiet(lake, instance)
    lake.put(landed("customer", DATES[1], "one", person(11, 0, 1)))
    lake.put(landed("customer", DATES[1], "two", person(12, 0, 1)))
    lake.put(landed("customer", DATES[0], "1.json", person(1, 0, 1)))
    lake.remove(f"landing/accelerometer/ingest_date={DATES[2]}/2.json")
    with dg.DagsterInstance.ephemeral() as another:
        until_quiet(lake, another)
    assert lake.differences() == {}


def test_a_run_that_failed_three_times_is_reported_and_not_requested_again(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    for job in ("Lakehouse", "catch_up"):  # it builds what it can, in another way
        for _ in range(3):
            (request,) = tick(lake, instance).run_requests
            assert request.job_name == job
            instance.create_run_for_job(
                lake.defs.resolve_job_def(job),
                tags={WORK_TAG: request.tags[WORK_TAG]},
                status=dg.DagsterRunStatus.FAILURE,
            )
    with pytest.raises(StediError, match="after 3 failed runs"):
        tick(lake, instance)


def test_what_was_given_up_is_tried_again_when_its_data_changes(new_lake, instance):
    """Also where the same tables and dates are out of date for the same reason."""
    lake = new_lake(quiet_seconds="0")
    lake.put(landed("customer", DAY, "c", person(1, 0, T0), person(2, 0, T0)))
    lake.put(landed("accelerometer", DAY, "a", phone(1, 0), phone(2, 0)))
    lake.catch_up()
    for updated in (1, 2):
        lake.put(landed("customer", DAY, f"u{updated}", person(updated, 1, None)))
        for _ in range(3):
            (request,) = tick(lake, instance).run_requests
            assert request.job_name == "catch_up"
            instance.create_run_for_job(
                lake.defs.resolve_job_def("catch_up"),
                tags=request.tags,
                status=dg.DagsterRunStatus.FAILURE,
            )
        with pytest.raises(StediError, match="after 3 failed runs"):
            tick(lake, instance)


def test_failures_before_a_success_are_not_counted(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    (request,) = tick(lake, instance).run_requests
    job, states = lake.defs.resolve_job_def(request.job_name), dg.DagsterRunStatus
    for status in (states.FAILURE, states.FAILURE, states.SUCCESS, states.FAILURE):
        instance.create_run_for_job(job, tags=request.tags, status=status)
    assert tick(lake, instance).run_requests[0].tags == request.tags


def test_new_dates_that_keep_landing_keep_nobody_who_withdrew(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    lake.put(landed("customer", DATES[0], "withdrawn", person(1, 1, None)))
    for n in range(1, 4):
        day = DATES[2] + timedelta(n)
        lake.put(landed("accelerometer", day, "a", phone(2, 3000 + n)))
        (request,) = tick(lake, instance).run_requests
        assert execute(lake, instance, request)
    assert "p1@example.com" not in {row[0] for row in lake.table("accelerometer_trusted")}
    until_quiet(lake, instance)
    assert lake.differences() == {}


def test_who_withdrew_leaves_the_tables_though_a_new_date_fails(new_lake, instance, monkeypatch):
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    new = DATES[2] + timedelta(1)
    lake.put(landed("accelerometer", new, "a", phone(2, 3000)))
    failing = failing_write(lake.pipeline.write, "accelerometer_landing", new)
    with monkeypatch.context() as patch:
        patch.setattr(lake.pipeline, "write", failing)
        (request,) = tick(lake, instance).run_requests
        assert not execute(lake, instance, request)
        lake.put(landed("customer", new, "withdrawn", person(1, 1, None)))
        (request,) = tick(lake, instance).run_requests
        assert not execute(lake, instance, request)
        assert "p1@example.com" not in {row[0] for row in lake.table("accelerometer_trusted")}
    until_quiet(lake, instance)
    assert lake.differences() == {}


@pytest.mark.parametrize("what", ["customers keep landing", "a partition with rows fails"])
def test_new_dates_are_not_kept_waiting_by_what_was_built_before(
    new_lake, instance, monkeypatch, what
):
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    if what == "a partition with rows fails":
        lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
        failing = failing_write(lake.pipeline.write, "accelerometer_trusted", DATES[1])
        monkeypatch.setattr(lake.pipeline, "write", failing)
    new = DATES[2] + timedelta(1)
    for number in range(2):
        if what == "customers keep landing":
            lake.put(landed("customer", DATES[2], f"c{number}", person(10 + number, 1, T0)))
        lake.put(landed("accelerometer", new, f"a{number}", phone(2, 3000 + number)))
        (request,) = tick(lake, instance).run_requests
        execute(lake, instance, request)
    assert lake.pipeline.lakehouse.log(TABLES["accelerometer_landing"]).of(new)


def test_late_objects_that_fail_beside_a_new_date_are_given_up_in_the_end(
    new_lake, instance, monkeypatch
):
    """Each run that is requested does something, or fails: else the tick would never fail."""
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    lake.put(landed("accelerometer", DATES[2], "late", phone(2, 2001)))
    lake.put(landed("accelerometer", DATES[2] + timedelta(2), "a", phone(2, 3000)))
    write = lake.pipeline.write

    def failing(table, *arguments):
        if table.name == "accelerometer_landing":
            raise StediError("accelerometer_landing cannot be written")
        return write(table, *arguments)

    monkeypatch.setattr(lake.pipeline, "write", failing)
    requested = []
    for _ in range(5):
        (request,) = tick(lake, instance).run_requests
        requested.append(request.tags["stedi/does"])
        assert not execute(lake, instance, request)
    with pytest.raises(StediError, match="Gave up"):
        tick(lake, instance)
    dates = [f"all tables for {DATES[2] + timedelta(n)}" for n in (0, 2)]
    assert requested == [*dates, *3 * ["the job catch_up"]]


def test_what_a_run_did_not_finish_makes_the_next_one_other_work(new_lake, instance):
    """It is tried in smaller parts: else the sensor would give up before all were tried."""
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    lake.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    works = []
    for together in (DATES[:3], DATES[:2], DATES[:1], DATES[:1]):
        begin(lake.lake, read_attempts(lake.lake), "accelerometer_trusted", together)
        (request,) = tick(lake, instance).run_requests
        works.append(request.tags[WORK_TAG])
    assert len(set(works)) == 3
    assert works[-1] == works[-2]


def test_a_date_that_fails_keeps_none_waiting_on_which_objects_keep_landing(
    new_lake, instance, monkeypatch
):
    """They are one range, and each object makes it a run that was not tried before."""
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    bad, busy = (DATES[2] + timedelta(n) for n in (1, 2))
    lake.put(landed("accelerometer", bad, "a", phone(2, 3000)))
    failing = failing_write(lake.pipeline.write, "accelerometer_landing", bad)
    monkeypatch.setattr(lake.pipeline, "write", failing)
    for number in range(3):
        lake.put(landed("accelerometer", busy, f"a{number}", phone(2, 5000 + number)))
        (request,) = tick(lake, instance).run_requests
        execute(lake, instance, request)
    assert lake.pipeline.lakehouse.log(TABLES["accelerometer_trusted"]).of(busy)


def test_a_data_file_that_was_put_back_needs_no_run(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    three_days(lake)
    code_server = TestLake(lake.settings)
    folder = f"{TABLES['customer_landing'].path}/ingest_date={DATES[0]}"
    bodies = {key: lake.lake.get(key)[0] for key in keys(lake, folder)}
    write_over(lake, folder, "shareWithResearchAsOfDate", None)
    lake.lake.delete([MEMBERSHIP_PATH])  # so that a tick computes it, and sees the file
    assert tick(code_server, instance).run_requests
    for key, body in bodies.items():
        lake.lake.put(key, body)
    code_server.pipeline.lakehouse.drop_local_files()  # as the resource does after each tick
    assert not tick(code_server, instance).run_requests


@pytest.mark.parametrize("cursor", ["abc", " ", '{"tick": 3}', "-1", "1e3", "²"])
def test_a_cursor_that_is_damaged_starts_anew(lake, instance, cursor):
    assert int(tick(lake, instance, cursor).cursor.split()[0]) == 1


def test_a_run_that_was_created_and_never_started_holds_up_nothing_for_long(
    new_lake, instance, monkeypatch
):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    job = lake.defs.resolve_job_def("catch_up")
    instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.NOT_STARTED, tags={WORK_TAG: "requested by the sensor"}
    )
    assert tick(lake, instance).skip_reason
    monkeypatch.setattr(liveness, "HEARTBEAT_TIMEOUT", timedelta(0))
    assert tick(lake, instance).run_requests


def test_a_date_that_was_given_up_holds_up_no_refresh(new_lake, instance):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]))
    lake.materialize(DATES[0])
    lake.put(plain_objects(2, DATES[1]))

    def failed(request: dg.RunRequest) -> None:
        job = lake.defs.resolve_job_def(request.job_name)
        failure = {"tags": request.tags, "status": dg.DagsterRunStatus.FAILURE}
        instance.create_run_for_job(job, **failure)

    requested = Counter[str]()
    for _ in range(9):
        (request,) = tick(lake, instance).run_requests
        requested[request.tags["stedi/does"]] += 1
        failed(request)
    with pytest.raises(StediError, match="after 3 failed runs"):
        tick(lake, instance)
    assert requested == {
        f"all tables for {DATES[1]}": 3,
        "the job catch_up (without new dates)": 3,
        "the job catch_up": 3,
    }


def test_a_tick_while_s3_is_away_fails_in_one_line_and_the_next_goes_on(
    new_lake, instance, monkeypatch
):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects())
    with monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        away = TestLake()
        with pytest.raises(StediError, match="The embedded lake is not running"):
            tick(away, instance)
    assert tick(lake, instance).run_requests


@pytest.mark.parametrize("misplaced", ["ingest_date=2022-06", "ingest_date=2022"])
def test_a_misplaced_folder_beside_the_dates_hides_none(new_lake, instance, misplaced):
    """SeaweedFS lists it before them, S3 after them."""
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[1]))
    lake.put({f"landing/{entity}/{misplaced}/x": b"{}" for entity in ENTITIES})
    lake.catch_up()
    lake.put(landed("customer", DATES[1], "withdrawn", person(1, 1, None)))
    assert len(until_quiet(lake, instance)) == 1
    assert lake.differences() == {}
    lake.materialize(DATES[0], DATES[1])
    assert lake.differences() == {}


@pytest.mark.parametrize("table", ["customer_landing", "accelerometer_landing"])
def test_a_lost_data_file_of_a_landing_table_does_not_stop_the_sensor(new_lake, instance, table):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]) | plain_objects(2, DATES[1]))
    lake.catch_up()
    files = [entry["Key"] for entry in lake.lake.objects(f"{TABLES[table].path}/ingest_date=")]
    lake.lake.delete(files)
    lake.lake.delete_below("_stedi/rollups/")
    other = TestLake()
    other.objects = lake.objects
    other.put(landed("customer", DATES[2], "withdrawn", person(1, 1, None)))
    assert [request.job_name for request in until_quiet(other, instance)][-1] == "catch_up"
    assert other.differences() == {}


def test_the_sensor_gives_up_on_a_table_of_people_that_cannot_be_written(
    new_lake, instance, monkeypatch
):
    lake = new_lake(quiet_seconds="0")
    lake.put(plain_objects(1, DATES[0]))
    lake.put(landed("accelerometer", DATES[1], "of a later customer", phone(7, 0)))
    lake.catch_up()
    replace = Lakehouse.replace

    def failing(self, table, *arguments, **options):
        if table.name == "customer_trusted":
            raise StediError("access denied")
        return replace(self, table, *arguments, **options)

    monkeypatch.setattr(Lakehouse, "replace", failing)
    lake.put(landed("customer", DATES[0], "later", person(7, 0, T0)))
    with pytest.raises(StediError, match="Gave up on the job catch_up"):
        until_quiet(lake, instance, most=6)
