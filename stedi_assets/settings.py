"""Everything the environment says, read and validated here and nowhere else."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from stedi_assets.errors import SettingsError, shown_address
from stedi_assets.json_text import parse_json

EMBEDDED_BUCKET = "stedi"
EMBEDDED_SALT = "stedi-embedded-lake"
MIN_SALT_LENGTH = 16
DATE_PATTERN = r"[1-9]\d{3}-\d{2}-\d{2}"
EMBEDDED_HINT = (
    "Start the embedded lake around your command, `stedi local -- COMMAND…`,"
    " or say with STEDI_LAKE=s3://bucket/prefix where your lake is."
)


_SEGMENT_SIGNS = "-_.="
_SEGMENT = rf"(?!\.+$)[A-Za-z0-9{re.escape(_SEGMENT_SIGNS)}]+"


@dataclass(frozen=True)
class Settings:
    """The settings of this process. Credentials are left to the AWS SDK's own variables."""

    bucket: str
    prefix: str
    embedded: bool
    first_ingest_date: date = date(2022, 6, 18)
    consent_scope: str = "customer"
    spark: str = "embedded"
    endpoint: str | None = None
    region: str = "us-east-1"
    # Never shown: whoever knows the salt can find out whose a subject_id is.
    subject_salt: str | None = field(default=None, repr=False)
    # Keys of the embedded server; None elsewhere, where the AWS SDK finds them itself.
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    max_malformed_share: float = 0.05
    max_data_age_days: int = 2
    quiet_seconds: int = 10
    retention_days: int = 7
    # What is longer is one malformed row that names the object: of an object, the bytes of its
    # text; of a record, the bytes from its `{` to its `}`.
    max_object_bytes: int = 2 << 30
    max_record_bytes: int = 16 << 20
    # The folder for full texts of engine errors, which may quote data; None: they are not kept.
    error_folder: Path | None = None
    # apprise URLs with spaces between them: never shown, they hold keys and passwords.
    alerts: str | None = field(default=None, repr=False)
    # AWS services other than S3; None: not used.
    events_queue: str | None = None
    glue_database: str | None = None
    athena_workgroup: str | None = None

    @property
    def lake(self) -> str:
        """The lake's URI, `s3://bucket` or `s3://bucket/prefix`, with no slash at its end."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def is_default_embedded(self) -> bool:
        """Whether it is the embedded lake itself, not another one in its S3 server."""
        return self.embedded and self.prefix == ""

    def uri(self, path: str) -> str:
        """The URI of a path under the lake."""
        return f"{self.lake}/{path}"

    def key(self, path: str) -> str:
        """The S3 key of a path under the lake."""
        return f"{self.prefix}/{path}".lstrip("/")

    def salt(self) -> str:
        """The salt of subject_id; SettingsError where there is none."""
        if self.subject_salt is None:
            raise SettingsError(
                "STEDI_SUBJECT_SALT is not set: a lake other than the embedded one needs a secret"
                " salt for subject_id. Set it once, keep it secret, and never change it."
            )
        return self.subject_salt


def today() -> date:
    """Today in UTC, whatever the machine's time zone."""
    return datetime.now(UTC).date()


def _date(environ: Mapping[str, str], name: str, default: date) -> date:
    text = environ.get(name) or default.isoformat()
    try:
        if not re.fullmatch(DATE_PATTERN, text):
            raise ValueError(text)
        value = date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a date: write it as 2022-06-18.") from None
    if value > today():
        raise SettingsError(f"{name}={text} lies in the future (today is {today()}, UTC).")
    return value


def _share(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise SettingsError(f"{name}={text!r} is not a number from 0 to 1.")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, most: int, least: int = 0) -> int:
    text = environ.get(name) or str(default)
    value = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
    if not least <= value <= most:
        raise SettingsError(f"{name}={text!r} is not a whole number from {least:,} to {most:,}.")
    return value


def _lake(uri: str) -> tuple[str, str]:
    match = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", uri)
    if not match:
        raise SettingsError(
            f"STEDI_LAKE={shown_address(uri)!r} is not an S3 location: write it as s3://bucket or"
            " s3://bucket/prefix, or leave it unset for the embedded lake."
        )
    prefix = (match[2] or "").removesuffix("/")
    # Engines read the rest as patterns, escapes or parts of a URI, each in its own way.
    if prefix and not all(re.fullmatch(_SEGMENT, segment) for segment in prefix.split("/")):
        raise SettingsError(
            f"STEDI_LAKE={shown_address(uri)!r}: its prefix may hold only ASCII letters, digits and"
            f" {' '.join(_SEGMENT_SIGNS)} between single slashes; parameters, which are not shown"
            " here, may not follow it."
        )
    return match[1], prefix


def _salt(environ: Mapping[str, str]) -> str | None:
    """The salt of a lake of one's own; None where none is set: `Settings.salt` says so."""
    salt = environ.get("STEDI_SUBJECT_SALT") or None
    if salt is not None and len(salt) < MIN_SALT_LENGTH:
        raise SettingsError(
            f"STEDI_SUBJECT_SALT has {len(salt)} characters; a salt that cannot be guessed has at"
            f" least {MIN_SALT_LENGTH}. Make one with `openssl rand -hex 32`."
        )
    return salt


def _matching(environ: Mapping[str, str], name: str, pattern: str, form: str) -> str | None:
    """A setting that is unset or has a form, which `form` says to a person."""
    value = environ.get(name) or None
    if value is not None and not re.fullmatch(pattern, value):
        raise SettingsError(f"{name}={shown_address(value)!r} is not {form}.")
    return value


def _choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = environ.get(name) or choices[0]
    if value not in choices:
        raise SettingsError(f"{name}={value!r} is not one of: {', '.join(choices)}.")
    return value


def _spark(environ: Mapping[str, str]) -> str:
    value = environ.get("STEDI_SPARK") or Settings.spark
    if not re.fullmatch(
        r"embedded|sc://\S+:\d+(/\S*)?|local(\[(\*|\d+)\])?|spark://\S+:\d+", value
    ):
        raise SettingsError(
            f"STEDI_SPARK={shown_address(value)!r} is not one of: embedded, sc://host:port,"
            " local[*], spark://host:port."
        )
    return value


def home(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of the embedded lake: STEDI_HOME, or `.stedi` where the command runs."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("STEDI_HOME") or ".stedi").absolute()


def dagster_home(environ: Mapping[str, str] | None = None) -> Path | None:
    """The folder where Dagster keeps its runs; None where DAGSTER_HOME is unset or empty.

    Raises:
        SettingsError: it is relative, or there is no such folder.
    """
    value = (os.environ if environ is None else environ).get("DAGSTER_HOME")
    if not value:
        return None
    if not Path(value).is_absolute():
        raise SettingsError(
            f"DAGSTER_HOME={value!r} is a relative path: write it as an absolute one,"
            f" {str(Path(value).absolute())!r}."
        )
    if not Path(value).is_dir():
        raise SettingsError(
            f"DAGSTER_HOME={value!r} is not a folder: create it, or unset DAGSTER_HOME."
        )
    return Path(value)


def first_date_file(environ: Mapping[str, str] | None = None) -> Path:
    """Where the embedded lake's first ingest date is kept, once something landed there."""
    return home(environ) / "first_ingest_date"


def _first_date(environ: Mapping[str, str], storage: Mapping[str, Any]) -> date:
    """STEDI_FIRST_INGEST_DATE, else the embedded lake's first date that landed, else 2022-06-18."""
    default = Settings.first_ingest_date
    if storage["embedded"] and not storage["prefix"]:
        with suppress(OSError, ValueError):
            default = date.fromisoformat(first_date_file(environ).read_text().strip())
    return _date(environ, "STEDI_FIRST_INGEST_DATE", default)


def _running_server(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the embedded server wrote of itself, or {} where none was started."""
    try:
        state: dict[str, Any] = parse_json((home(environ) / "s3" / "server.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return state


def _storage(environ: Mapping[str, str]) -> dict[str, Any]:
    if environ.get("STEDI_LAKE"):
        bucket, prefix = _lake(environ["STEDI_LAKE"])
        embedded = environ.get("STEDI_EMBEDDED") == "1"  # `stedi local` sets it for its command
        return {
            "bucket": bucket,
            "prefix": prefix,
            "embedded": embedded,
            "endpoint": environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL"),
            "region": environ.get("AWS_REGION")
            or environ.get("AWS_DEFAULT_REGION")
            or Settings.region,
            "subject_salt": environ.get("STEDI_SUBJECT_SALT") if embedded else _salt(environ),
        }
    server = _running_server(environ)
    return {
        "bucket": EMBEDDED_BUCKET,
        "prefix": "",
        "embedded": True,
        # Port 9 (discard): with no server running, a request fails at once and says so.
        "endpoint": server.get("endpoint", "http://127.0.0.1:9"),
        "access_key": server.get("access_key", "none"),
        "secret_key": server.get("secret_key", "none"),
        "subject_salt": environ.get("STEDI_SUBJECT_SALT") or EMBEDDED_SALT,
    }


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the environment (`docs/settings.md` lists the variables).

    SettingsError says in one line which value cannot be, and why.
    """
    environ = os.environ if environ is None else environ
    keeps_errors = _choice(environ, "STEDI_ERROR_LOG", ("on", "off")) == "on"
    storage, default = _storage(environ), Settings
    return Settings(
        **storage,
        first_ingest_date=_first_date(environ, storage),
        consent_scope=_choice(environ, "STEDI_CONSENT_SCOPE", ("customer", "reading")),
        spark=_spark(environ),
        max_malformed_share=_share(
            environ, "STEDI_MAX_MALFORMED_SHARE", default.max_malformed_share
        ),
        max_data_age_days=_integer(
            environ, "STEDI_MAX_DATA_AGE_DAYS", default.max_data_age_days, 100_000
        ),
        quiet_seconds=_integer(environ, "STEDI_QUIET_SECONDS", default.quiet_seconds, 86_400),
        retention_days=_integer(environ, "STEDI_RETENTION_DAYS", default.retention_days, 36_500),
        max_object_bytes=_integer(
            environ, "STEDI_MAX_OBJECT_BYTES", default.max_object_bytes, 1 << 50, 1_000
        ),
        max_record_bytes=_integer(
            environ, "STEDI_MAX_RECORD_BYTES", default.max_record_bytes, 1 << 30, 1 << 20
        ),
        error_folder=home(environ) / "errors" if keeps_errors else None,
        alerts=environ.get("STEDI_ALERTS") or None,
        **_aws_services(environ),
    )


def _aws_services(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        "events_queue": _matching(
            environ,
            "STEDI_EVENTS_QUEUE",
            r"https?://[^\s/]+/\S+",
            "the URL of an SQS queue (https://sqs.REGION.amazonaws.com/ACCOUNT/NAME)",
        ),
        # Athena takes no other characters in the name of a database.
        "glue_database": _matching(
            environ,
            "STEDI_GLUE_DATABASE",
            r"[a-z0-9_]{1,255}",
            "the name of a Glue database (lower-case letters, digits and _)",
        ),
        "athena_workgroup": _matching(
            environ,
            "STEDI_ATHENA_WORKGROUP",
            r"[A-Za-z0-9._-]{1,128}",
            "the name of an Athena workgroup (letters, digits, `.`, `_` and `-`)",
        ),
    }
