"""What goes wrong with one home, as errors that can be told. It stays that home's trouble: the others go on."""

from __future__ import annotations

import logging

from relit.errors import RelitError, StoreFull, VolumeError
from relit.lib.durations import size
from relit.volumes.disk import failed

log = logging.getLogger("relit.volumes")


def told(what: str, error: Exception) -> RelitError:
    """The error itself, or one that says ``what`` was not done. Of one that nobody foresaw the log has where it was."""
    if isinstance(error, RelitError):
        return error
    if isinstance(error, OSError):
        return failed(what, error, "mend the cause, then again")
    log.error("%s", what, exc_info=error)
    return VolumeError(
        what,
        why=f"a fault in relit: {type(error).__name__}: {error}",
        fix="look into agents/volumes/log/out.log of the data folder, which has where it was, and report it",
    )


def check_room(waiting: int, most: int) -> None:
    """StoreFull when more bytes wait in the spool than may."""
    if waiting > most:
        raise StoreFull(
            "no snapshot was taken: too much waits for the blob store",
            why=f"{size(waiting)} wait, volumes.spool_limit is {size(most)}",
            fix="relit volume stats shows the blob store; it goes on by itself when that answers again",
        )
