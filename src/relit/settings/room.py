"""What one agent may take of its machine, and how it makes room for others."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from relit.settings.table import Duration, Positive, Size, Table


class Limits(Table, frozen=True):
    """What each process of an agent may use; what is not said is as on the machine. Not for python."""

    files: Annotated[Positive | None, Meta(description="Files that are open at once.")] = None
    processes: Annotated[
        Positive | None, Meta(description="Processes of its user, or of its sandbox's; not enforced for root.")
    ] = None
    file_size: Annotated[Size | None, Meta(description="Of a file that it writes.")] = None
    core: Annotated[Size, Meta(description="Of a core file.")] = "0"


class Idle(Table, frozen=True):
    """How an agent makes room while it has nothing to do. Its next message wakes it."""

    then: Annotated[
        Literal["keep", "freeze", "stop"],
        Meta(
            description="`stop`: it is stopped when memory becomes short, the least important one first, and started "
            "by its next message; for kinds that messages are brought into, or with a `front`. `freeze`: it stands "
            "still and moves into swap, and goes on within a moment; where there is no swap, it is stopped. `keep`: "
            "only when memory is about to run out."
        ),
    ] = "keep"
    after: Annotated[
        Duration | None,
        Meta(description="With `stop` or `freeze`: also without need, when it had nothing to do for so long."),
    ] = None


class Pool(Table, frozen=True):
    """Processes that run an agent's code, as many as its work needs."""

    min: Annotated[int, Meta(ge=0, le=64, description="So many run without any work; 0: none.")] = 1
    max: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(description="So many at most, while runs wait though all have as many as they take. Not said: `workers`."),
    ] = None


class Memory(Table, frozen=True):
    """Of all processes of an agent together."""

    hard: Annotated[
        Size | None, Meta(description="What it may hold at most: above it, it is killed and started again.")
    ] = None
    soft: Annotated[
        Size | None,
        Meta(
            description="Above it, it is started afresh as soon as it has nothing to do, after a snapshot: for leaks."
        ),
    ] = None
