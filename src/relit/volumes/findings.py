"""What checks have found and nothing has mended yet, and how far the slow ones have come; kept in a file."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from relit.volumes.disk import sync_folder

log = logging.getLogger("relit.volumes")


class Damage(msgspec.Struct, kw_only=True):
    """Something that is not as it was written, and what it takes with it. ``volume``: its agent's name; ``fix``: the
    command that mends it."""

    what: str
    pack: str = ""
    volume: str = ""
    snapshots: list[int] = []
    paths: list[bytes] = []
    fix: str = ""


class Kept(msgspec.Struct, kw_only=True):
    """The file's content, as JSON. ``at``: what the scrub looked at last; ``damage`` by what was checked."""

    at: str = ""
    damage: dict[str, list[Damage]] = {}


class Findings:
    """A check that is done again replaces what it found before: its damage is shown until then. Blocking."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._kept = self._load()

    @property
    def at(self) -> str:
        """What the scrub looked at last."""
        return self._kept.at

    def reached(self, at: str) -> None:
        """The scrub has looked at this."""
        self._kept.at = at
        self._save()

    def found(self, check: str, damage: Sequence[Damage]) -> None:
        """What a check has found, of which nothing else is known from now on."""
        if self._kept.damage.get(check, []) == [*damage]:
            return
        self._kept.damage.pop(check, None)
        if damage:
            self._kept.damage[check] = [*damage]
        self._save()

    def checks(self, prefix: str = "") -> list[str]:
        """Those that found damage, if their names begin so."""
        return sorted(each for each in self._kept.damage if each.startswith(prefix))

    def all(self) -> list[Damage]:
        """All damage that is known."""
        return [each for check in sorted(self._kept.damage) for each in self._kept.damage[check]]

    def _load(self) -> Kept:
        try:
            return msgspec.json.decode(self._place.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s cannot be read, checks begin anew: %s", self._place, error)
            return Kept()

    def _save(self) -> None:
        """All or nothing, whenever the power goes. A disk that is full must not end a check."""
        draft = self._place.with_suffix(".new")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self._kept))
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._place)
            sync_folder(self._place.parent)
        except OSError as error:
            log.warning("what checks found is not kept over a restart: %s", error)
