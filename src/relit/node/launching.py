"""How an instance is started. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from relit.control.values import InstanceSpec
from relit.drivers.base import Launch
from relit.lib.ids import new_id
from relit.pressure.shedding import fresh_score


def launch_of(spec: InstanceSpec, *, name: str = "", argv: Sequence[str] = ()) -> Launch:
    """A life of an instance, or of another command in its place."""
    return Launch(
        key=new_id(),
        name=name or spec.name,
        argv=list(argv) or spec.argv,
        env=spec.env,
        cwd=spec.cwd,
        log=spec.log,
        tag="" if name else spec.tag(),
        hold=None if name else spec.hold,
        box=spec.box,
        limits=spec.limits,
        oom=None if spec.demand is None else fresh_score(spec.demand.priority),
    )
