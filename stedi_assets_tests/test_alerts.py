"""Alerts: what breaks is told once, to real mail and web servers on loopback."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiosmtpd.controller import Controller
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo

from stedi_assets.defs import alerts
from stedi_assets.errors import StediError
from stedi_assets_tests.waiting import free_port

PERSON = "ada.abara.1@example.com"


@dg.asset
def table() -> None:
    pass


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec("rows_are_right", asset="table", blocking=True),
        dg.AssetCheckSpec("figures_are_usual", asset="table"),
        dg.AssetCheckSpec("newest_ingest_date_is_recent", asset="table"),
    ]
)
def checks():
    raise NotImplementedError


class BrokenConfig(dg.Config):
    own: bool


@dg.op
def breaks(config: BrokenConfig) -> None:
    raise StediError("Nothing has landed yet.") if config.own else ValueError(f"not {PERSON}")


@dg.job
def broken() -> None:
    breaks()


DEFS = dg.Definitions(assets=[table], asset_checks=[checks], jobs=[broken])


@dataclass
class Inbox:
    """What arrived at the web server, as apprise's JSON; status: what it answers."""

    url: str = ""
    status: int = 200
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        return [message["title"].removeprefix("STEDI: ") for message in self.messages]


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """A web server that takes alerts, set as the target."""
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if inbox.status == 200:
                inbox.messages.append(json.loads(body))
            self.send_response(inbox.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        inbox.url = f"json://127.0.0.1:{server.server_port}/alerts"
        monkeypatch.setenv("STEDI_ALERTS", inbox.url)
        yield inbox
        server.shutdown()


@pytest.fixture(scope="module")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster home whose SQLite files are made: that takes seconds, a copy none."""
    home = tmp_path_factory.mktemp("fresh")
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        fail(instance)
        instance.all_instigator_state()
    return home


@pytest.fixture
def instance(fresh_home: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copytree(fresh_home, tmp_path, dirs_exist_ok=True)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def tick(instance: dg.DagsterInstance, cursor: str | None) -> str | None:
    """One tick of the sensor; its cursor."""
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, definitions=DEFS, sensor_name="alerts"
    )
    with context:
        return alerts.alerts_sensor(context).cursor


def fail(instance: dg.DagsterInstance, *, own: bool = True, **tags: str) -> dg.DagsterRun:
    """A failed run."""
    return broken.execute_in_process(
        instance=instance,
        run_config=dg.RunConfig({"breaks": BrokenConfig(own=own)}),
        tags={f"stedi/{name}": value for name, value in tags.items()},
        raise_on_error=False,
    ).dagster_run


def evaluate(
    instance: dg.DagsterInstance,
    passed: bool,
    name: str = "rows_are_right",
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> None:
    evaluation = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("table"),
        check_name=name,
        passed=passed,
        metadata={"rows_that_break_it": 3},
        severity=severity,
    )
    instance.report_runless_asset_event(evaluation)


def freshness(instance: dg.DagsterInstance, state: FreshnessState) -> None:
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=dg.AssetKey("table"),
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=time.time(),
        )
    )


def tick_of_a_sensor(instance: dg.DagsterInstance, status: TickStatus) -> None:
    """A tick of a sensor, as the daemon stores it."""
    location = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="here"), location_name="here"
    )
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "repository"), "landing")
    state = InstigatorState(
        origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData()
    )
    if not instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
        instance.add_instigator_state(state)
    said = SerializableErrorInfo("stedi_assets.errors.StediError: No S3.\n", [], "StediError")
    instance.create_tick(
        TickData(
            instigator_origin_id=state.instigator_origin_id,
            instigator_name="landing",
            instigator_type=InstigatorType.SENSOR,
            status=status,
            timestamp=time.time(),
            selector_id=state.selector_id,
            error=said if status is TickStatus.FAILURE else None,
        )
    )


def test_a_failed_run_is_told_once(instance: dg.DagsterInstance, inbox: Inbox) -> None:
    fail(instance)
    cursor = tick(instance, None)
    assert inbox.titles == [], "what failed before the sensor ran is no news"
    run = fail(instance)
    evaluate(instance, True)
    tick(instance, tick(instance, cursor))
    assert inbox.titles == ["a run failed (broken)"]
    assert run.run_id in inbox.messages[0]["message"]
    assert "Step: breaks" in inbox.messages[0]["message"]
    assert "Nothing has landed yet." in inbox.messages[0]["message"]


def test_attempts_at_the_same_work_are_told_once(
    instance: dg.DagsterInstance, inbox: Inbox
) -> None:
    cursor = tick(instance, None)
    for work in ("a", "a", "b", "a"):
        fail(instance, work=work)
        cursor = tick(instance, cursor)
    assert len(inbox.messages) == 2


def test_an_error_that_may_hold_data_is_not_quoted(
    instance: dg.DagsterInstance, inbox: Inbox
) -> None:
    cursor = tick(instance, None)
    fail(instance, own=False)
    tick(instance, cursor)
    assert len(inbox.messages) == 1
    assert PERSON not in json.dumps(inbox.messages)


def test_a_blocking_check_is_told_when_it_begins_to_fail(
    instance: dg.DagsterInstance, inbox: Inbox
) -> None:
    cursor = None
    for passed in (True, False, False, True, False):
        evaluate(instance, passed)
        evaluate(instance, False, "figures_are_usual")  # it does not block
        cursor = tick(instance, cursor)
    assert inbox.titles == ["a check fails: table.rows_are_right"] * 2
    assert "rows that break it: 3" in inbox.messages[0]["message"]


def test_data_that_is_too_old_is_told(instance: dg.DagsterInstance, inbox: Inbox) -> None:
    evaluate(instance, False, "newest_ingest_date_is_recent", dg.AssetCheckSeverity.WARN)
    tick(instance, tick(instance, None))
    assert inbox.titles == ["a check fails: table.newest_ingest_date_is_recent"]


def test_lost_and_regained_freshness_are_told(instance: dg.DagsterInstance, inbox: Inbox) -> None:
    cursor = None
    for state in ("PASS", "WARN", "FAIL", "FAIL", "PASS"):
        freshness(instance, FreshnessState(state))
        cursor = tick(instance, cursor)
    assert inbox.titles == ["table is not fresh", "table is fresh again"]


def test_a_sensor_that_fails_is_told_once(instance: dg.DagsterInstance, inbox: Inbox) -> None:
    cursor = None
    for status in (TickStatus.SKIPPED, TickStatus.FAILURE, TickStatus.FAILURE, TickStatus.STARTED):
        tick_of_a_sensor(instance, status)
        cursor = tick(instance, cursor)
    assert inbox.titles == ["the sensor landing fails"]
    assert inbox.messages[0]["message"] == "No S3."


def test_what_is_not_delivered_is_sent_again(instance: dg.DagsterInstance, inbox: Inbox) -> None:
    cursor = tick(instance, None)
    fail(instance)
    inbox.status = 500
    cursor = tick(instance, cursor)
    with pytest.raises(StediError, match=r"^1 alerts are not delivered: JSON .*stedi alerts test"):
        tick(instance, cursor)
    inbox.status = 200
    tick(instance, tick(instance, cursor))
    assert inbox.titles == ["a run failed (broken)"]


def test_without_a_target_nothing_is_told(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEDI_ALERTS", raising=False)
    assert tick(instance, None) is None
    with pytest.raises(StediError, match="STEDI_ALERTS is not set"):
        alerts.send_test()


def test_a_test_alert_goes_to_every_target_by_mail_too(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    mails: list[Any] = []

    class Handler:
        async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:
            mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
            return "250 OK"

    mail_server = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    mail_server.start()
    try:
        mail = (
            f"mailto://127.0.0.1:{mail_server.port}?from=stedi@example.com&to=operator@example.com"
        )
        monkeypatch.setenv("STEDI_ALERTS", f"{inbox.url} {mail}")
        assert alerts.send_test() == "Sent a test alert to JSON, E-Mail."
    finally:
        mail_server.stop()
    assert inbox.titles == ["test alert"]
    [(to, message)] = mails
    assert to == ["operator@example.com"]
    assert message["Subject"] == "STEDI: test alert"


def test_a_target_that_cannot_be_is_named_without_its_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEDI_ALERTS", "json://127.0.0.1:9/x nonsense://user:secret@host")
    with pytest.raises(StediError, match=r"URL 2 \(nonsense://…\)") as refused:
        alerts.send_test()
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("STEDI_ALERTS", "json://user:secret@127.0.0.1:9/x")
    with pytest.raises(StediError, match=r"^Not delivered: JSON\.") as undelivered:
        alerts.send_test()
    assert "secret" not in str(undelivered.value)


@pytest.mark.parametrize("url", ["mailto:me:secret@smtp", "secret", "me:secret@host://x"])
def test_of_a_target_without_a_scheme_only_its_number_is_told(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("STEDI_ALERTS", url)
    with pytest.raises(StediError, match="URL 1 is none") as refused:
        alerts.send_test()
    assert "secret" not in str(refused.value)
