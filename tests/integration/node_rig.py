"""The node as a process, for tests; leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

WAIT_S = 60
"""Far above what anything here takes on a busy machine; a failure, not a measurement."""


class NodeProcess:
    """``python -m waistline_node``; standard output and error are collected as they come."""

    def __init__(self, *arguments, backend="fake", env=None, wrap=()):
        command = [sys.executable, *(wrap or ("-m", "waistline_node")), *map(str, arguments)]
        if backend:
            command += ["--backend", backend]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.out, self.err = [], []
        self._readers = [
            threading.Thread(target=lambda: self.out.extend(self.process.stdout), daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_errors(self):
        for line in self.process.stderr:
            self.err.append(line)

    def until(self, condition, what="that"):
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"{what} never happened: {self.out} {self.err}"
            time.sleep(0.02)

    def until_said(self, text, times=1):
        self.until(lambda: self.errors.count(text) >= times, text)

    def send(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def end(self):
        """Wait for it; returns (exit code, ready line, summary line)."""
        code = self.process.wait(WAIT_S)
        for reader in self._readers:
            reader.join(WAIT_S)
        lines = [json.loads(line) for line in self.out]
        ready = next((line for line in lines if "ready" in line), None)
        summary = next((line for line in lines if "summary" in line), None)
        return code, ready, summary

    @property
    def errors(self):
        """What stands on standard error, as one text."""
        return "".join(self.err)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        for reader in self._readers:
            reader.join(WAIT_S)
        self.process.stdout.close()
        self.process.stderr.close()
