"""Alerts: one message when something breaks, to the targets that STEDI_ALERTS names.

Run-failure sensors do not see failing checks, lost freshness or failing sensors, so one sensor
reads all four from the instance. Its cursor keeps what it reported: each thing is reported once,
until it is well again. Messages hold names, dates and counts, and the project's own errors; never
a row.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from stedi_assets.defs.jobs import RANGE_TAGS
from stedi_assets.defs.table_checks import newest_ingest_date_is_recent
from stedi_assets.errors import StediError
from stedi_assets.settings import load_settings

SECONDS = 30
_NEWS_SECONDS = 86_400  # older failures are not reported: the sensor was off meanwhile
_MAX_RUNS = 50  # failed runs read in a tick; the others come in the next one
_MAX_REPORTED = 200
# Failed attempts with the same tag are reported once: of the same work, else of a run's retries.
_SAME_WORK_TAGS = ("stedi/work", "dagster/root_run_id")
_AGE = newest_ingest_date_is_recent.__name__
_OFF = "No alerts: STEDI_ALERTS is not set."


@dataclass(frozen=True)
class Alert:
    """One message."""

    title: str
    body: str


@dataclass
class AlertsCursor:
    """The sensor's cursor: what was reported, and what could not be delivered yet.

    runs: the newest failure that was read, by its storage id; works: the failed works that were
    reported; failing: checks, tables and sensors that were reported and are not well yet;
    undelivered: alerts by target.
    """

    runs: int | None = None
    works: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    undelivered: list[tuple[str, str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, cursor: str | None) -> "AlertsCursor":
        """From a sensor's cursor; nothing was reported where there is none."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def as_text(self) -> str:
        """As a sensor's cursor."""
        return json.dumps(asdict(self) | {"works": self.works[-_MAX_REPORTED:]})


# ---------------------------------------------------------------------- targets


def targets() -> dict[str, Any]:
    """The targets that STEDI_ALERTS names, by a short hash of their URL.

    StediError where one is no URL that apprise knows; it says which, never the URL: it holds keys.
    """
    import apprise

    targets_by_hash = {}
    for number, url in enumerate((load_settings().alerts or "").split(), 1):
        target = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if target is None:
            # Without `://`, or with other characters before it, that may be a password.
            match = re.match("[a-z][a-z0-9+.-]{0,19}://", url, re.IGNORECASE)
            scheme = f" ({match[0]}…)" if match else ""
            raise StediError(
                f"STEDI_ALERTS: URL {number}{scheme} is none that apprise knows: see docs/using.md"
                " for examples."
            )
        targets_by_hash[hashlib.sha256(url.encode()).hexdigest()[:8]] = target
    return targets_by_hash


def send(target: Any, alert: Alert) -> bool:
    """Whether a target took an alert."""
    return bool(target.notify(body=alert.body, title=f"STEDI: {alert.title}", body_format="text"))


def send_test() -> str:
    """Send a test alert to every target; what was sent, in a line.

    StediError where no target is set or one did not take it.
    """
    alert = Alert("test alert", "This is a test: alerts of the STEDI lakehouse reach you.")
    if not (known := targets()):
        raise StediError(
            "STEDI_ALERTS is not set: name a target, such as mailto://user:password@host?to=address"
            " or json://host/path, several with spaces between them."
        )
    refused = [_kind(target) for target in known.values() if not send(target, alert)]
    if refused:
        raise StediError(
            f"Not delivered: {', '.join(refused)}. Check the address, keys and network of the URL."
        )
    return f"Sent a test alert to {', '.join(_kind(target) for target in known.values())}."


def _kind(target: Any) -> str:
    """What a target is, without its address: `E-Mail`, `Slack`, `JSON`."""
    return str(target.service_name)


# ---------------------------------------------------------------------- what to report


def failed_runs(instance: dg.DagsterInstance, cursor: AlertsCursor) -> Iterator[Alert]:
    """An alert for each work whose run failed since the last tick, a work's attempts once."""
    if cursor.runs is None:  # the first tick: earlier failures are not reported
        newest = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1)
        cursor.runs = newest.records[0].storage_id if newest.records else 0
        return
    since = dg.RunStatusChangeRecordsFilter(
        dg.DagsterEventType.RUN_FAILURE, after_storage_id=cursor.runs
    )
    changes = instance.fetch_run_status_changes(since, limit=_MAX_RUNS, ascending=True)
    for record in changes.records:
        cursor.runs = record.storage_id
        run = instance.get_run_by_id(record.event_log_entry.run_id)
        if run is None or time.time() - record.event_log_entry.timestamp > _NEWS_SECONDS:
            continue
        work = next((run.tags[tag] for tag in _SAME_WORK_TAGS if tag in run.tags), run.run_id)
        if work not in cursor.works:
            cursor.works.append(work)
            yield _of_run(run, record.event_log_entry.dagster_event)


def _of_run(run: dg.DagsterRun, event: dg.DagsterEvent | None) -> Alert:
    keys = _partition_keys(run)
    dates = f" of {' to '.join(dict.fromkeys(keys))}" if keys else ""
    lines = [f"Run {run.run_id} of job {run.job_name} failed."]
    data = event.event_specific_data if event else None
    step = getattr(data, "first_step_failure_event", None)
    if step:
        lines.append(f"Step: {step.step_key}.")
        lines += _own_errors(step.step_failure_data.error)
    elif event and event.message and not getattr(data, "error", None):
        lines.append(event.message.splitlines()[0][:300])
    lines.append("Its log in the Dagster UI says more; STEDI runs are tried again by the sensor.")
    return Alert(f"a run failed{dates} ({run.job_name})", "\n".join(lines))


def _partition_keys(run: dg.DagsterRun) -> tuple[str, str] | None:
    """The first and the last partition key of a run; None where it has none."""
    one = run.tags.get("dagster/partition")
    first, last = (run.tags.get(tag, one) for tag in RANGE_TAGS)
    return (first, last) if first and last else None


def _own_errors(error: Any) -> list[str]:
    """The project's own errors in a chain of causes: they hold no data, others might."""
    own = {StediError.__name__, *(cls.__name__ for cls in StediError.__subclasses__())}
    while error:
        if error.cls_name in own:
            return [error.message.strip().splitlines()[-1].partition(": ")[2][:500]]
        error = error.cause or error.context
    return []


def failing_checks(instance: dg.DagsterInstance, graph: Any) -> Iterator[tuple[str, Alert]]:
    """The checks that are alerted and whose newest evaluation failed, with their alerts.

    They are the blocking ones, where they failed as an error, and the age of what landed: Dagster's
    freshness is also kept by the sweep, which finds that nothing landed.
    """
    keys = [
        key
        for key in graph.asset_check_keys
        if graph.get_check_spec(key).blocking or key.name == _AGE
    ]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    for key, record in latest.items():
        evaluation = record.evaluation
        if (
            record.status is not AssetCheckExecutionRecordStatus.FAILED
            or evaluation is None
            or (evaluation.severity is not dg.AssetCheckSeverity.ERROR and key.name != _AGE)
        ):
            continue
        name = f"{key.asset_key.to_user_string()}.{key.name}"
        numbers = ", ".join(
            f"{what.replace('_', ' ')}: {value.value}"
            for what, value in evaluation.metadata.items()
            if isinstance(value.value, int | float)
        )
        when = f" of {evaluation.partition}" if evaluation.partition else ""
        body = f"The check {name}{when} does not pass. {numbers}\nFound by run {record.run_id}."
        yield f"check {name}", Alert(f"a check fails: {name}", body)


def stale_tables(instance: dg.DagsterInstance, graph: Any) -> Iterator[tuple[str, Alert]]:
    """The tables whose freshness Dagster's daemon says is lost, with their alerts."""
    states = instance.get_freshness_state_records(list(graph.get_all_asset_keys()))
    for key, record in states.items():
        if record.freshness_state.value == "FAIL":
            name = key.to_user_string()
            body = (
                f"{name} was not brought up to date within its freshness policy"
                f" (found {record.updated_at:%Y-%m-%d %H:%M} UTC). Look at its runs and its sensor."
            )
            yield f"freshness {name}", Alert(f"{name} is not fresh", body)


def failing_sensors(instance: dg.DagsterInstance, myself: str) -> Iterator[tuple[str, Alert]]:
    """The sensors and schedules whose newest tick failed, with their alerts; not this one."""
    over = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
    for state in instance.all_instigator_state():
        kind = "schedule" if state.instigator_type is InstigatorType.SCHEDULE else "sensor"
        if not state.is_running or state.instigator_name == myself:
            continue
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=1, statuses=over
        )
        if not ticks or ticks[0].status is not TickStatus.FAILURE:
            continue
        reason = "\n".join(_own_errors(ticks[0].error)) or "Its ticks in the Dagster UI say why."
        name = state.instigator_name
        yield f"{kind} {name}", Alert(f"the {kind} {name} fails", reason)


def news(
    instance: dg.DagsterInstance, graph: Any, cursor: AlertsCursor, myself: str
) -> list[Alert]:
    """What is to report and was not reported yet; the cursor is brought up to date."""
    alerts = list(failed_runs(instance, cursor))
    failing = dict(
        [
            *failing_checks(instance, graph),
            *stale_tables(instance, graph),
            *failing_sensors(instance, myself),
        ]
    )
    alerts += [alert for what, alert in failing.items() if what not in cursor.failing]
    for what in cursor.failing:
        if what.startswith("freshness ") and what not in failing:
            name = what.partition(" ")[2]
            alerts.append(Alert(f"{name} is fresh again", f"{name} was brought up to date."))
    cursor.failing = sorted(failing)
    return alerts


# ---------------------------------------------------------------------- the sensor


def deliver(known: dict[str, Any], cursor: AlertsCursor, alerts: Sequence[Alert]) -> int:
    """Send what is new, and what was not delivered before; how many were delivered.

    The cursor keeps what a target did not take. StediError where a target takes nothing a second
    time and there is nothing new: the tick fails, and an operator sees it.
    """
    before = [(to, Alert(title, body)) for to, title, body in cursor.undelivered if to in known]
    queue = [*before, *((to, alert) for alert in alerts for to in known)]
    failed: list[tuple[str, Alert]] = []
    for to, alert in queue:
        # One that does not answer is not asked again in this tick.
        if to in {target for target, _ in failed} or not send(known[to], alert):
            failed.append((to, alert))
    cursor.undelivered = [(to, alert.title, alert.body) for to, alert in failed][-_MAX_REPORTED:]
    if failed and len(failed) == len(before) and not alerts:
        kinds = sorted({_kind(known[to]) for to, _ in failed})
        raise StediError(
            f"{len(failed)} alerts are not delivered: {', '.join(kinds)} does not take them."
            " Try `stedi alerts test`; they are sent when it works again."
        )
    return len(queue) - len(failed)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=SECONDS,
    default_status=(
        dg.DefaultSensorStatus.RUNNING if load_settings().alerts else dg.DefaultSensorStatus.STOPPED
    ),
    description="Tells the targets in STEDI_ALERTS of failed runs, failing blocking checks, data"
    " that is too old, tables that are no longer or again fresh, and failing sensors; each once."
    " Off until one is set.",
)
def alerts_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Read what fails from the instance and send what is new; skipped where no target is set.

    StediError where a target refuses a second time and nothing is new: the tick fails.
    """
    known = targets()
    if not known:
        return dg.SensorResult(skip_reason=_OFF)
    assert context.repository_def is not None, "the daemon knows the definitions"
    cursor = AlertsCursor.of(context.cursor)
    graph = context.repository_def.asset_graph
    alerts = news(context.instance, graph, cursor, context.sensor_name)
    for alert in alerts:
        context.log.info(alert.title)
    delivered = deliver(known, cursor, alerts)
    summary = f"Delivered {delivered}." if delivered else "Nothing new to report."
    if cursor.undelivered:
        summary += f" {len(cursor.undelivered)} were not taken and are sent again."
    return dg.SensorResult(skip_reason=summary, cursor=cursor.as_text())
