"""The contract in plain Python, with nothing of the project: what every table must hold."""

import gzip
import hashlib
import json
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from itertools import accumulate

FIELDS = {
    "customer": {
        "customerName": str,
        "email": str,
        "phone": str,
        "birthDay": str,
        "serialNumber": str,
        "registrationDate": int,
        "lastUpdateDate": int,
        "shareWithResearchAsOfDate": int,
        "shareWithPublicAsOfDate": int,
        "shareWithFriendsAsOfDate": int,
    },
    "accelerometer": {"user": str, "timestamp": int, "x": float, "y": float, "z": float},
    "step_trainer": {"sensorReadingTime": int, "serialNumber": str, "distanceFromObject": int},
}
REQUIRED = {
    "customer": {"email", "serialNumber", "registrationDate", "lastUpdateDate"},
    "accelerometer": set(FIELDS["accelerometer"]),
    "step_trainer": set(FIELDS["step_trainer"]),
}
SPACE = " \t\r\n"
MAX_DEPTH = 500


class Literal(str):
    """The source text of a number, true or false."""


def content(name: str, data: bytes) -> str:
    """An object's text; ValueError with the contract's reason where it cannot be read."""
    if name.lower().endswith(".gz") and data:
        if data[:2] != b"\x1f\x8b":
            raise ValueError("not gzip")
        try:
            data = gzip.decompress(data)
        except EOFError:
            raise ValueError("gzip cut short") from None
        except (zlib.error, gzip.BadGzipFile):
            raise ValueError("gzip damaged") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    return text[1:] if text.startswith("\ufeff") else text


def refuse(constant: str) -> None:
    raise ValueError(constant)


def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
    """Of a field given twice the last one counts."""
    return {
        name: Literal(str(value).lower()) if isinstance(value, bool) else value
        for name, value in found
    }


DECODER = json.JSONDecoder(
    object_pairs_hook=pairs, parse_int=Literal, parse_float=Literal, parse_constant=refuse
)


def depth(text: str) -> int:
    """How many objects and arrays of a JSON text lie in one another."""
    brackets = re.sub(r'"(?:\\.|[^"\\])*"|[^\[\]{}]', "", text)
    return max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets))


def pieces(line: str) -> Iterator[tuple[dict | None, str]]:
    """(object, its text) for every record of a line; (None, rest) for a malformed rest."""
    rest, commas = line.strip(SPACE), ""
    while rest:
        text = rest.removeprefix(commas).lstrip(SPACE)  # a lone comma after an object
        if not text:
            return
        try:
            found, end = DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            found = end = None
        if not isinstance(found, dict) or depth(text[:end]) > MAX_DEPTH:
            yield None, rest
            return
        yield found, text[:end]
        rest, commas = text[end:].lstrip(SPACE), ","


def value_of(value: object, kind: type) -> object:
    """A field's value as its type; ValueError where it is of another."""
    if isinstance(value, dict | list):
        raise ValueError
    if kind is str:
        return re.sub("[\ud800-\udfff]", "\ufffd", str(value))
    if not isinstance(value, Literal) or value in ("true", "false"):
        raise ValueError
    number = float(value)
    if kind is int:
        digits = re.sub(r"\.0+$", "", value)
        least, most = (-(2**63), 2**63 - 1) if digits == value else (-(2**53), 2**53)
        if not re.fullmatch("-?[0-9]{1,20}", digits) or not least <= int(digits) <= most:
            raise ValueError
        return 0 if number == 0 else int(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError
    return 0.0 if number == 0 else number


def well_formed(entity: str, found: dict) -> dict[str, object] | None:
    if entity == "accelerometer" and "timestamp" not in found and "timeStamp" in found:
        found["timestamp"] = found["timeStamp"]
    try:
        fields = {
            name: None if found.get(name) is None else value_of(found[name], kind)
            for name, kind in FIELDS[entity].items()
        }
    except ValueError:
        return None
    for name in REQUIRED[entity]:
        if fields[name] is None or (
            isinstance(fields[name], str) and not fields[name].strip(SPACE)
        ):
            return None
    return fields


def records(entity: str, key: str, data: bytes) -> Iterator[dict[str, object]]:
    """The records of an object, each with `_corrupt_record`."""
    nothing = dict.fromkeys(FIELDS[entity])
    try:
        text = content(key, data)
    except ValueError as reason:
        yield {**nothing, "_corrupt_record": f"unreadable object {key}: {reason}"}
        return
    for line in re.split("\r\n|\n|\r", text):
        for found, raw in pieces(line):
            fields = well_formed(entity, found) if found is not None else None
            if fields is None:
                yield {**nothing, "_corrupt_record": raw}
            else:
                yield {**fields, "_corrupt_record": None}


def day_of(entity: str, key: str, first: date, today: date) -> date | None:
    match = re.fullmatch(rf"landing/{entity}/ingest_date=(\d\d\d\d-\d\d-\d\d)/(.+)", key, re.DOTALL)
    if not match or match[2].endswith("/"):
        return None
    if any(part.startswith(("_", ".")) for part in match[2].split("/")):
        return None
    try:
        day = date.fromisoformat(match[1])
    except ValueError:
        return None
    return day if first <= day <= today else None


def compared(email: str) -> str:
    """An email as it is compared and stored."""
    return unicodedata.normalize("NFC", email.strip(SPACE).lower())


def lowest(value: object) -> tuple:
    return (0,) if value is None else (1, value)


def shares(row: dict) -> bool:
    return (row["shareWithResearchAsOfDate"] or 0) > 0


def standing(row: dict) -> tuple:
    """The order in which the greatest record of a customer is the current one."""
    ties = [
        "shareWithResearchAsOfDate",
        "serialNumber",
        "customerName",
        "phone",
        "birthDay",
        "registrationDate",
        "shareWithPublicAsOfDate",
        "shareWithFriendsAsOfDate",
    ]
    return (
        row["lastUpdateDate"],
        row["ingest_date"],
        not shares(row),
        *(lowest(row[name]) for name in ties),
    )


def earliest(rows: list[dict], keys: list[str]) -> list[dict]:
    first: dict[tuple, dict] = {}
    for row in rows:
        key = tuple(row[k] for k in keys)
        if key not in first or row["ingest_date"] < first[key]["ingest_date"]:
            first[key] = {**{k: row[k] for k in keys}, "ingest_date": row["ingest_date"]}
    return list(first.values())


def expected_tables(
    objects: Mapping[str, bytes], *, scope: str, salt: str, first: date, today: date
) -> dict[str, Counter]:
    """Every table of the contract as a bag of rows, each a tuple of its columns in order."""
    landed: dict[str, list[dict]] = {entity: [] for entity in FIELDS}
    for key, data in objects.items():
        for entity in FIELDS:
            day = day_of(entity, key, first, today)
            if day:
                found = records(entity, key, data)
                landed[entity].extend({**row, "ingest_date": day} for row in found)
    good = {
        entity: [row for row in rows if row["_corrupt_record"] is None]
        for entity, rows in landed.items()
    }

    current: dict[str, dict] = {}
    for row in good["customer"]:
        email = compared(row["email"])
        mine = {**row, "email": email, "serialNumber": row["serialNumber"].strip(SPACE)}
        if email not in current or standing(mine) > standing(current[email]):
            current[email] = mine
    trusted = {email: row for email, row in current.items() if shares(row)}

    readings = [{**r, "user": compared(r["user"])} for r in good["accelerometer"]]
    readings = [
        r
        for r in readings
        if r["user"] in trusted
        and (
            scope == "customer" or r["timestamp"] >= trusted[r["user"]]["shareWithResearchAsOfDate"]
        )
    ]
    accelerometer = earliest(readings, ["user", "timestamp", "x", "y", "z"])
    active = {r["user"] for r in accelerometer}
    customers = {email: row for email, row in trusted.items() if email in active}

    claims = Counter(row["serialNumber"] for row in current.values())
    owners = {
        row["serialNumber"]: email
        for email, row in customers.items()
        if claims[row["serialNumber"]] == 1
    }
    steps = [{**r, "serialNumber": r["serialNumber"].strip(SPACE)} for r in good["step_trainer"]]
    steps = earliest(
        [r for r in steps if r["serialNumber"] in owners],
        ["sensorReadingTime", "serialNumber", "distanceFromObject"],
    )

    at: dict[tuple, list[dict]] = defaultdict(list)
    for r in accelerometer:
        at[r["user"], r["timestamp"]].append(r)
    paired = [
        (
            hashlib.sha256((salt + owners[s["serialNumber"]]).encode()).hexdigest(),
            s["sensorReadingTime"],
            s["distanceFromObject"],
            r["x"],
            r["y"],
            r["z"],
            max(s["ingest_date"], r["ingest_date"]),
        )
        for s in steps
        for r in at[owners[s["serialNumber"]], s["sensorReadingTime"]]
    ]

    def bag(rows: list[dict], names: list[str]) -> Counter:
        return Counter(tuple(row[name] for name in names) for row in rows)

    people = [*FIELDS["customer"], "ingest_date"]
    return {
        **{
            f"{entity}_landing": bag(rows, [*FIELDS[entity], "_corrupt_record", "ingest_date"])
            for entity, rows in landed.items()
        },
        "customer_trusted": bag(list(trusted.values()), people),
        "accelerometer_trusted": bag(accelerometer, [*FIELDS["accelerometer"], "ingest_date"]),
        "step_trainer_trusted": bag(steps, [*FIELDS["step_trainer"], "ingest_date"]),
        "customers_curated": bag(list(customers.values()), people),
        "machine_learning_curated": Counter(paired),
    }
