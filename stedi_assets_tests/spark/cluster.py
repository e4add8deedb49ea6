"""Apache Spark from pip's pyspark: a standalone cluster and a Spark Connect server, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
START_SECONDS = 240  # the first start downloads the jars


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Process:
    """A Java process with a log, in a group of its own: its children go with it."""

    def __init__(self, command: list[str], log: Path, environ: dict[str, str]) -> None:
        self.command, self.log, self.environ = command, log, environ
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.log.parent,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kill -9, without a word to anybody: the process alone, as a machine would lose it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the log holds a text."""
        end = time.monotonic() + START_SECONDS
        while self.log.read_text(errors="replace").count(text) < times:
            if self.process.poll() is not None or time.monotonic() > end:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.log.name}: no {text!r} in it:\n{tail}")
            time.sleep(0.1)


class Cluster:
    """A master, two workers, and a Spark Connect server that runs on them."""

    def __init__(self, folder: Path, options: dict[str, str]) -> None:
        """options: the Connect server's, as `stedi spark-conf` prints them."""
        self.folder, self.options = folder, options
        self.environ = {
            **os.environ,
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(folder / "local"),
            "PYSPARK_PYTHON": sys.executable,
        }
        self.master_port, self.connect_port = free_port(), free_port()
        self.processes: list[Process] = []

    @property
    def master(self) -> str:
        return f"spark://127.0.0.1:{self.master_port}"

    @property
    def remote(self) -> str:
        return f"sc://127.0.0.1:{self.connect_port}"

    def start(self) -> None:
        deploy = "org.apache.spark.deploy"
        place = ["--host", "127.0.0.1", "--webui-port", "0"]
        master = self._run(
            "master",
            "spark-class",
            f"{deploy}.master.Master",
            *place,
            "--port",
            str(self.master_port),
        )
        master.wait_for("I have been elected leader")
        size = ["--cores", "2", "--memory", "2g", "--work-dir", str(self.folder / "work")]
        self.workers = [
            self._run(name, "spark-class", f"{deploy}.worker.Worker", *place, *size, self.master)
            for name in ("worker-1", "worker-2")
        ]
        for worker in self.workers:
            worker.wait_for("Successfully registered with master")
        self.connect = self._connect_server()

    def _connect_server(self) -> Process:
        properties = self.folder / "connect.conf"
        own = {
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(self.connect_port),
            "spark.cores.max": "2",  # half of the cluster: another driver runs beside it
            "spark.executor.memory": "1g",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "4",
        }
        lines = [f"{name} {value}" for name, value in {**self.options, **own}.items()]
        properties.write_text("\n".join(lines))
        server = self._run(
            "connect",
            "spark-submit",
            "--master",
            self.master,
            "--driver-memory",
            "2g",
            "--properties-file",
            str(properties),
            "--class",
            "org.apache.spark.sql.connect.service.SparkConnectServer",
            "spark-internal",
        )
        server.wait_for("Spark Connect server started")
        return server

    def _run(self, name: str, program: str, *arguments: str) -> Process:
        command = [str(SPARK_HOME / "bin" / program), *arguments]
        process = Process(command, self.folder / f"{name}.log", self.environ)
        self.processes.append(process)
        return process

    def heal(self) -> None:
        """Start again whatever a test killed."""
        for process, text in (
            *((worker, "Successfully registered with master") for worker in self.workers),
            (self.connect, "Spark Connect server started"),
        ):
            if process.process.poll() is not None:
                started = process.log.read_text(errors="replace").count(text)
                process.stop()
                process.start()
                process.wait_for(text, started + 1)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()
