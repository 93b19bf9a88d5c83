"""What starts take is learnt by all nodes from each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from node_house import Server

from relit.control.local import LocalControl
from relit.control.values import Measured
from relit.errors import ServerUnreachable
from relit.lib.clock import SYSTEM_CLOCK
from relit.node.gate import Gate
from relit.node.learning import Learning
from relit.pressure.admission import Room
from relit.pressure.footprint import MB, Footprint


def gate(**known: Footprint) -> Gate:
    return Gate(lambda: Room(9000 * MB, 9000 * MB), SYSTEM_CLOCK, reserve=lambda: 0, at_once=1, known=known)


async def learning(server: Server, here: Gate) -> Learning:
    control = LocalControl(server)
    await control.start()
    return Learning(control, here)


async def test_what_one_has_measured_the_other_knows(server: Server) -> None:
    first, second = gate(claw=Footprint(900 * MB, 600 * MB, 14.0, 3)), gate()
    await (await learning(server, first)).share()
    await (await learning(server, second)).share()
    assert second.known == first.known


async def test_who_has_seen_more_starts_is_right(server: Server) -> None:
    few, many = Footprint(MB, MB, 1.0, 1), Footprint(2 * MB, 2 * MB, 2.0, 5)
    first, second = gate(claw=many), gate(claw=few)
    await (await learning(server, first)).share()
    await (await learning(server, second)).share()
    assert second.known["claw"] == many


async def test_only_what_is_new_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    async def footprints(learnt: Sequence[Measured]) -> list[Measured]:
        told.append([each.of for each in learnt])
        return list(learnt)

    monkeypatch.setattr(server, "footprints", footprints)
    here = gate(claw=Footprint(MB, MB, 1.0, 1))
    made = await learning(server, here)
    await made.share()
    await made.share()
    here.known["clerk"] = Footprint(MB, MB, 1.0, 1)
    await made.share()
    assert told == [["claw"], [], ["clerk"]]


async def test_what_was_not_told_is_told_the_next_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(learnt: Sequence[Measured]) -> list[Measured]:
        raise ServerUnreachable("it is away")

    here = gate(claw=Footprint(MB, MB, 1.0, 1))
    made = await learning(server, here)
    with monkeypatch.context() as patch:
        patch.setattr(server, "footprints", away)
        with pytest.raises(ServerUnreachable):
            await made.share()
    await made.share()
    assert set(server.footprints_now) == {"claw"}
