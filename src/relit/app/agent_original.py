"""The original of an installation that is taken over: nobody uses it, it is as it was copied, it is removed."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from relit.agents import adoption, moving
from relit.agents.kind import Adopt
from relit.errors import Conflict


class Stays(msgspec.Struct, frozen=True, kw_only=True):
    """Why an original that was to be removed is still there, and what to do."""

    why: str
    fix: str


class Original:
    """An installation of its owner's. ``tree``: what its configuration says. ``known_as``: a link may have led to it.
    ``others``: ports of agents that are here already. Blocking."""

    def __init__(
        self, source: Path, known_as: Path, adopt: Adopt, tree: dict[str, Any], others: Collection[int]
    ) -> None:
        self._source = source
        self._known_as = known_as
        self._adopt = adopt
        self._tree = tree
        self._others = others
        self._was: moving.Stamps = {}

    def see_still(self, *, ports: bool = True) -> None:
        """Conflict: somebody uses it. ``ports``: one that answers at its port counts, too."""
        adopt = self._adopt if ports else msgspec.structs.replace(self._adopt, ports={}, usual_ports={})
        found = adoption.living(self._source, adopt, self._tree, self._others)
        if found is not None:
            who = f"pid {found.pid}" if found.pid else "a process"
            raise Conflict(
                f"{self._source} is in use by {who}", why=f"{found.why}; a copy of what is written to is none",
                fix=f"stop it, then again: {self._adopt.stop or f'kill {found.pid}'}",
            )  # fmt: skip

    def mark(self) -> None:
        """Whatever is written there from now on keeps it from being removed. OSError."""
        self._was = moving.stamps(self._source)

    def remove(self, copied: Path) -> Stays | None:
        """It, and nothing beside it: in one piece, or not at all. Answers why it stays, if it does. ``copied``: where
        its files are."""
        going = self._source.with_name(f"{self._source.name}.being-removed")
        try:
            self.see_still(ports=False)  # the agent itself may answer there now
            self._see_same(self._source)
            self._put_away(going)
            shutil.rmtree(going)
            if self._known_as.is_symlink():
                self._known_as.unlink()  # it led there
        except Conflict as error:
            why, fix = f"{error.what}: {error.why}", f"stop who uses it; {by_yourself(self._source, copied)}"
            return Stays(why=why, fix=fix)
        except OSError as error:
            there, rest = self._source.exists(), f"rm -r {shlex.quote(str(going))}"  # of that nothing is missed
            return Stays(why=str(error), fix=by_yourself(self._source, copied) if there else rest)
        return None

    def _put_away(self, going: Path) -> None:
        """Under another name: what is written by the old one from now on is not removed, and what was just before is
        seen."""
        os.rename(self._source, going)
        try:
            self._see_same(going)
        except BaseException:
            os.rename(going, self._source)
            raise

    def _see_same(self, folder: Path) -> None:
        if wrong := moving.changed(self._was, moving.stamps(folder)):
            raise Conflict(f"{self._source} was changed since it was copied", why="; ".join(wrong))


def by_yourself(source: Path, copied: Path) -> str:
    """How a person removes it."""
    old, new = shlex.quote(str(source)), shlex.quote(str(copied))
    return f"diff -r {old} {new}; when nothing is missing there: rm -r {old}"
