"""What engines say of their failures: what is wrong in one line, without what it quotes of data.

An engine's message may hold anything of the rows that it worked on. Shown are the error's class
and code, the object keys that it names, and the words of its message that are an engine's own;
the rest is replaced by an ellipsis. The full text goes to a file that only this user can read,
unless STEDI_ERROR_LOG is off.
"""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stedi_assets.errors import StediError, shown_address
from stedi_assets.escapes import may_hold_address
from stedi_assets.settings import load_settings
from stedi_assets.spark.error_log import write_error_log
from stedi_assets.spark.error_words import is_engine_word
from stedi_assets.spark.options import PACKAGES, SPARK_VERSION

_ENGINES = ("pyspark", "py4j", "grpc", "pyarrow")  # footers are read here, by pyarrow
_MAX_SHOWN, _MAX_KEYS = 300, 3

# What an engine says -> what is wrong and what to do about it.
START_HINT = "start it with the options that `stedi spark-conf` prints"
_JARS = f"it needs {' and '.join(PACKAGES)}, for Spark {SPARK_VERSION}"
_DIAGNOSES = {
    r"JAVA_GATEWAY_EXITED": (
        f"Java ended before it was up, and the lines above say why; where jars were not found,"
        f" {_JARS}, from a Maven repository that can be reached (once: Ivy keeps them)"
    ),
    r"DATA_SOURCE_NOT_FOUND|ClassNotFoundException: io\.delta"
    r"|DELTA_CONFIGURE_SPARK_SESSION": f"there is no Delta in it; {START_HINT}",
    r"No FileSystem for scheme|S3AFileSystem not found": (
        f"it does not read s3:// URIs; {START_HINT}"
    ),
    r"No space left on device|os error 28": (
        "the disk of the folder for temporary files (TMPDIR), or of the engine, is full: make room"
    ),
    r"NoSuchMethodError|NoSuchFieldError|NoClassDefFoundError|ClassNotFoundException"
    r"|IncompatibleClassChangeError|AbstractMethodError": (
        f"its jars are missing or do not fit one another: {_JARS}; {START_HINT}"
    ),
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Forbidden|NoAwsCredentials"
    r"|Unable to load credentials": (
        "S3 refuses its keys, or it has none; start it with the lake's AWS variables or a role"
    ),
    r"PYTHON_VERSION_MISMATCH": (
        "its workers' Python is not of this process's version; say with PYSPARK_PYTHON, where"
        " they start, which one to take"
    ),
    r"StatusCode\.UNAVAILABLE|Connection refused|Socket closed|SESSION_CHANGED|SESSION_NOT_FOUND"
    r"|SESSION_CLOSED|OPERATION_NOT_FOUND|RETRIES_EXCEEDED": (
        "its server went away in the middle of a run; see that it runs, and run again: what was"
        " written stays right"
    ),
}


def is_engine_error(error: BaseException) -> bool:
    """Whether an engine raised it: what their errors have in common is where they come from.

    Either the class is an engine's, or its code was running: of what it reads and cannot convert
    pyspark's client raises a ValueError that quotes it.
    """
    if isinstance(error, StediError):
        return False
    classes = [c.__module__ for c in type(error).__mro__]
    ran = [frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(str(module).startswith(_ENGINES) for module in classes + ran)


@contextmanager
def redact_engine_errors(doing: str) -> Iterator[None]:
    """Turn an engine's error into a StediError that holds no data; others pass as they are.

    Args:
        doing: the operation and its table, as the first words of the error's line.
    """
    try:
        yield
    except Exception as error:
        if not is_engine_error(error):
            raise
        raise StediError(f"{doing} failed: {redacted_message(error)}") from None


def error_line(error: Exception) -> str:
    """Any error in one line without data: ours as it is, others as of `redacted_message`."""
    return str(error) if isinstance(error, StediError) else redacted_message(error)


def redacted_message(error: BaseException, typed: str = "") -> str:
    """One line: what is wrong, as far as it can be said without data, and where the full text is.

    Args:
        error: what the engine of STEDI_SPARK raised; its full text is written to the error log.
        typed: what a person asked the engine; its words are shown as well.
    """
    settings = load_settings()
    message = _answer(error.__str__)
    what = diagnosis(_without_words(message, typed), settings.spark)
    if what is None:
        name, message = _of_java(message) or (type(error).__name__.lstrip("_"), message)
        if code := _code(error, message):
            name, message = f"{name} [{code}]", message.replace(f"[{code}]", "")
        what = f"{name}: {redact(message, typed)}"
    path = write_error_log("".join(traceback.format_exception(error)), settings.error_folder)
    return f"{what} (full text: {path})" if path else what


def _answer(ask: Callable[[], Any]) -> Any:
    """What an error says of itself; '' where it asks a JVM that is gone, as py4j's do."""
    try:
        return ask()
    except Exception:
        return ""


def _without_words(message: str, typed: str) -> str:
    """A message without words that somebody typed: an engine repeats them."""
    words = "|".join(sorted(set(re.findall(r"\w+", typed))))
    return re.sub(rf"\b(?:{words})\b", "", message) if words else message


def diagnosis(message: str, engine: str) -> str | None:
    """In one line what is wrong with an engine that says so; None where that is not known."""
    for pattern, what in _DIAGNOSES.items():
        if re.search(pattern, message):
            return f"Spark ({shown_address(engine)}): {what}."
    return None


def _of_java(text: str) -> tuple[str, str] | None:
    """Class and message of the Java error that py4j wraps in a line of its own; None: no such."""
    match = re.match(r"An error occurred while calling \S+\n: (?:\w+\.)*([\w$]+)(: )?", text)
    return (match[1], text[match.end() :] if match[2] else "") if match else None


def _code(error: BaseException, message: str) -> str:
    """The error's condition, or gRPC's status; '' where it has none."""
    for name in ("getCondition", "code"):
        ask = getattr(error, name, None)
        with_code = _answer(ask) if callable(ask) else None
        if with_code:
            return re.sub(r"[^A-Z0-9_.]", "", str(getattr(with_code, "name", with_code)))
    # pyspark wraps gRPC's errors, and keeps their status in the text only.
    match = re.match(r"\s*\[([A-Z][A-Z0-9_.]+)\]", message) or re.search(
        r"status = StatusCode\.([A-Z_]+)", message
    )
    return match[1] if match else ""


# A word that merely holds "landing" or the like may be anybody's name.
_END = r"\s\"'`,;()<>"
_KEY = re.compile(
    rf"(?<![^{_END}{{}}\[\]|=:])(?:[^{_END}{{}}\[\]|]*/)?"
    r"(?:landing/(?:customer|accelerometer|step_trainer)(?:_landing)?/|_delta_log/"
    rf"|ingest_date=\d{{4}}-\d\d-\d\d/)[^{_END}]*"
)
_QUOTED = [re.compile(f"{mark}.*{mark}|{mark}.*") for mark in "\"'`"]
# Ingest dates, as engines and we write them; no other date is shown, it may be a birthday.
_DATE = r"\d{4}-\d\d-\d\d"
_INGEST_DATES = re.compile(
    rf"ingest_date\s*(?:=|>=|<=)?\s*(?:DATE)?\s*['\"]?({_DATE})"
    rf"|dates being written, ({_DATE})(?: to ({_DATE}))?"
)
_TOKEN = re.compile(r"[^\s,;:()\[\]{}<>=!?]+")


def redact(message: str, typed: str = "") -> str:
    """The first line of an engine's message in its own words only, and the object keys it names.

    typed: what a person asked the engine; its words are shown as well.
    """
    lines = message.strip().splitlines()
    line = lines[0] if lines else "no message"
    keys = list(dict.fromkeys(shown_key(key) for key in _KEY.findall(message)))[:_MAX_KEYS]
    dates = {day for days in _INGEST_DATES.findall(message) for day in days if day}
    for quoted in _QUOTED:
        # Engines do not escape what they quote: from the first quotation mark to the last one.
        line = quoted.sub(
            lambda match: match[0] if match[0][1:-1] in typed else f"{match[0][0]}…{match[0][0]}",
            line,
        )
    code = re.match(r"\[[A-Z0-9_.]+\]|", line)
    start = code.end() if code else 0
    shown = dates | set(re.findall(r"\w+", typed))
    words = _TOKEN.sub(lambda match: _shown_word(match[0], shown), line[start:])
    line = line[:start] + re.sub(r"…(?:[\s,;:]*…)+", "…", words).rstrip()[:_MAX_SHOWN]
    named = [f"object {key}" for key in keys]
    named += [f"ingest_date {day}" for day in sorted(dates)[:_MAX_KEYS] if day not in line]
    return line + (f" ({', '.join(named)})" if named else "")


def _shown_word(token: str, shown: set[str]) -> str:
    bare = token.strip(".\"'`…-")
    return token if not bare or bare in shown or is_engine_word(bare) else "…"


def shown_key(key: str) -> str:
    """An object key, or a path, without a part that may be somebody's address."""
    parts = key.rstrip(".:").split("/")
    return "/".join("…" if may_hold_address(part) else part for part in parts)
