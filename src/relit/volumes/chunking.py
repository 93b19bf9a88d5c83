"""Where contents are cut. Pure.

SQLite databases and what stands beside them are cut at multiples of 16 KiB, so that a changed page costs one block.
Other files up to 64 KiB are one chunk; longer ones are cut where their content says so (FastCDC), so that an insertion
moves no more than the chunks around it. How something was cut is never needed for reading it back.

A content may be cut piece by piece: all but the last length of a piece stand, the bytes of the last one go to the
front of the next piece. The result is that of cutting it whole, when pieces are longer than the longest chunk.
"""

from __future__ import annotations

from pyfastcdc import FastCDC

BLOCK = 16 << 10
SMALL = 64 << 10
_MAGIC = b"SQLite format 3\0"
_SIDES = (b"-wal", b"-journal")
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
