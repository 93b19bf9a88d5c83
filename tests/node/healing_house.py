"""An agent that is healed, and a server with volumes to go back to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from node_house import Server, spec

from relit.control.care import Care, ConfigFile, Incident, KnownGood, Ladder, Went
from relit.control.values import Backoff, InstanceSpec
from relit.errors import RelitError, VolumeError

QUICK = Ladder(restarts=1, settled_ms=50, good_after_ms=60, slow_first_ms=5, slow_most_ms=5)
SOON = Backoff(first_ms=1, most_ms=1)
GOOD = '{"mode": "local"}\n'


class Home:
    """An agent's home with a configuration that its process wants to be JSON, and a server that can put it back."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.home, self.tmp, self.record = folder / "home", folder / "tmp", folder / "incidents"
        for each in (self.home, self.tmp):
            each.mkdir(parents=True)
        self.config = self.home / "a.json"
        self.config.write_text(GOOD)
        self.server = server
        self.care = Care(
            agent="ada",
            kind="command",
            home=str(self.home),
            tmp=str(self.tmp),
            config=[ConfigFile(path="a.json", format="json", keep={"port": 7})],
            stale=["*.lock"],
            ladder=QUICK,
        )

    def spec(self, argv: list[str], care: Care | None = None) -> InstanceSpec:
        return spec("ada", argv, care=care or self.care, record=str(self.record), backoff=SOON)

    def incidents(self) -> list[Incident]:
        return [msgspec.json.decode(each.read_bytes(), type=Incident) for each in sorted(self.record.glob("*.json"))]


class Rescuer(Server):
    """A server whose volumes hold a good configuration."""

    home: Home
    fails: VolumeError | None = None
    refuses: RelitError | None = None  # to say what is good

    async def known_good(
        self, agent: str, files: Sequence[ConfigFile] = (), *, broken: bool = False, before: Sequence[str] = ()
    ) -> KnownGood:
        found = await super().known_good(agent, files, broken=broken, before=before)
        if self.refuses is not None:
            raise self.refuses
        return found

    async def go_back(self, agent: str, number: int, files: Sequence[str] = ()) -> Went:
        went = await super().go_back(agent, number, files)
        if self.fails is not None:
            raise self.fails
        self.home.config.write_text(GOOD)
        return went

    async def over(self) -> Incident:
        await self.until(lambda: any(each.resolved_ms for each in self.incidents))
        return self.incidents[-1]
