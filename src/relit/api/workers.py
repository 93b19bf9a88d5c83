"""Workers, and the machines they are on."""

from __future__ import annotations

import msgspec

from relit import documents
from relit.api.operation import Call, Operation
from relit.store.values import WorkerInfo


class WorkersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which workers: the live ones, or all that are remembered."""

    all: bool = False


def _document(worker: WorkerInfo) -> documents.Worker:
    return documents.Worker(
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        targets=worker.targets,
        state=worker.state,
        joined_at=worker.joined_at,
        lease_left_ms=worker.lease_left_ms,
    )


async def list_workers(call: Call) -> documents.Workers:
    """Worker processes."""
    found = await call.store.workers(live=not call.query.all)
    return documents.Workers(workers=[_document(worker) for worker in found])


def machines(workers: list[WorkerInfo]) -> list[documents.Node]:
    """The machines of ``workers``. A host's name may be used twice, its boot id is not."""
    nodes: dict[tuple[str, str], documents.Node] = {}
    for worker in workers:
        place = (worker.host, worker.boot)
        node = nodes.setdefault(place, documents.Node(host=worker.host, boot=worker.boot, workers=0, targets=[]))
        node.workers += 1
        node.targets = sorted({*node.targets, *worker.targets})
    return [nodes[place] for place in sorted(nodes)]


async def list_nodes(call: Call) -> documents.Nodes:
    """Machines that have a live worker."""
    return documents.Nodes(nodes=machines(await call.store.workers()))


OPERATIONS = (
    Operation(
        method="GET",
        path="/v1/workers",
        name="list_workers",
        summary="Worker processes.",
        tag="workers",
        handle=list_workers,
        query=WorkersQuery,
        answer=documents.Workers,
    ),
    Operation(
        method="GET",
        path="/v1/nodes",
        name="list_nodes",
        summary="Machines that have a live worker.",
        tag="workers",
        handle=list_nodes,
        answer=documents.Nodes,
    ),
)
