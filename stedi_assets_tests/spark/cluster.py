"""Apache Spark from pip's pyspark: a standalone cluster and a Spark Connect server, on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyspark

from stedi_assets_tests.waiting import free_port

SPARK_HOME = Path(pyspark.__file__).parent
# Small tables and many queries: compiling them well takes longer than what it saves.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
REGISTERED = "Successfully registered with master"
START_SECONDS = 240  # the first start downloads the jars


def environment(engine: str) -> dict[str, str]:
    """The environment of a process of its own on an engine, as a person's shell would have it."""
    own = {**os.environ, "STEDI_SPARK": engine, "SPARK_LOCAL_IP": "127.0.0.1"}
    own.pop("SPARK_CONNECT_MODE_ENABLED", None)  # pyspark's note that this process uses Connect
    return own | {"PYSPARK_PYTHON": sys.executable, "SPARK_SUBMIT_OPTS": SHORT_LIVED}


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
            self.check(end)
            time.sleep(0.1)

    def check(self, end: float) -> None:
        """RuntimeError with the log's end where the process ended or the time is up."""
        if self.process.poll() is not None or time.monotonic() > end:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.log.name} says that it is not up:\n{tail}")


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
            "JDK_JAVA_OPTIONS": f"-Djava.io.tmpdir={folder}",  # of the workers' executors, too
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
            worker.wait_for(REGISTERED)
        self.connect = self._connect_server()

    def _connect_server(self) -> Process:
        properties = self.folder / "connect.conf"
        own = {
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": str(self.connect_port),
            "spark.cores.max": "2",  # half of the cluster: another driver runs beside it
            "spark.executor.memory": "1g",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.extraJavaOptions": SHORT_LIVED,
            "spark.executor.extraJavaOptions": SHORT_LIVED,
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
        self._wait_for_connect(server)
        return server

    def _wait_for_connect(self, server: Process) -> None:
        """Wait until the port is open: at its log level the server does not say that it is up."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.connect_port), 1).close()
                return
            except OSError:
                server.check(end)
                time.sleep(0.2)

    def logs(self) -> str:
        """What any process of the cluster logged, executors too."""
        logs = [*self.folder.glob("*.log"), *self.folder.glob("work/*/*/std*")]
        return "\n".join(log.read_text(errors="replace") for log in logs)

    def _run(self, name: str, program: str, *arguments: str) -> Process:
        command = [str(SPARK_HOME / "bin" / program), *arguments]
        process = Process(command, self.folder / f"{name}.log", self.environ)
        self.processes.append(process)
        return process

    def heal(self) -> None:
        """Start again whatever a test killed."""
        for worker in self.workers:
            if worker.process.poll() is not None:
                started = worker.log.read_text(errors="replace").count(REGISTERED)
                worker.stop()
                worker.start()
                worker.wait_for(REGISTERED, started + 1)
        if self.connect.process.poll() is not None:
            self.connect.stop()
            self.connect.start()
            self._wait_for_connect(self.connect)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)  # copies of the jars: some GB
