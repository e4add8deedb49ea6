"""S3's notifications in an SQS queue: which partitions to look at, and nothing else.

An event names a key. What stands there is decided from a listing, so events may be repeated, come
in any order, or name objects that are gone. The full listing stays as the sweep: a lost event
delays and never loses.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import unquote_plus

from stedi_assets.aws import translate_aws_errors
from stedi_assets.json_text import parse_json
from stedi_assets.landing.layout import is_data, parse_date
from stedi_assets.settings import Settings
from stedi_assets.tables.schemas import ENTITIES

# Of one `receive`: what is over waits in the queue for the next one.
MAX_MESSAGES = 2_000
# For how long received messages are hidden: those not acknowledged are received again after it, so
# that a date on which objects are still landing is looked at soon.
VISIBILITY_SECONDS = 30
_BATCH = 10  # SQS takes and gives no more in one request
_CHECK = "STEDI_EVENTS_QUEUE, AWS_REGION, and that the keys may receive and delete there"

EventPartition = tuple[str, date]  # an entity's name and an ingest date


class UnknownMessageError(ValueError):
    """A message that is not S3's."""


@dataclass(frozen=True)
class LandingEvents:
    """What was received: the partitions that events name, and the messages that named them."""

    partitions: frozenset[EventPartition]
    # Messages that are not S3's. They are not deleted: the queue moves them to its dead letters.
    unknown: int
    _queue: "EventQueue"
    _messages: tuple[tuple[str, frozenset[EventPartition]], ...]

    @property
    def dates(self) -> list[date]:
        """The ingest dates that events name, oldest first."""
        return sorted({day for _, day in self.partitions})

    def acknowledge(self, decided: Collection[date]) -> int:
        """Delete messages from the queue, once what they name was decided from a listing.

        Args:
            decided: the ingest dates that were decided; a message that names another one stays
                and is received again.

        Returns:
            How many messages were deleted.

        Raises:
            StediError: SQS refuses.
        """
        receipts = [
            receipt
            for receipt, partitions in self._messages
            if all(day in decided for _, day in partitions)
        ]
        self._queue.delete(receipts)
        return len(receipts)


@dataclass(frozen=True)
class EventQueue:
    """The SQS queue that the bucket of a lake notifies (`STEDI_EVENTS_QUEUE`).

    Attributes:
        sqs: a boto3 SQS client.
        url: the queue's URL.
        settings: the lake whose events count; others in the same bucket are dropped.
    """

    sqs: Any
    url: str
    settings: Settings

    def receive(self) -> LandingEvents:
        """Receive what waits in the queue, `MAX_MESSAGES` at most; a second where nothing does.

        Raises:
            StediError: SQS refuses, or the queue does not exist.
        """
        messages = []
        unknown = 0
        for message in self._waiting():
            try:
                partitions = message_partitions(message["Body"], self.settings)
            except UnknownMessageError:
                unknown += 1
            else:
                messages.append((message["ReceiptHandle"], partitions))
        named = frozenset(partition for _, partitions in messages for partition in partitions)
        return LandingEvents(named, unknown, self, tuple(messages))

    def _waiting(self) -> Iterator[dict[str, Any]]:
        for _ in range(MAX_MESSAGES // _BATCH):
            with translate_aws_errors("SQS", "receiving S3 events", _CHECK):
                answer = self.sqs.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=_BATCH,
                    VisibilityTimeout=VISIBILITY_SECONDS,
                    WaitTimeSeconds=1,  # 0 asks a few of SQS's servers and may miss messages
                )
            if not answer.get("Messages"):
                return
            yield from answer["Messages"]

    def delete(self, receipts: Collection[str]) -> None:
        """Delete received messages; one that SQS cannot delete now is received again."""
        handles = list(receipts)
        for start in range(0, len(handles), _BATCH):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle}
                for number, handle in enumerate(handles[start : start + _BATCH])
            ]
            with translate_aws_errors("SQS", "deleting S3 events", _CHECK):
                self.sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)


def message_partitions(body: str, settings: Settings) -> frozenset[EventPartition]:
    """The partitions of the lake that a message of S3 names.

    None for `s3:TestEvent`, which S3 sends once, and for keys that are not landed objects of this
    lake (those without a valid `ingest_date=` folder are reported by the full listing).

    Raises:
        UnknownMessageError: it is not a message of S3.
    """
    try:
        message = parse_json(body)
        if message.get("Event") == "s3:TestEvent":
            return frozenset()
        keys = [
            # In a form's encoding: a space is "+".
            unquote_plus(record["s3"]["object"]["key"])
            for record in message["Records"]
            if record["s3"]["bucket"]["name"] == settings.bucket
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnknownMessageError from None
    partitions = (key_partition(key, settings) for key in keys)
    return frozenset(partition for partition in partitions if partition)


def key_partition(key: str, settings: Settings) -> EventPartition | None:
    """The partition of a landed object's key, or None where it is not one of this lake's."""
    folder = settings.key("landing/")
    entity, _, rest = key.removeprefix(folder).partition("/")
    place, _, name = rest.partition("/")
    day = parse_date(place.removeprefix("ingest_date="))
    if not key.startswith(folder) or entity not in ENTITIES or not is_data(name):
        return None
    return (entity, day) if day and place.startswith("ingest_date=") else None
