"""`stedi forget`: a person out of everything, as one function that commands and tests call."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from stedi_assets.errors import RunInProgressError, StediError
from stedi_assets.incremental.pipeline import Pipeline
from stedi_assets.lakehouse.tables import Lakehouse
from stedi_assets.lakehouse.write_lock import write_lock
from stedi_assets.privacy import unfinished, vacuum
from stedi_assets.privacy.address_search import identity
from stedi_assets.privacy.audit import AuditRow
from stedi_assets.privacy.landed_objects import Redactor, Taken, claims_in_objects
from stedi_assets.privacy.subject_access import find, row_is_theirs, rows_of, without_devices
from stedi_assets.privacy.unfinished import Unfinished
from stedi_assets.privacy.whose_record import Person
from stedi_assets.spark.errors import error_line, redact_engine_errors
from stedi_assets.tables.schemas import TABLES, Table


@dataclass(frozen=True)
class Forgotten:
    """What came of it.

    audit: the audit row; purge: what the removal of old files did; problems: what could not be
    done, each in a line, so that the command is to be repeated.
    """

    audit: dict[str, Any]
    purge: vacuum.PurgeResult
    problems: list[str]


@dataclass(frozen=True)
class _Found:
    """Whom an order is about.

    person: with the devices whose readings are taken; kept: the devices that the next order is to
    know of if this one stays unfinished, as an earlier one did; problem: why devices are left out.
    """

    person: Person
    kept: frozenset[str]
    is_repeated: bool
    problem: str | None


def forget(
    pipeline: Pipeline,
    address: str,
    catch_up_without_new_dates: Callable[[], object],
    catch_up: Callable[[], object],
    runs_in_progress: Callable[[], list[str]],
    command: str = "stedi forget",
) -> Forgotten:
    """Take a person out of every landed object, every table and all that left the tables.

    What cannot be read or built holds up nothing else: it is among the problems, or named in the
    audit row. An audit row is kept as soon as anything is changed. An order that was cut short, or
    had problems, is finished by the next one.

    address: the email as typed; catch_up_without_new_dates, catch_up: bring what was built before,
    or all, up to date, StediError where some could not be; runs_in_progress: the ids of runs that
    may write; command: who asked, for the audit row. StediError while a run is in progress, where
    the address is empty, or is nobody's.
    """
    email = identity(address)
    for run in runs_in_progress():
        raise RunInProgressError(run, command)
    lakehouse = pipeline.lakehouse
    found = _find(lakehouse, email, catch_up_without_new_dates)
    person = found.person
    problems = [found.problem] if found.problem else []
    unread: list[str] = []  # of the last look only what cannot be read is a problem
    before = rows_of(lakehouse, person, unread)
    row = AuditRow(lakehouse.store, command, person.subject_id)
    order: Unfinished | None = None

    def start() -> None:
        nonlocal order
        if not row.started:
            order = unfinished.begin(lakehouse.store, person, found.kept)
            row.start()

    redactor = Redactor(lakehouse.store, person, start)
    taken = redactor.taken
    try:
        redactor.take_out()
        if not taken.was_found and not any(before.values()) and not found.is_repeated:
            raise _nobody(taken, unread)
        start()
        assert order is not None, "begun just now"
        if unknown := (redactor.unknown_devices | order.devices) - found.kept:
            order = unfinished.begin(lakehouse.store, person, unknown)
            problems.append(
                "A record that landed meanwhile, or another order, named another device of the"
                f" person: `{command}` again for its readings."
            )
        with suppress(Exception):  # whatever it is: reported when it is tried again
            catch_up_without_new_dates()
        _delete_from_tables(lakehouse, person, problems)
        purge = vacuum.purge(pipeline, timedelta(0))
        # Where a date kills the process, nothing of the person is left before it.
        _bring_up_to_date(lakehouse, person, catch_up, problems)
        first = purge
        purge = vacuum.purge(pipeline, timedelta(0))  # what that run replaced may name the person
        purge.removed += first.removed
        purge.uploads += first.uploads
        left = rows_of(lakehouse, person, problems)
        problems += purge.problems
        problems += _to_be_repeated(taken, left, runs_in_progress(), command)
        if purge.until:
            problems.append(
                f"Files that no table names stay, and may hold rows of the person: `{command}`"
                f" again after {purge.until:%Y-%m-%d %H:%M} UTC."
            )
        problems += unfinished.overtaken(lakehouse.store, person, order)
        row.outcome = {"completed": not problems} | _outcome(taken, person, before, left)
    finally:
        problems += row.finish()
    if not problems:
        # After the row: whoever is killed between the two repeats the order, and finds it.
        problems += unfinished.end(lakehouse.store, person, order)
    return Forgotten(row.row, purge, problems)


def _find(
    lakehouse: Lakehouse, email: str, catch_up_without_new_dates: Callable[[], object]
) -> _Found:
    """The person of an email and their devices, by tables, by objects, and by an unfinished order.

    A device counts where it is certain that nobody else's record names it. What cannot be read may
    be such a record; where it had landed, the tables know it. They need not know dates that take
    hours, or on which the process dies: those keep nobody's objects as they are.
    """
    nobody = without_devices(lakehouse, email)
    with suppress(Exception):  # whatever it is: reported when it is tried again
        catch_up_without_new_dates()
    earlier = unfinished.read(lakehouse.store, nobody)
    left = earlier.devices if earlier else frozenset()
    known = replace(nobody, devices=left)
    try:
        known, tables_are_known = find(lakehouse, email, known.devices), True
    except Exception:  # reported when the rows are looked for
        tables_are_known = False
    claims = claims_in_objects(lakehouse.store, known)
    person, problem = claims.person, None
    left_out = claims.unanswered + (0 if tables_are_known else claims.unread)
    if left_out:
        person = replace(person, devices=frozenset())
        problem = (
            f"Readings of devices stay: {left_out} customer objects could not be read, and may say"
            " that the devices are somebody else's: when they can be read, repeat this."
        )
    kept = claims.person.devices | left
    return _Found(person, kept, earlier is not None, problem)


def _nobody(taken: Taken, unread: list[str]) -> StediError:
    text = "No landed object and no table holds anything of this person: nothing was done."
    if taken.unread:
        some = "; ".join(f"{key}: {why}" for key, why in sorted(taken.unread.items())[:3])
        text += f" {len(taken.unread)} objects could not be searched ({some})."
    if unread:
        text += f" {len(unread)} tables could not be read ({unread[0]})."
    if taken.named:
        text += f" {len(taken.named)} objects are named after them ({taken.named[0]})."
    return StediError(text)


def _bring_up_to_date(
    lakehouse: Lakehouse, person: Person, catch_up: Callable[[], object], problems: list[str]
) -> None:
    """Bring tables up to date; rows of the person that are there for all that are deleted."""
    is_up_to_date = False
    try:
        catch_up()
        is_up_to_date = True
    except Exception as error:  # whatever it is: it holds up no deletion
        problems.append(error_line(error))
    still = _delete_from_tables(lakehouse, person, problems)
    if still and is_up_to_date:
        problems.append(
            f"{', '.join(still)} held rows of the person after their landed objects were searched:"
            " they are deleted, and the next run brings them back where the objects have them in a"
            " form that the search does not know. Repeat this; where it says so again, look into"
            " the landed objects of the dates that the next `stedi catch-up` names."
        )


def _delete_from_tables(lakehouse: Lakehouse, person: Person, problems: list[str]) -> list[str]:
    """Delete the person's rows from the tables; the names of those that had any."""
    names = [name for name, rows in rows_of(lakehouse, person, []).items() if rows]
    for name in names:
        try:
            _delete_rows(lakehouse, TABLES[name], person)
        except StediError as error:
            problems.append(str(error))
    return names


@redact_engine_errors("Deleting the rows of a person")
def _delete_rows(lakehouse: Lakehouse, table: Table, person: Person) -> None:
    """Delete the person's rows from a table whose dates could not be built anew."""
    theirs = row_is_theirs(lakehouse, table, person)
    with write_lock(lakehouse.store, table.name):
        lakehouse.refresh([table])
        rows, days = lakehouse.read(table), None
        if table.partitioned:
            dates = rows.where(theirs).select("ingest_date").distinct().collect()
            days = {row[0] for row in dates}
        lakehouse.replace(table, rows.where(~theirs), days)


def _outcome(
    taken: Taken, person: Person, before: dict[str, int], left: dict[str, int]
) -> dict[str, Any]:
    """What was taken and what stays, as the audit row says it."""
    return {
        "rows": {name: before[name] - left[name] for name in TABLES} | taken.records,
        "rows_left": {name: rows for name, rows in left.items() if rows},
        "older_versions": taken.versions,
        "mentions_in_records_of_others": taken.mentions,
        "devices_shared_with_others": len(person.shared),
        "unreadable_objects": sorted(taken.unread),
        "reasons": taken.unread,
        "objects_named_after_the_person": sorted(taken.named),
    }


def _to_be_repeated(taken: Taken, left: dict[str, int], runs: list[str], command: str) -> list[str]:
    """What somebody has to do again, each in a line."""
    lines = []
    if coming_back := set(taken.named) & set(taken.unread):
        lines.append(
            f"{len(coming_back)} objects that cannot be read are named after the person, and so are"
            f" their rows in the tables: rename or delete them, then `{command}` again."
        )
    if any(left.values()) or runs:
        # What a run wrote that had read before is found by the next catch-up.
        lines.append(
            "Rows of the person are in a table again, or may be: a run beside this one had read"
            " them before. When no run is in progress, `stedi erase --now` takes them out."
        )
    if taken.to_be_repeated:
        lines.append(
            f"Objects that may hold the person were not read or not rewritten, as named under"
            f" `reasons`: fix that, then `{command}` again."
        )
    return lines
