"""Where contents are cut. Pure.

SQLite databases and what stands beside them are cut at multiples of 16 KiB, so that a changed page costs one block.
Other files up to 64 KiB are one chunk; longer ones are cut where their content says so (FastCDC), so that an insertion
moves no more than the chunks around it. How something was cut is never needed for reading it back.

A content may be cut piece by piece: all but the last length of a piece stand, the bytes of the last one go to the
front of the next piece. The result is that of cutting it whole, when pieces are longer than the longest chunk.

A file that grows at its end, as logs and transcripts do, would cost its whole last chunk with each snapshot: ``Ends``
cuts that chunk where the file ended before, so that what was there already is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyfastcdc import FastCDC

BLOCK = 16 << 10
SMALL = 64 << 10
_MAGIC = b"SQLite format 3\0"
_SIDES = (b"-wal", b"-journal")
_GROWN = 8 << 10  # a shorter file is stored again
_ENDS = 16  # pieces of a last chunk, before it is stored again as one
_FILES = 10_000  # whose ends are remembered
_CDC = FastCDC(min_size=32 << 10, avg_size=128 << 10, max_size=512 << 10)


def is_database(name: bytes, head: bytes) -> bool:
    """Whether a file is cut into blocks: a SQLite database by its first bytes, its log and journal by their names."""
    return head.startswith(_MAGIC) or name.endswith(_SIDES)


def cuts(view: memoryview | bytes, *, blocks: bool) -> list[int]:
    """The lengths of the chunks of a content, in order; they add up to all of it."""
    size = len(view)
    if blocks:
        whole, rest = divmod(size, BLOCK)
        return [BLOCK] * whole + ([rest] if rest else [])
    if size <= SMALL:
        return [size] if size else []
    lengths = [chunk.length for chunk in _CDC.cut_buf(view)]
    if len(lengths) > 1 and lengths[-2] + lengths[-1] <= SMALL:  # a short end is cut as a short file would be
        lengths[-2:] = [lengths[-2] + lengths[-1]]
    return lengths


class Ends:
    """Where growing files ended, within what is their last chunk. Forgetting costs a chunk, nothing else."""

    def __init__(self) -> None:
        self._known: dict[bytes, list[int]] = {}

    def of(self, path: bytes, before: int, size: int) -> list[int]:
        """Where to cut the last chunk of a file of that size, which had ``before`` bytes in an earlier snapshot."""
        if not _GROWN <= before < size:
            self._known.pop(path, None)
            return []
        return [*(end for end in self._known.get(path, ()) if end < before), before]

    def parts(self, path: bytes, piece: memoryview, start: int, ends: list[int]) -> Iterator[memoryview]:
        """The last chunk of a file, which begins at ``start``, in its pieces."""
        inside = [end - start for end in ends if 0 < end - start < len(piece)]
        if len(inside) >= _ENDS:
            inside = []
        if inside and len(self._known) < _FILES:
            self._known[path] = [start + end for end in inside]
        else:
            self._known.pop(path, None)
        for begin, end in zip([0, *inside], [*inside, len(piece)], strict=True):
            yield piece[begin:end]
