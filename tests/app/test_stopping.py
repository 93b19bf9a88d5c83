"""Services start in order and stop in reverse."""

from __future__ import annotations

import os
import signal

import pytest

from relit.app.stopping import running, until_signal


class Note:
    """A service that writes down what happens to it."""

    def __init__(self, name: str, log: list[str], fails: bool = False) -> None:
        self._name, self._log, self._fails = name, log, fails

    async def start(self) -> None:
        self._log.append(f"start {self._name}")
        if self._fails:
            raise RuntimeError(self._name)

    async def stop(self) -> None:
        self._log.append(f"stop {self._name}")


async def test_services_stop_in_reverse() -> None:
    log: list[str] = []
    async with running([Note("a", log), Note("b", log)], lambda: log.append("began")):
        log.append("work")
    assert log == ["start a", "start b", "began", "work", "stop b", "stop a"]


async def test_what_had_started_is_stopped_when_one_fails() -> None:
    log: list[str] = []
    with pytest.raises(RuntimeError, match="b"):
        async with running([Note("a", log), Note("b", log, fails=True), Note("c", log)]):
            log.append("never")
    assert log == ["start a", "start b", "stop b", "stop a"]


async def test_a_signal_asks_for_the_end() -> None:
    async with until_signal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        assert stop.signal == signal.SIGTERM


async def test_the_failure_of_a_service_is_the_end() -> None:
    async with until_signal() as stop:
        stop.fail(OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await stop.wait()
