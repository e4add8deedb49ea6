"""S3's notifications through SQS: moto's server end to end, and messages as AWS documents them."""

import json
import random
import uuid
from dataclasses import replace
from datetime import date, timedelta

import pytest

from stedi_assets.errors import StediError
from stedi_assets.landing import events
from stedi_assets.landing.events import EventQueue, UnknownMessageError, message_partitions
from stedi_assets.settings import load_settings

DAY = date(2022, 6, 18)
SETTINGS = load_settings(
    {"STEDI_LAKE": "s3://lake/stedi", "STEDI_SUBJECT_SALT": "salt of the tests"}
)
# As AWS documents it, shortened to what is there for every event.
AWS_RECORD = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "awsRegion": "eu-west-1",
    "eventTime": "2022-06-18T10:00:00.000Z",
    "eventName": "ObjectCreated:Put",
    "userIdentity": {"principalId": "EXAMPLE"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "landing",
        "bucket": {"name": "lake", "arn": "arn:aws:s3:::lake"},
        "object": {
            "key": "stedi/landing/customer/ingest_date%3D2022-06-18/a+b%C3%BC.json",
            "size": 1024,
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}


def message(*keys, bucket="lake"):
    records = []
    for key in keys:
        record = json.loads(json.dumps(AWS_RECORD))
        record["s3"]["object"]["key"] = key
        record["s3"]["bucket"]["name"] = bucket
        records.append(record)
    return json.dumps({"Records": records})


def test_a_message_of_aws_names_its_partition():
    body = json.dumps({"Records": [AWS_RECORD]})
    assert message_partitions(body, SETTINGS) == {("customer", DAY)}


def test_a_key_is_decoded():
    key = "stedi%2Flanding/step_trainer/ingest_date%3D2022-06-18/part+1/x%2By.json.gz"
    assert message_partitions(message(key), SETTINGS) == {("step_trainer", DAY)}


@pytest.mark.parametrize(
    "key",
    [
        "landing/customer/ingest_date=2022-06-18/a.json",  # of another lake in the bucket
        "stedi/landing/customer_landing/ingest_date=2022-06-18/a.parquet",
        "stedi/landing/customer/ingest_date=2022-02-30/a.json",
        "stedi/landing/customer/ingest_date=0001-01-01/a.json",
        "stedi/landing/customer/2022-06-18/a.json",
        "stedi/landing/customer/ingest_date=2022-06-18",
        "stedi/landing/customer/ingest_date=2022-06-18/",
        "stedi/landing/customer/ingest_date=2022-06-18/_temporary/a.json",
        "stedi/_stedi/settings.json",
    ],
)
def test_what_is_no_landed_object_of_the_lake_names_nothing(key):
    assert message_partitions(message(key), SETTINGS) == frozenset()


def test_other_buckets_and_the_test_event_name_nothing():
    key = "stedi/landing/customer/ingest_date=2022-06-18/a.json"
    assert message_partitions(message(key, bucket="other"), SETTINGS) == frozenset()
    test_event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "lake"}
    assert message_partitions(json.dumps(test_event), SETTINGS) == frozenset()


@pytest.mark.parametrize(
    "body",
    [
        *("", "no JSON", "[]", "1", "{}", '{"Records": [{}]}', '{"Records": 1}', '{"Records":[1]}'),
        "[" * 100_000,
    ],
    ids=range(9),
)
def test_a_message_that_is_not_of_s3_is_unknown(body):
    with pytest.raises(UnknownMessageError):
        message_partitions(body, SETTINGS)


class Bucket:
    """A bucket of moto's that notifies a queue."""

    def __init__(self, aws, name=None, prefix="stedi"):
        self.s3, self.sqs = aws("s3"), aws("sqs")
        queue = f"lake-{uuid.uuid4().hex}"
        self.name, self.prefix = name or queue, prefix
        region = self.s3.meta.region_name
        place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        self.s3.create_bucket(Bucket=self.name, **({} if region == "us-east-1" else place))
        self.dead = self.sqs.create_queue(QueueName=f"{queue}-dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self._arn(self.dead), "maxReceiveCount": "2"}
        self.url = self.sqs.create_queue(
            QueueName=queue, Attributes={"RedrivePolicy": json.dumps(redrive)}
        )["QueueUrl"]
        self.settings = replace(SETTINGS, bucket=self.name)
        self.queue = EventQueue(self.sqs, self.url, self.settings)

    def notify(self):
        self.s3.put_bucket_notification_configuration(
            Bucket=self.name,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {
                        "QueueArn": self._arn(self.url),
                        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
                        "Filter": {
                            "Key": {
                                "FilterRules": [
                                    {"Name": "prefix", "Value": f"{self.prefix}/landing/{entity}/"}
                                ]
                            }
                        },
                    }
                    for entity in ("customer", "accelerometer", "step_trainer")
                ]
            },
        )

    def put(self, key):
        self.s3.put_object(Bucket=self.name, Key=f"{self.prefix}/{key}", Body=b"{}")

    def delete(self, key):
        self.s3.delete_object(Bucket=self.name, Key=f"{self.prefix}/{key}")

    def remove(self):
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            for found in page.get("Contents", ()):
                self.s3.delete_object(Bucket=self.name, Key=found["Key"])
        self.s3.delete_bucket(Bucket=self.name)
        for url in (self.url, self.dead):
            self.sqs.delete_queue(QueueUrl=url)

    def waiting(self, url=None):
        wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=wanted)
        return sum(int(value) for value in found["Attributes"].values())

    def _arn(self, url):
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return attributes["Attributes"]["QueueArn"]


@pytest.fixture
def bucket(aws):
    return Bucket(aws)


@pytest.mark.slow
def test_a_thousand_events_with_repeats_and_deletions_name_the_partitions(bucket, monkeypatch):
    from moto.sqs.models import SQSBackend

    # moto works out all figures of the queue for each message: minutes for a thousand.
    slow = "is_message_valid_based_on_retention_period"
    monkeypatch.setattr(SQSBackend, slow, lambda self, queue, message: True)
    bucket.notify()
    chosen = random.Random(12)
    expected = set()
    events_sent = 0
    while events_sent < 1000:
        entity = chosen.choice(("customer", "accelerometer", "step_trainer"))
        day = DAY + timedelta(chosen.randrange(30))
        name = f"part {chosen.randrange(20)}/ü+{events_sent % 7}.json"
        key = f"landing/{entity}/ingest_date={day}/{name}"
        bucket.put(key)
        expected.add((entity, day))
        events_sent += 1
        if chosen.random() < 0.2:
            bucket.delete(key)  # gone before anybody reads it
            events_sent += 1
    bucket.put("landing/customer_landing/_delta_log/0.json")  # filtered by the notification
    received = bucket.queue.receive()
    assert received.partitions == expected
    assert received.dates == sorted({day for _, day in expected})
    assert received.unknown == 0
    assert bucket.waiting() >= 1000
    assert received.acknowledge(received.dates) >= 1000
    assert bucket.waiting() == 0
    assert bucket.queue.receive().partitions == frozenset()


def test_messages_are_deleted_only_when_acknowledged(bucket, monkeypatch):
    monkeypatch.setattr(events, "VISIBILITY_SECONDS", 0)
    bucket.sqs.send_message(
        QueueUrl=bucket.url,
        MessageBody=message(
            "stedi/landing/customer/ingest_date=2022-06-18/a.json", bucket=bucket.name
        ),
    )
    monkeypatch.setattr(events, "MAX_MESSAGES", 10)
    assert bucket.queue.receive().dates == [DAY]
    again = bucket.queue.receive()
    assert again.dates == [DAY]
    again.acknowledge(again.dates)
    assert bucket.queue.receive().dates == []


def test_a_message_that_names_an_undecided_date_stays(bucket):
    first, second = (f"stedi/landing/customer/ingest_date=2022-06-{day}/a.json" for day in (18, 19))
    for keys in ([first], [second], [first, second]):
        body = message(*keys, bucket=bucket.name)
        bucket.sqs.send_message(QueueUrl=bucket.url, MessageBody=body)
    received = bucket.queue.receive()
    assert received.acknowledge([DAY]) == 1
    assert bucket.waiting() == 2


def test_a_message_that_is_not_of_s3_goes_to_the_dead_letters(bucket, monkeypatch):
    monkeypatch.setattr(events, "VISIBILITY_SECONDS", 0)
    monkeypatch.setattr(events, "MAX_MESSAGES", 10)
    bucket.sqs.send_message(QueueUrl=bucket.url, MessageBody="a person's note")
    for _ in range(2):
        received = bucket.queue.receive()
        assert received.unknown == 1
        assert received.acknowledge(received.dates) == 0
    assert bucket.queue.receive().unknown == 0
    assert bucket.waiting(bucket.dead) == 1


def test_what_sqs_refuses_is_one_line(bucket):
    bucket.sqs.delete_queue(QueueUrl=bucket.url)
    with pytest.raises(
        StediError, match=r"SQS failed at receiving S3 events: .*Check STEDI_EVENTS_QUEUE"
    ):
        bucket.queue.receive()
