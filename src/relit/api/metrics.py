"""/metrics in the Prometheus text format."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from starlette.responses import Response

from relit.api.health import version
from relit.api.meter import EventCount
from relit.api.operation import Api, Call, Operation
from relit.lib.clock import SYSTEM_CLOCK
from relit.node import gauge

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> Iterator[str]:
    """The lines of one metric."""
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        yield f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


async def _work(api: Api) -> Iterator[str]:
    counts = await api.store.counts()
    boxes = await api.store.mailboxes()
    workers = await api.store.workers()
    lines = [
        *family(
            "relit_runs",
            "gauge",
            "Runs by target and state.",
            [({"target": target, "state": state}, count) for (target, state), count in sorted(counts.items())],
        )
    ]
    now = await api.store.now_ms()
    ages = {each.mailbox.name: (now - each.oldest_at) / 1000 for each in boxes if each.oldest_at is not None}
    for name, help, values in (
        ("depth", "Messages that wait to be started.", {each.mailbox.name: each.queued for each in boxes}),
        ("active", "Messages that hold a place.", {each.mailbox.name: each.active for each in boxes}),
        ("parked", "Messages that wait for a person.", {each.mailbox.name: each.parked for each in boxes}),
        ("dead", "Dead letters.", {each.mailbox.name: each.dead for each in boxes}),
        ("oldest_seconds", "Age of the message that has waited longest.", ages),
    ):
        samples = [({"mailbox": box}, float(value)) for box, value in values.items()]
        lines += family(f"relit_mailbox_{name}", "gauge", help, samples)
    lines += family("relit_workers", "gauge", "Live worker processes.", [({}, len(workers))])
    return iter(lines)


async def _events(counter: EventCount) -> Iterator[str]:
    samples = [({"name": name}, count) for name, count in sorted((await counter.read()).items())]
    return family("relit_events_total", "counter", "Events by name since this server's first scrape.", samples)


def _requests(api: Api) -> Iterator[str]:
    yield from family(
        "relit_http_requests_total",
        "counter",
        "Requests by route and status.",
        [
            ({"method": method, "route": route, "status": str(status)}, count)
            for (method, route, status), count in sorted(api.meter.requests.items())
        ],
    )
    yield from family(
        "relit_http_request_seconds_total",
        "counter",
        "Seconds until requests were answered (streams: until their first byte).",
        [({"method": method, "route": route}, took) for (method, route), took in sorted(api.meter.seconds.items())],
    )


def _waits(api: Api) -> Iterator[str]:
    help = "Open streams and long polls that wait for something to happen."
    return family("relit_http_waits", "gauge", help, [({}, api.parts.closing.waiting)])


def _process() -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    for name, kind, help, value in (
        ("process_cpu_seconds_total", "counter", "CPU time.", usage.ru_utime + usage.ru_stime),
        ("process_resident_memory_bytes", "gauge", "Memory in RAM.", float(pages * resource.getpagesize())),
        ("process_open_fds", "gauge", "Open files.", float(len(os.listdir("/proc/self/fd")))),
    ):
        yield from family(name, kind, help, [({}, value)])


def _memory(api: Api) -> Iterator[str]:
    """What an autoscaler needs: how tight it is, and how much more would let the next start in."""
    run_dir = api.parts.options.run_dir
    now = None if run_dir is None else gauge.read(run_dir, SYSTEM_CLOCK.now_ms())
    if now is None:
        return
    for name, help, value in (
        (
            "memory_capacity_bytes",
            "What all processes of the machine, or of the limit around relit, may hold.",
            now.capacity,
        ),
        ("memory_free_bytes", "What is left of it.", now.free),
        ("memory_reserved_bytes", "What starts under way will still take.", now.reserved),
        ("memory_short_bytes", "With so much more the first start that waits would begin.", now.short),
        ("starts_waiting", "Starts that wait for room.", now.waiting_count),
        ("parked", "Instances that make room for others.", now.parked_count),
        ("disk_free_bytes", "What is free on the disk of the data folder.", now.disk.free),
    ):
        yield from family(f"relit_node_{name}", "gauge", help, [({}, value)])
    levels = [({"level": each}, int(each == now.level)) for each in ("green", "amber", "red")]
    yield from family("relit_node_pressure", "gauge", "1 for how tight memory is.", levels)
    rooms = [({"room": each}, int(each == now.disk.room)) for each in ("ample", "low", "least")]
    yield from family("relit_node_disk", "gauge", "1 for how much room there is on it.", rooms)


async def metrics(call: Call) -> Response:
    """Figures for Prometheus. Needs a token unless server.metrics_public is set."""
    api = call.api
    if not api.parts.options.metrics_public:
        await api.guard.admit(call.request.headers.get("authorization", ""), "read")
    lines = [
        *family("relit_info", "gauge", "relit's version.", [({"version": version()}, 1)]),
        *await _work(api),
        *await _events(api.event_count),
        *_requests(api),
        *_waits(api),
        *_memory(api),
        *_process(),
    ]
    return Response("\n".join(lines) + "\n", media_type=MEDIA_TYPE)


OPERATIONS = (
    Operation(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Figures for Prometheus. Needs a token unless server.metrics_public is set.",
        tag="health",
        handle=metrics,
        scope=None,
        answer=MEDIA_TYPE,
    ),
)
