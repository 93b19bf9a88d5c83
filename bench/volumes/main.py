"""Compare relit's volumes with restic and borg: ``python bench/volumes/main.py``.

One home, the same edits; every round runs each program once, and every second round backwards. Ratios are taken
inside a round. The last line printed is one JSON object. ``QUICK=1`` is the short form: a smaller home, restic only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fleet
import homes
import verdict
from ours import Relit, memory_mb, until
from peers import Borg, Peer, Restic, installed

_SNAPSHOTS = ("first", "mixed_cold", "mixed")
Figures = dict[str, list[float]]


_T0 = time.perf_counter()


def say(text: str) -> None:
    """Progress goes to stderr, so that stdout is only the result."""
    print(f"[{time.perf_counter() - _T0:.1f}] {text}", file=sys.stderr, flush=True)


class Bench:
    """One home, backed up by everybody."""

    def __init__(self, folder: Path, size: homes.Size, peers: list[Peer]) -> None:
        self.folder = folder
        self.size = size
        self.peers = peers
        self.relit = Relit(folder / "relit", size.files)
        self.home = self.relit.home
        self.found: Figures = {}
        self.ratios: Figures = {}

    def note(self, key: str, value: float) -> None:
        """One measurement."""
        self.found.setdefault(key, []).append(value)

    def compare(self, what: str, ours: Callable[[], float], theirs: Callable[[Peer], float], number: int = 0) -> None:
        """Run everybody once, in an order that changes from round to round; note seconds and ratios. What others
        restored is on the disk when somebody begins: peers leave that to whoever comes next."""
        took: dict[str, float] = {}
        turns: list[tuple[str, Callable[[], float]]] = [("relit", ours)]
        turns += [(peer.name, lambda peer=peer: theirs(peer)) for peer in self.peers]  # type: ignore[misc]
        for name, run in turns if number % 2 == 0 else turns[::-1]:
            if what not in _SNAPSHOTS:
                os.sync()
            took[name] = run()
            self.note(f"{what}_{name}_s", took[name])
        for peer in self.peers:
            self.ratios.setdefault(f"{what}_{peer.name}", []).append(took[peer.name] / took["relit"])
        say(f"{what}: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in took.items()))

    # --- the rounds --------------------------------------------------------------------------------------------

    def first(self) -> None:
        """The first snapshot of everything."""
        begin = time.perf_counter()
        homes.make(self.home, self.size)
        self.relit.data.chmod(0o700)
        say(f"home: {self.size.files} files, {self.size.megabytes} MB, made in {time.perf_counter() - begin:.1f} s")
        os.sync()
        for peer in self.peers:
            peer.init()
        self.compare(
            "first",
            lambda: self.relit.command("volume", "snapshot", "bench"),
            lambda peer: peer.backup(self.home),
        )

    def cold(self, rounds: int) -> None:
        """A fresh process each, with nothing tracked."""
        editor = homes.Editor(self.home, self.size.files, seed=3)
        for number in range(rounds):
            editor.mixed()
            self.compare(
                "mixed_cold",
                lambda: self.relit.command("volume", "snapshot", "bench"),
                lambda peer: peer.backup(self.home),
                number,
            )
        editor.close()
        for number in range(max(1, rounds - 1)):
            self._go_back("inplace_cold", number, self._restore_cold)

    def _restore_cold(self, to: int) -> float:
        return self.relit.command("--yes", "volume", "restore", "bench", "--at", f"#{to}")

    def resident(self, rounds: int) -> None:
        """With the volumes' process running, through the server's API."""
        self.relit.snapshot()
        for _ in range(rounds * 3):
            self.note("noop_ms", self.relit.snapshot()[0] * 1000)
            self.note("noop_api_ms", self.relit.snapshot(api=True)[0] * 1000)
        for _ in range(rounds * 2):
            self.relit.edit("small")
            took, taken = self.relit.snapshot()
            self.note("small_ms", took * 1000)
            self.note("freeze_ms", taken.snapshot.freeze_us / 1000)
        for number in range(rounds):
            self._mixed(number)
        for number in range(min(3, rounds - 1)):
            self._go_back("inplace", number, self._restore_resident)

    def _mixed(self, number: int) -> None:
        self.relit.edit("mixed")
        before = {peer.name: peer.size() for peer in self.peers} | {"relit": self.relit.stored()}

        def ours() -> float:
            took, taken = self.relit.snapshot()
            self.note("mixed_ms", took * 1000)
            self.note("freeze_ms", taken.snapshot.freeze_us / 1000)
            return took

        self.compare("mixed", ours, lambda peer: peer.backup(self.home), number)
        grown = {peer.name: peer.size() - before[peer.name] for peer in self.peers}
        mine = self.relit.stored() - before["relit"]
        self.note("growth_kb", mine / 1000)
        for name, more in grown.items():
            self.note(f"growth_{name}_kb", more / 1000)
            self.ratios.setdefault(f"growth_{name}", []).append(more / mine)

    def _go_back(self, what: str, number: int, ours: Callable[[int], float]) -> None:
        """Ten files changed, and back. The peers restore over a copy of the home, as they would over the home."""
        to = self._newest()
        if self.relit.runs():
            self.relit.edit("small")
        else:
            homes.small(self.home, self.size.files, random.Random())
        self.compare(what, lambda: ours(to), lambda peer: peer.restore(self.folder / f"{peer.name}-target"), number)

    def _restore_resident(self, to: int) -> float:
        took = self.relit.timed(lambda volumes: volumes.restore("bench", to), api=False)[0]
        self.note("inplace_ms", took * 1000)
        return took

    def _newest(self) -> int:
        if self.relit.runs():
            return self.relit.snapshot()[1].snapshot.number
        self.relit.command("volume", "snapshot", "bench")
        return self.relit.newest()

    def fork(self, rounds: int) -> None:
        """New agents of the newest snapshot: until the answer, and until its files are there."""
        to = self.relit.snapshot()[1].snapshot.number
        for number in range(rounds):
            os.sync()  # what the one before has laid
            name, begin = f"fork-{number}", time.perf_counter()
            self.note("fork_ms", self._forked(name, to) * 1000)
            target = self.relit.data / "agents" / name / "home"
            until(target.is_dir, f"the files of {name} did not come")
            self.note("fork_files_s", time.perf_counter() - begin)

    def _forked(self, name: str, to: int) -> float:
        return self.relit.timed(lambda volumes: volumes.fork("bench", name, to), api=False)[0]

    def full(self, rounds: int) -> None:
        """Everything lost: the whole home laid down anew. relit runs no agent then, as the peers do. Before anything
        was deleted: ext4 makes new files very slowly for minutes after that, and then measures nothing else."""
        to = self.relit.newest()
        for number in range(rounds):
            self.home.rename(self.folder / f"lost-{number}")
            self.compare(
                "full",
                lambda: self._restore_cold(to),
                lambda peer, number=number: peer.restore(self.folder / f"{peer.name}-whole-{number}"),  # type: ignore[misc]
                number,
            )


def run(folder: Path, *, quick: bool, only: str) -> dict[str, Any]:
    """All parts; answers every key of the last line."""
    size = homes.QUICK if quick else homes.FULL
    peers: list[Peer] = [Restic(folder)] + ([] if quick else [Borg(folder)])
    bench = Bench(folder, size, peers)
    more: dict[str, float] = {}
    rounds = 3 if quick else 7
    bench.first()
    bench.full(1 if quick else 3)
    many = None if only else fleet.made(folder / "fleet", quick=quick)
    bench.cold(2 if quick else 4)
    bench.relit.up()
    try:
        bench.resident(rounds)
        bench.fork(1 if quick else 3)
        more["daemon_rss_mb"] = memory_mb(bench.relit.daemon())
    finally:
        bench.relit.down()
    if many is not None:
        more |= fleet.run(many, say, quick=quick)
        if not quick:
            more |= fleet.huge(folder / "huge", say)
            more |= fleet.s3(folder / "s3", say)
    versions = {peer.name: peer.version() for peer in peers}
    return verdict.summary(bench.found, bench.ratios, more) | {"versions": versions, "quick": quick}


def main() -> int:
    """0 when every promise is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("QUICK")))
    parser.add_argument("--only-home", dest="only", action="store_const", const="home", default="")
    given = parser.parse_args()
    if missing := [name for name in (["restic"] if given.quick else ["restic", "borg"]) if not installed(name)]:
        raise SystemExit(f"{', '.join(missing)} is not installed: make bench-setup")
    folder = Path(tempfile.mkdtemp(prefix="relit-bench-volumes-"))
    try:
        result = run(folder, quick=given.quick, only=given.only)
    finally:  # by a process of its own: to delete so many files takes longer than some of the parts
        subprocess.Popen(["rm", "-rf", str(folder)], start_new_session=True)
    kept = verdict.told(result, quick=given.quick, say=say)
    print(json.dumps(result))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
