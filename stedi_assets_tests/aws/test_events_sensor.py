"""From S3's events to right tables: the real sensor, and a queue of moto's SQS."""

import random
import time
import uuid

import dagster as dg
import pytest

from stedi_assets.landing import events
from stedi_assets_tests.aws.test_events import message
from stedi_assets_tests.driver import execute, tick
from stedi_assets_tests.odd_data import DATES, plain_objects

pytestmark = pytest.mark.slow
SECONDS = 600


@pytest.fixture
def sqs(aws, moto_endpoint, monkeypatch):
    from moto.sqs.models import SQSBackend

    # moto works out all figures of the queue for each message: minutes for a thousand.
    slow = "is_message_valid_based_on_retention_period"
    monkeypatch.setattr(SQSBackend, slow, lambda self, queue, message: True)
    monkeypatch.setattr(events, "VISIBILITY_SECONDS", 10)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto_endpoint)
    return aws("sqs", "us-east-1")


class Events:
    """A lake whose sensor is told of events by a queue."""

    def __init__(self, new_lake, sqs):
        self.sqs = sqs
        self.url = sqs.create_queue(QueueName=f"lake-{uuid.uuid4().hex}")["QueueUrl"]
        self.lake = new_lake(quiet_seconds="0", events_queue=self.url)

    def send(self, keys):
        """One event a key, in AWS's form."""
        prefix = self.lake.lake.settings.prefix
        for start in range(0, len(keys), 10):
            entries = [
                {"Id": str(n), "MessageBody": message(f"{prefix}/{key}", bucket="stedi")}
                for n, key in enumerate(keys[start : start + 10])
            ]
            self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def waiting(self):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))

    def until_decided(self, instance):
        """Tick and run until the queue is empty and nothing is requested."""
        end = time.monotonic() + SECONDS
        while True:
            assert time.monotonic() < end, "messages are not decided"
            requests = tick(self.lake, instance).run_requests
            for request in requests or ():
                execute(self.lake, instance, request)
            if not requests and not self.waiting():
                return


def test_a_thousand_events_with_repeats_and_deletions_lead_to_right_tables(new_lake, sqs):
    told = Events(new_lake, sqs)
    objects = plain_objects(1, DATES[0]) | plain_objects(2, DATES[2])
    told.lake.put(objects)
    chosen = random.Random(3)
    gone = "landing/customer/ingest_date=2022-06-19/gone.json"  # before anybody read it
    told.send([chosen.choice([*sorted(objects), gone]) for _ in range(1000)])
    with dg.DagsterInstance.ephemeral() as instance:
        told.until_decided(instance)
        assert told.lake.differences() == {}
        removed = next(iter(plain_objects(2, DATES[2])))
        told.lake.remove(removed)
        told.send([removed])
        told.until_decided(instance)
        assert told.lake.differences() == {}
