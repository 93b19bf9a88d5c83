"""What the API and the command line need of volumes. ``app`` binds it: in the server to the volumes' process, in a
command without a server to the same service in its own process.

``when`` is text: ``12`` or ``#12`` (a number), a snapshot's id, a tag, ``@MS`` (ms since 1970), or a time as people
write it (``14:02``, ``10 minutes ago``, ISO 8601); ``relit.lib.moments.read_when`` tells them apart. A moment means
the newest snapshot that is not newer. Paths are bytes relative to the home, ``b""`` is the home itself.
Documents hold them as text (``relit.lib.names.shown``).

Errors are those of ``relit.errors``: NotFound (no such volume, snapshot, path), Conflict, VolumeError and its kinds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from relit import documents
from relit.documents import Mark, Messages

NOW = "now"  # in ``diff``: the home as it is


class Volumes(Protocol):
    """All that can be asked of volumes. Long ones answer when they are done."""

    # --- looking -----------------------------------------------------------------------------------------------

    async def list(self) -> documents.Volumes:
        """All volumes with their figures, by name."""
        ...

    async def log(self, agent: str, *, limit: int = 100, before: int | None = None) -> documents.Snapshots:
        """Snapshots, newest first."""
        ...

    async def resolve(self, agent: str, when: str) -> documents.Snapshot:
        """The snapshot that ``when`` means."""
        ...

    async def ls(self, agent: str, when: str, path: bytes = b"", *, deep: bool = False) -> documents.Files:
        """What is in a folder (``deep``: and below it), or the one file that ``path`` is."""
        ...

    def cat(self, agent: str, when: str, path: bytes) -> AsyncIterator[bytes]:
        """A file's content in pieces, holes as zeros. Errors about the name come before the first piece."""
        ...

    async def diff(self, agent: str, a: str, b: str = NOW, path: bytes = b"", *, text: bool = True) -> documents.Diff:
        """What differs at and below ``path``. ``text``: with unified diffs of what is text on both sides."""
        ...

    async def stats(self, agent: str | None = None) -> documents.VolumeStats:
        """Figures of one volume, or of all."""
        ...

    # --- making and going back ---------------------------------------------------------------------------------

    async def snapshot(
        self, agent: str, *, note: str = "", wait: Mark = "local", tag: str | None = None
    ) -> documents.Taken:
        """Take one now. With a tag or a note there is a new one even when nothing changed."""
        ...

    async def restore(
        self,
        agent: str,
        when: str,
        paths: Sequence[bytes] = (),
        *,
        dry_run: bool = False,
        exact: bool = False,
        full: bool = False,
        messages: Messages | None = None,
    ) -> documents.Restored:
        """Put files back as they were: those at and below ``paths``, or all. Of ``paths``, files that came since stay,
        unless ``exact``; NotFound (nothing done) when the snapshot has no such path. ``full``: the home is laid anew
        and exchanged with what is there, which is put aside with what snapshots leave out. ``messages``: the journal
        goes back, too (only for the whole home), and what becomes of messages that came since."""
        ...

    async def fork(self, agent: str, new: str, when: str) -> documents.Volume:
        """Make the agent ``new``, whose home is that snapshot. Conflict when the name is taken; Invalid."""
        ...

    # --- keeping -----------------------------------------------------------------------------------------------

    async def tag(
        self, agent: str, when: str, tag: str, *, remove: bool = False, force: bool = False
    ) -> documents.Snapshot:
        """Name a snapshot, or take the name off it. ``known-good`` may stand on many; any other name moves. Conflict
        for ``known-good`` when a run was unfinished, unless ``force``."""
        ...

    async def pin(self, agent: str, when: str, *, pinned: bool = True) -> documents.Snapshot:
        """A pinned snapshot is never pruned."""
        ...

    async def prune(self, agent: str | None = None, *, dry_run: bool = False) -> documents.Pruned:
        """Drop snapshots that no tier keeps, and packs that nothing refers to."""
        ...

    async def verify(self, agent: str | None = None, *, sample: float = 1.0) -> documents.Verified:
        """Read that share of the packs (0 … 1) and check every chunk; test-restore the newest snapshot."""
        ...

    async def rebuild(self) -> documents.Rebuilt:
        """Put volumes that the store has lost back into it, out of the packs."""
        ...

    async def remove(self, agent: str, *, home: bool = False) -> documents.Removed:
        """Forget a volume with all its snapshots. The home stays (and gets a new volume), or is put away. Conflict
        while one of them is pinned, or relit.toml wants the home."""
        ...
