"""What a node knows of memory can be read by others, whole or not at all, and not when it is old."""

from __future__ import annotations

from pathlib import Path

import httpx

from relit.api.build import build
from relit.api.parts import Options, Parts
from relit.api.server import ApiServer
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import gauge
from relit.node.gauge import Gauge, GaugeFile, Guest
from relit.store.sql.sqlite.store import SqliteStore

NOW = Gauge(
    at_ms=1_000_000, level="amber", capacity=16 << 30, free=500 << 20, amber=600 << 20, red=300 << 20, short=7,
    waiting=[Guest(name="claw", reason="it needs 1200 MB", peak=1200 << 20, cpu_s=15.0)], next=["scout"],
)  # fmt: skip


def test_the_newest_word_is_read(tmp_path: Path) -> None:
    file = GaugeFile(tmp_path)
    file.write(NOW)
    file.write(Gauge(at_ms=1_000_500))
    assert gauge.read(tmp_path, 1_001_000) == Gauge(at_ms=1_000_500)
    file.write(NOW)
    file.close()
    assert gauge.read(tmp_path, 1_001_000) == NOW


def test_what_is_old_or_broken_is_nothing(tmp_path: Path) -> None:
    assert gauge.read(tmp_path, 0) is None
    file = GaugeFile(tmp_path)
    file.write(NOW)
    file.close()
    assert gauge.read(tmp_path, NOW.at_ms + 31_000) is None
    (tmp_path / gauge.NAME).write_bytes(b'{"level": "ultra"')
    assert gauge.read(tmp_path, NOW.at_ms) is None


def test_of_hundreds_that_wait_the_first_are_told(tmp_path: Path) -> None:
    file = GaugeFile(tmp_path)
    many = [Guest(name=f"agent-{number}", reason="it waits for memory, and has for long" * 3) for number in range(500)]
    names = [each.name for each in many] * 5
    file.write(Gauge(at_ms=5, waiting=many, parked=many, waiting_count=500, parked_count=500, going=names, next=names))
    file.close()
    found = gauge.read(tmp_path, 5)
    assert found is not None
    assert [each.name for each in found.waiting] == [f"agent-{number}" for number in range(30)] == found.next
    assert (found.waiting_count, found.parked_count) == (500, 500)


async def test_a_scaler_reads_what_the_next_start_lacks(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    api = ApiServer(
        build(Parts(Engine(store, Payloads()), Options(metrics_public=True, run_dir=tmp_path))), port=0,
        closing=lambda: None,
    )  # fmt: skip
    await api.start()
    file = GaugeFile(tmp_path)
    try:
        async with httpx.AsyncClient(base_url=api.url, trust_env=False) as http:
            assert "relit_node_" not in (await http.get("/metrics")).text
            file.write(
                Gauge(at_ms=SYSTEM_CLOCK.now_ms(), level="amber", capacity=100, free=10, short=7, parked_count=200)
            )
            text = (await http.get("/metrics")).text
            assert "relit_node_memory_short_bytes 7\n" in text
            assert 'relit_node_pressure{level="amber"} 1\n' in text
            assert "relit_node_parked 200\n" in text
    finally:
        file.close()
        await api.stop()
        await store.stop()
