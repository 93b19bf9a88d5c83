"""How much a start of something needs, learnt from the starts that were seen. Pure."""

from __future__ import annotations

import msgspec

MB = 1 << 20
_FORGETS = 0.25  # of the difference: a start that needed less counts so much, one that needed more counts whole


class Footprint(msgspec.Struct, frozen=True):
    """Bytes of memory at the ``peak`` of a start and when it has ``settled``, and CPU seconds until it was ready.
    ``seen``: starts that it was learnt from; 0: nobody has measured it."""

    peak: int
    settled: int
    cpu_s: float
    seen: int = 0


def learnt(before: Footprint, sample: Footprint) -> Footprint:
    """After one more start. It grows at once, so that the next one finds room, and shrinks slowly; the first start that
    is measured takes the place of what was only said."""
    if before.seen == 0:
        return msgspec.structs.replace(sample, seen=1)
    return Footprint(
        peak=round(_towards(before.peak, sample.peak)),
        settled=round(_towards(before.settled, sample.settled)),
        cpu_s=_towards(before.cpu_s, sample.cpu_s),
        seen=before.seen + 1,
    )


def _towards(before: float, now: float) -> float:
    return now if now > before else before + (now - before) * _FORGETS
