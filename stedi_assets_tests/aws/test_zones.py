"""The template's policies, held by a real S3 server: reads, writes, and the project's commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from stedi_assets_tests.aws import template
from stedi_assets_tests.aws.iam_server import UNKNOWN, iam_server

BUCKETS = {"lake": "lake", "results": "lake-athena-results"}
LINES = [
    line
    for line in template.access_table()
    if line["action"].startswith("s3:")
    and line["action"] not in UNKNOWN
    and "SecureTransport" not in line["where"]
]


@pytest.fixture(scope="module")
def zones(tmp_path_factory):
    with iam_server(tmp_path_factory.mktemp("iam")) as running:
        yield running


def attempt(server, line):
    """Do what a line of the table says, with the keys of the role; refused: ClientError."""
    client, root = server.client(line["who"]), server.client("root")
    name, _, key = line["on"].partition("/")
    place = {"Bucket": BUCKETS[name]}
    if key:
        place["Key"] = key
        if line["action"] != "s3:PutObject":
            root.put_object(**place, Body=b"x")
    if line["action"] == "s3:AbortMultipartUpload":
        place["UploadId"] = root.create_multipart_upload(**place)["UploadId"]
    prefix = {"Prefix": line["where"].partition("=")[2]} if line["where"] else {}
    calls = {
        "s3:GetObject": client.get_object,
        "s3:PutObject": client.put_object,
        "s3:DeleteObject": client.delete_object,
        "s3:AbortMultipartUpload": client.abort_multipart_upload,
        "s3:ListBucket": client.list_objects_v2,
        "s3:GetBucketVersioning": client.get_bucket_versioning,
        "s3:GetBucketLocation": client.get_bucket_location,
        "s3:DeleteBucket": client.delete_bucket,
    }
    calls[line["action"]](**place, **prefix)


def outcome(server, line):
    try:
        attempt(server, line)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return "done"


def test_every_s3_line_of_the_table_holds(zones):
    expected = {"yes": "done", "no": "AccessDenied"}
    found = [(line, outcome(zones, line)) for line in LINES]
    assert [(line, what) for line, what in found if what != expected[line["may"]]] == []
    assert len(found) > 50


def stedi(server, who, *arguments, stdin=""):
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "STEDI_", "DAGSTER_"))
    }
    return subprocess.run(
        [str(Path(sys.executable).with_name("stedi")), *arguments],
        env=environ | server.environment(who),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_roles_can_do_their_work(tmp_path):
    """The pipeline builds and compacts, the privacy officer forgets, a scientist reads, with the
    template's policies and no other right."""
    from deltalake import DeltaTable

    sample = tmp_path / "sample"
    (tmp_path / "iam").mkdir()
    with iam_server(tmp_path / "iam") as server:
        done = stedi(server, "pipeline", "sample", str(sample), "--customers", "20")
        assert done.returncode == 0, done.stderr
        assert stedi(server, "root", "land", str(sample)).returncode == 0
        for command in (["catch-up"], ["erase"]):
            done = stedi(server, "pipeline", *command)
            assert done.returncode == 0, done.stderr
        rows = {
            t["table"]: t["rows"]
            for t in json.loads(stedi(server, "pipeline", "tables", "--json").stdout)
        }
        assert rows["machine_learning_curated"] > 0
        keys = server.environment("data scientist")
        options = {**keys, "AWS_ALLOW_HTTP": "true"}
        uri = "s3://lake/curated/machine_learning_curated"
        table = DeltaTable(uri, storage_options=options).to_pyarrow_table()
        assert table.num_rows == rows["machine_learning_curated"]
        record = next(sample.rglob("customer/**/*.json"))
        email = json.loads(record.read_text().splitlines()[0])["email"]
        refused = stedi(server, "data scientist", "forget", stdin=f"{email}\n")
        assert refused.returncode == 1
        done = stedi(server, "privacy officer", "forget", stdin=f"{email}\n")
        assert done.returncode == 0, done.stderr
