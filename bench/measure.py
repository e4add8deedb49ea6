"""Run a command and measure it whole: wall time, and the peak memory of all of its processes."""

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.1


@dataclass(frozen=True)
class Measured:
    """What one run of a command took and gave.

    `peak_rss_bytes` is the greatest sum over its processes at one moment: of their PSS where the
    system tells it, so that pages that processes share count once, and of their RSS elsewhere.
    """

    seconds: float
    peak_rss_bytes: int
    exit_code: int
    stdout: str


class CommandFailed(RuntimeError):
    """A command ended with another exit code than 0: which, and the end of its stderr."""


def is_s3_server(name: str) -> bool:
    """Whether a process of this name is the embedded S3 server, left out of every command."""
    return name == "weed"


def run(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    cwd: Path | None = None,
    exclude: Callable[[str], bool] = is_s3_server,
) -> Measured:
    """Run a command to its end and measure it; CommandFailed where it does not end with 0."""
    ended = threading.Event()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.monotonic()
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=output, stderr=errors)
        memory = PeakMemory(process.pid, exclude)
        sampler = threading.Thread(target=memory.sample_until, args=(ended,), daemon=True)
        sampler.start()
        try:
            code = process.wait()
            seconds = time.monotonic() - start
        finally:
            _end(process)  # for whoever gave up on it; one that has ended stays ended
            ended.set()
            sampler.join()
        output.seek(0)
        if code:
            errors.seek(0)
            raise CommandFailed(f"{command[0]} … ended with {code}:\n{errors.read()[-3000:]}")
        return Measured(seconds, memory.peak, code, output.read())


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, and end it after some seconds."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class PeakMemory:
    """The peak memory of a process and of everything that it has started so far."""

    def __init__(self, pid: int, exclude: Callable[[str], bool]) -> None:
        self.peak = 0
        self._exclude = exclude
        # Kept once seen: a child whose parent has ended is no longer found below it.
        self._seen = {process.pid: process for process in _with_children(pid)}

    def sample_until(self, ended: threading.Event) -> None:
        """Look at the processes until the command has ended."""
        while not ended.wait(INTERVAL):
            self.sample()

    def sample(self) -> None:
        """Look at the processes once."""
        for process in list(self._seen.values()):
            for found in _with_children(process.pid):
                self._seen.setdefault(found.pid, found)
        sizes = {pid: self._resident(process) for pid, process in self._seen.items()}
        # PSS is dear to read and never above RSS: only a greater RSS can hold a new peak.
        if sum(sizes.values()) > self.peak:
            self.peak = max(self.peak, sum(_pss(pid, size) for pid, size in sizes.items() if size))

    def _resident(self, process: psutil.Process) -> int:
        """A process's RSS; 0 where it has ended or is left out."""
        try:
            if not process.is_running() or self._exclude(process.name()):
                return 0
            return process.memory_info().rss
        except psutil.Error:
            return 0


def _with_children(pid: int) -> list[psutil.Process]:
    """A process and all below it; none where it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _pss(pid: int, otherwise: int) -> int:
    """A process's proportional set size in bytes; another number where /proc tells none."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return otherwise
