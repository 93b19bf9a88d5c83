"""A node's logs: written as instances write, for many of them at once, over restarts and kills."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec
import pytest
from log_house import Log, disk, fill, mounted, until
from node_house import gone, open_files

from relit.control.care import Incident
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.service import Tasks
from relit.node import logs as logs_module
from relit.node import touches
from relit.node.incidents import Incidents
from relit.node.logs import Logs


class House:
    """Logs that run, and what went wrong in them."""

    def __init__(self, folder: Path, **sizes: int) -> None:
        self.folder = folder
        self.faults: list[BaseException] = []
        self.tasks = Tasks(self.faults.append)
        self.logs = Logs(SYSTEM_CLOCK, **sizes)
        self.written: dict[str, Log] = {}

    def add(self, name: str, *secrets: str) -> Log:
        log = self.written.setdefault(name, Log(self.folder / name))
        self.logs.add(name, log.raw, log.out, secrets)
        return log

    async def stop(self) -> None:
        await self.logs.stop()
        await self.tasks.stop()
        for log in self.written.values():
            log.close()
        assert self.faults == []


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    made.logs.start(made.tasks)
    yield made
    await made.stop()


async def test_what_is_written_is_in_the_log_within_moments(house: House) -> None:
    log = house.add("scout")
    for number in range(3):
        begin = time.perf_counter()
        log.write(f"line {number}\n")
        await until(lambda number=number: len(log.lines()) == number + 1)
        took = time.perf_counter() - begin
        print(f"{took * 1000:.1f} ms")
        assert took < 2.0  # not by looking every few seconds
    assert log.lines() == ["line 0", "line 1", "line 2"]


async def test_without_inotify_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touches, "_FLAGS", -1)  # the kernel refuses
    house = House(tmp_path)
    house.logs.start(house.tasks)
    log = house.add("scout")
    log.write("line\n")
    await until(lambda: log.lines() == ["line"], timeout=3.0)
    await house.stop()


async def test_a_raw_log_that_was_replaced_is_found_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs_module, "SURE_S", 0.05)
    log = house.add("scout")
    log.write("one\n")
    await until(lambda: log.lines() == ["one"])
    log.close()
    log.raw.unlink()
    log.write("two\n")
    await until(lambda: log.lines() == ["one", "two"])


async def test_a_last_line_is_written_after_a_second(house: House) -> None:
    log = house.add("scout")
    log.write("Password? ")
    begin = time.perf_counter()
    await until(lambda: log.lines() == ["Password? "])
    assert 0.9 < time.perf_counter() - begin < 3.0


async def test_drained_is_when_all_that_was_written_is_in_the_log(house: House) -> None:
    log = house.add("scout", "hunter2hunter2")
    log.write("x" * 79 + "\n")
    log.write(("y" * 79 + "\n") * 20_000 + "died of hunter2hunter2, half a li")
    await house.logs.drained("scout")
    assert len(log.lines()) == 20_002
    last, *_ = house.logs.tail("scout", 1)
    assert last.endswith("Z died of [redacted:secret], half a li")
    assert len(house.logs.tail("scout", 50)) == 50


async def test_nobody_s_log_is_drained_and_empty(house: House) -> None:
    await house.logs.drained("nobody")
    assert house.logs.tail("nobody", 5) == []
    house.add("silent")
    await house.logs.drained("silent")
    assert house.logs.tail("silent", 5) == []


async def test_drained_ends_although_the_instance_writes_on(house: House) -> None:
    log = house.add("chatty")
    with log.raw.open("ab") as file:
        writer = subprocess.Popen(["yes", "y" * 70], stdout=file)
    try:
        await until(lambda: log.raw.stat().st_size > 100_000)
        await house.logs.drained("chatty")
    finally:
        writer.kill()
        writer.wait()


async def test_who_leaves_has_its_log_brought_to_its_end(house: House) -> None:
    log = house.add("scout")
    log.write("first\n" * 50_000 + "last words")
    house.logs.remove("scout")
    house.logs.remove("scout")
    await until(lambda: log.lines()[-1:] == ["last words"])
    assert log.lines() == ["first"] * 50_000 + ["last words"]


async def test_who_comes_again_with_other_secrets_goes_on_in_the_same_log(house: House) -> None:
    log = house.add("scout", "correct horse")
    for secret in ("battery staple", "correct horse", "battery staple"):
        log.write("old: correct horse and battery staple\n" * 20_000)
        house.add("scout", secret)
        log.write("new: correct horse and battery staple\n")
    await house.logs.drained("scout")
    await until(lambda: len(log.lines()) == 60_003)
    assert not any("correct horse" in line and "battery staple" in line for line in log.lines())


async def test_stop_brings_logs_up_to_date_and_the_next_start_goes_on(tmp_path: Path) -> None:
    for part in range(3):
        house = House(tmp_path)
        log = house.add("scout")
        house.logs.start(house.tasks)
        log.write("".join(f"{part} {number}\n" for number in range(30_000)) + "half")
        await house.logs.stop()
        assert log.lines()[-1] == "half"
        log.write(" a line\n")
        await house.stop()
        await house.logs.stop()
    lines = [f"{part} {number}" for part in range(3) for number in range(30_000)]
    assert [line for line in log.lines() if "half" not in line and "a line" not in line] == lines
    assert log.lines()[-1] == "half"  # the rest comes at the next start


async def test_tasks_may_be_stopped_before_the_logs(tmp_path: Path) -> None:
    house = House(tmp_path)
    log = house.add("scout")
    house.logs.start(house.tasks)
    log.write("line\n" * 200_000)
    await asyncio.sleep(0)
    await house.tasks.stop()
    await house.stop()
    assert len(log.lines()) == 200_000


async def test_logs_that_were_never_started_stop(tmp_path: Path) -> None:
    house = House(tmp_path)
    log = house.add("scout")
    log.write("line\n")
    await house.stop()
    assert log.lines() == ["line"]


async def test_a_full_disk_is_told_and_waited_for_while_others_go_on(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs_module, "AGAIN_S", 0.05)
    with mounted(tmp_path / "disk", "tmpfs") as place:
        log, other = Log(place / "log"), house.add("other")
        house.logs.add("scout", log.raw, log.out)
        lines = [f"line {number} {'x' * 80}" for number in range(4000)]
        log.write("\n".join(lines[:10]) + "\n")
        await until(lambda: len(log.lines()) == 10)
        ballast = fill(place)
        with pytest.raises(OSError, match="No space"):  # the instance's own trouble, not ours
            log.write(b"x" * 1_000_000)
        ballast.unlink()
        log.write("\n" + "\n".join(lines[10:]) + "\n")
        ballast = fill(place)
        await until(lambda: "No space left" in house.logs.trouble)
        await house.logs.drained("scout")
        assert "No space left" in house.logs.trouble
        other.write("meanwhile\n")
        await until(lambda: other.lines() == ["meanwhile"])
        assert house.faults == []
        ballast.unlink()
        await until(lambda: len(log.lines()) >= 4000 and house.logs.trouble == "")
        await house.logs.drained("scout")
        assert [line for line in log.lines() if line.startswith("line")] == lines
        house.logs.remove("scout")
        log.close()


async def test_a_log_that_cannot_be_read_is_told_in_its_place(house: House) -> None:
    log = house.add("scout")
    log.out.mkdir()
    assert "cannot be read" in house.logs.tail("scout", 5)[0]


async def test_logs_are_what_incidents_quote_from(house: House) -> None:
    log, told = house.add("scout", "hunter2hunter2"), list[Incident]()
    incidents = Incidents(told.append, house.logs)
    log.write("it was hunter2hunter2")
    incidents.change(Incident(id="1", agent="scout", instance="scout", opened_ms=1), "")
    await incidents.flush()
    assert [line.partition(" ")[2] for line in told[0].log] == ["it was [redacted:secret]"]


async def test_they_quote_the_lines_of_the_newest_death_until_it_is_over(house: House) -> None:
    log, told = house.add("scout"), list[Incident]()
    incidents = Incidents(told.append, house.logs)
    begun = Incident(id="1", agent="scout", instance="scout", opened_ms=1, cause="signal 9")
    worse = msgspec.structs.replace(begun, rung=4, cause="exit 1")
    for number, each in enumerate([begun, worse, worse, msgspec.structs.replace(worse, resolved_ms=2, rung=5)]):
        log.write(f"{number}\n")
        incidents.change(each, "")
        await incidents.flush()
    assert [each.log[-1].rpartition(" ")[2] for each in told] == ["0", "1", "1", "1"]


async def test_a_fault_of_ours_stops_neither_the_others_nor_the_node(house: House) -> None:
    broken, other = house.add("broken"), house.add("other")
    broken.out.mkdir()
    broken.write("line\n")
    await until(lambda: str(broken.out) in house.logs.trouble)
    other.write("line\n")
    await until(lambda: other.lines() == ["line"])


# --- what it costs ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_hundreds_of_quiet_instances_cost_nothing(house: House) -> None:
    before = open_files(os.getpid())
    for number in range(300):
        house.add(f"agent-{number}").write("started\n")
    await asyncio.gather(*(house.logs.drained(name) for name in house.written))
    for log in house.written.values():
        log.close()
    await asyncio.sleep(3)  # what the last drains have left to do
    files, begin = open_files(os.getpid()) - before, time.process_time()
    await asyncio.sleep(6)  # a whole round of looking at all of them
    cost = time.process_time() - begin
    print(f"{cost / 6 * 100:.2f} % of a processor for 300 quiet instances; {files} more open files")
    assert cost < 0.3
    assert files < 20


@pytest.mark.slow
async def test_a_flood_neither_starves_the_loop_nor_other_logs(house: House) -> None:
    flood, other = house.add("flood"), house.add("other")
    size = 200 << 20
    block = "".join(f"{number:06d} GET /v1/agents/auditor/messages 200 in 12 ms\n" for number in range(20_000)) * 4
    writer = asyncio.to_thread(_pour, flood.raw, block.encode(), size, 50 << 20)
    begin, pauses, waits = time.perf_counter(), [0.0], [0.0]
    pouring = asyncio.get_running_loop().create_task(writer)
    while not pouring.done() or len(waits) < 20:
        sent, lines = time.perf_counter(), len(waits)
        other.write("ping\n")
        while len(other.lines()) < lines:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            pauses.append(time.perf_counter() - before - 0.005)
        waits.append(time.perf_counter() - sent)
    await pouring
    await house.logs.drained("flood")
    took = time.perf_counter() - begin
    pauses.sort()
    print(
        f"{size >> 20} MiB in {took:.1f} s; the loop was late by {pauses[len(pauses) // 2] * 1000:.1f} ms usually, "
        f"{pauses[-1] * 1000:.0f} ms at most; another's line waited {max(waits) * 1000:.0f} ms at most; "
        f"{disk(flood.raw) >> 20} MiB of raw log at the end"
    )
    assert pauses[len(pauses) * 99 // 100] < 0.5
    assert max(waits) < 5.0


def _pour(raw: Path, block: bytes, size: int, rate: int) -> None:
    """Write so fast, as a process would that has another processor."""
    begin, done = time.perf_counter(), 0
    with raw.open("ab", buffering=0) as file:
        while done < size:
            done += file.write(block)
            time.sleep(max(0.0, begin + done / rate - time.perf_counter()))


# --- killed ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_killed_again_and_again_each_line_is_kept_exactly_once(tmp_path: Path) -> None:
    chance = Random(20261126)
    log = Log(tmp_path / "log")
    program = [sys.executable, str(Path(__file__).with_name("log_program.py")), str(log.raw.parent), "30000"]
    written, kills, cut = 0, 0, ""
    for _ in range(25):
        process = subprocess.Popen(program)
        end = time.monotonic() + chance.uniform(0.3, 0.9)
        while time.monotonic() < end:
            count = chance.choice((1, 20, 500))
            text = "".join(f"{number} {'x' * 50}\n" for number in range(written, written + count))
            at = chance.randrange(len(text))
            log.write(cut + text[:at])
            cut = text[at:]
            written += count
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    log.write(cut)
    process = subprocess.Popen(program)
    await until(lambda: log.lines()[-1:] != [] and log.lines()[-1].startswith(f"{written - 1} "))
    process.terminate()
    await gone(process.pid)
    assert process.wait() == 0
    files = len(list(log.out.parent.glob("out.log*")))
    print(f"{kills} kills, {written} lines, {files} files")
    assert [line.partition(" ")[0] for line in log.lines()] == [str(number) for number in range(written)]
    assert disk(log.raw) < 300_000
    log.close()
