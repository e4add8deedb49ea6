"""What Dagster loads before anybody sees anything."""

import os
import subprocess
import sys

SECONDS = 3
SCRIPT = """
import time
from stedi_assets.definitions import defs
repository = defs.resolve_all_job_defs(), defs.resolve_asset_graph()
print(time.process_time())
"""


def test_the_definitions_load_in_under_three_seconds():
    # Of processor time, the best of three: a busy machine takes longer for the same.
    spent = []
    while len(spent) < 3 and min(spent, default=SECONDS) >= SECONDS:
        environ = os.environ | {"PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, check=True
        )
        spent.append(float(done.stdout))
    assert min(spent) < SECONDS
