"""What the keeper holds frozen: for whom, until when. Standard library only."""

import os
from collections.abc import Callable, Iterable

from relit.node import guests, kin, still
from relit.node.keeper_guard import Guard
from relit.node.keeper_lives import Life, boot_id, boot_ms
from relit.node.keeper_requests import Peer, Refused

HOLD_MS = 2_000  # when the client does not say
HOLD_MOST_MS = 10_000
PARKED_MS = 10 * 365 * 86_400_000  # of one that is parked: until it is woken


class Frost:
    """Freezes lives and lets them go: when asked, when whoever asked is gone, or when the time is over.

    The guard and the note in the run folder know of a freeze before it begins.
    """

    def __init__(self, run_dir: str, go_home: Callable[[], None]) -> None:
        self._dir = run_dir
        self._boot = boot_id()
        self._held: dict[str, tuple[still.Still, Peer | None, Life]] = {}  # by the instance's name; nobody's: parked
        self._locks: dict[str, int] = {}  # of those whose guests stand still
        self.guard = Guard(go_home)

    def recover(self, lives: Iterable[Life]) -> None:
        """Let go what a keeper before us left frozen: what its note says, and every group of a life."""
        for each in still.load(self._dir, self._boot):
            still.let_go(each)
        for life in lives:
            life.thawed_ms = boot_ms()
            if life.group is not None:
                kin.thaw_group(life.group)
        self._tell()

    # --- operations --------------------------------------------------------------------------------------------

    def freeze(self, life: Life, main: int, peer: Peer, hold_ms: int, *, park: bool) -> dict[str, object]:
        """Freeze a life for a client; ``park``: until it is woken, whatever becomes of the client. One that is parked
        stands still already: then nothing is the client's to let go. Refused: ``busy``, ``failed`` (then nothing is
        frozen)."""
        if life.name in self._held:
            if self._held[life.name][1] is not None:
                raise Refused("busy", f"{life.name} is frozen for somebody else")
            return self._parked(self._held[life.name][0], life, main)
        each = still.Still(life.key, life.name, life.group, boot_ms() + (PARKED_MS if park else hold_ms))
        self._held[life.name] = (each, None if park else peer, life)
        return self._begun(life, main)

    def _begun(self, life: Life, main: int) -> dict[str, object]:
        each, life.frozen_ms = self._held[life.name][0], boot_ms()
        try:
            self._tell()
            pids = self._stand_still(each, life, main)
        except OSError as error:
            self.release(life.name)
            raise Refused("failed", f"the freeze of {life.name} cannot be written down: {error}") from error
        if pids is None or not (pids or main == kin.NOBODY):
            self.release(life.name)
            raise Refused("failed", f"a process of {life.name} would not stand still")
        return each.view() | {"processes": len(pids), "standing": sorted(pids)}

    def _parked(self, each: still.Still, life: Life, main: int) -> dict[str, object]:
        pids = {pid for pid, _ in each.pids} if each.group is None else kin.group_pids(each.group) | {main}
        view = still.Still(life.key, life.name, None, each.until_ms).view()
        return view | {"processes": len(pids), "standing": sorted(pids)}

    def freeze_guests(self, name: str, peer: Peer, hold_ms: int) -> dict[str, object] | None:
        """The same for the commands beside an instance. ``None``: none runs; and while this client has not let them go,
        none is started."""
        instance, _, what = name.rpartition(".")
        folder = guests.folder_of(self._dir, instance)
        try:
            lock = guests.alone(folder) if what == guests.NAME and name not in self._held else None
        except BlockingIOError:
            raise Refused("busy", f"a command of {name} is being started") from None
        if lock is None:
            return None
        self._locks[name] = lock
        life = Life("", name, "", "", "")
        life.mark = folder
        self._held[name] = (still.Still("", name, None, boot_ms() + hold_ms), peer, life)
        if not guests.listed(folder):
            return None
        return self._begun(life, kin.NOBODY)

    def _stand_still(self, each: still.Still, life: Life, main: int) -> set[int] | None:
        if life.group is None:
            return still.stop(each, main, life.mark, self._tell)
        return kin.group_pids(life.group) | {main} if still.freeze_group(life.group) else None

    def thaw(self, name: str, peer: Peer, *, park: bool) -> dict[str, object]:
        """Let a life go, or (``park``) wake it. ``held``: it stood still until now, for this client or parked."""
        found = self._held.get(name)
        if found is None or found[1] not in (None, peer):
            return {"held": False}
        held = still.still_stands(found[0])
        if park or found[1] is peer:
            self.release(name)
        return {"held": held}

    def release(self, name: str) -> None:
        """Let a life go, whoever asked for it. Not frozen: fine."""
        found = self._held.pop(name, None)
        if found is None:
            return
        each, _, life = found
        still.let_go(each)
        if (lock := self._locks.pop(name, None)) is not None:
            os.close(lock)
        life.frozen_ms, life.thawed_ms = None, boot_ms()
        self._tell_thawed()

    # --- when nobody asks --------------------------------------------------------------------------------------

    def holds(self, name: object) -> bool:
        """Whether an instance of that name is frozen now: it must not be started meanwhile. One that was parked and
        has ended is parked no more."""
        found = self._held.get(str(name))
        if found is not None and found[1] is None and found[2].ended:
            self.release(str(name))
        return str(name) in self._held

    def due_s(self) -> list[float]:
        """When frozen lives will be let go, on the boot clock; parked ones are not."""
        return [each.until_ms / 1000 for each, peer, _ in self._held.values() if peer is not None]

    def expire(self) -> None:
        """Let go whoever's time is over."""
        now = boot_ms()
        for name in [name for name, (each, _, _) in self._held.items() if each.until_ms <= now]:
            self.release(name)

    def left(self, peer: Peer) -> None:
        """A client is gone: let go what it had frozen."""
        for name in [name for name, (_, owner, _) in self._held.items() if owner is peer]:
            self.release(name)

    def _tell(self) -> None:
        stills = [each for each, _, _ in self._held.values()]
        self.guard.tell(stills)
        still.save(self._dir, self._boot, stills)

    def _tell_thawed(self) -> None:
        try:
            self._tell()
        except OSError:
            pass  # a note of what goes on already: letting go once more is harmless
