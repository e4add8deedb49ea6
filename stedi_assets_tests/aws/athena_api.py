"""A few calls of Athena's interface, answered by Trino: a fixture, no evidence of Athena itself."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stedi_assets_tests.aws.trino import Trino


@contextmanager
def athena_api(trino: Trino) -> Iterator[str]:
    """The address of the interface."""
    answers: dict[str, dict[str, Any]] = {}

    def start(asked: dict[str, Any]) -> dict[str, Any]:
        query = str(uuid.uuid4())
        status: dict[str, Any] = {"State": "SUCCEEDED"}
        columns: list[dict[str, Any]] = []
        rows: list[list[Any]] = []
        try:
            columns, rows = trino.execute(asked["QueryString"])
        except RuntimeError as error:  # the form of Athena's reason
            status = {"State": "FAILED", "StateChangeReason": str(error)}
        fixed = {"Precision": 0, "Scale": 0, "Nullable": "UNKNOWN"}
        info = [{"Name": c["name"], "Type": c["type"].partition("(")[0]} | fixed for c in columns]
        table = [[one["Name"] for one in info], *rows]
        answers[query] = {
            "execution": {
                "QueryExecutionId": query,
                "Query": asked["QueryString"],
                "StatementType": "DML",
                "WorkGroup": asked["WorkGroup"],
                "Status": status,
            },
            "results": {
                "Rows": [{"Data": [_datum(value) for value in row]} for row in table],
                "ResultSetMetadata": {"ColumnInfo": info},
            },
        }
        return {"QueryExecutionId": query}

    calls = {
        "StartQueryExecution": start,
        "GetQueryExecution": lambda asked: {
            "QueryExecution": answers[asked["QueryExecutionId"]]["execution"]
        },
        "GetQueryResults": lambda asked: {
            "ResultSet": answers[asked["QueryExecutionId"]]["results"]
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            call = self.headers["X-Amz-Target"].partition(".")[2]
            answer = json.dumps(calls[call](json.loads(body))).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _datum(value: Any) -> dict[str, str]:
    return {} if value is None else {"VarCharValue": str(value)}
