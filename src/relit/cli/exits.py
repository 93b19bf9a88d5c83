"""Exit codes, and how an error is told."""

from __future__ import annotations

from relit import errors
from relit.errors import RelitError
from relit.lib.space import is_full

OK = 0
FAILED = 1
USAGE = 2
DEGRADED = 3
NOT_FOUND = 4
TIMED_OUT = 5
CONFLICT = 6
CONFIG = 78
INTERRUPTED = 130

MEANING = {
    OK: "done",
    FAILED: "it failed, or the run did",
    USAGE: "the command was written wrongly",
    DEGRADED: "something is unhealthy (`relit ps`, `relit doctor`)",
    NOT_FOUND: "no such run, agent, schedule, workflow",
    TIMED_OUT: "it did not end in time",
    CONFLICT: "its state forbids it",
    CONFIG: "the configuration is wrong; nothing was started",
    INTERRUPTED: "Ctrl-C",
}

# The first class that fits wins.
_CODES: tuple[tuple[type[RelitError], int], ...] = (
    (errors.ConfigError, CONFIG),
    (errors.Invalid, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.UnknownWorkflow, NOT_FOUND),
    (errors.WaitTimeout, TIMED_OUT),
    (errors.RunTimeout, TIMED_OUT),
    (errors.Conflict, CONFLICT),
)


def code_of(error: RelitError) -> int:
    """The exit code that says the same as ``error``."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def lines_of(error: RelitError) -> list[str]:
    """``error: WHAT``, ``why: …``, ``fix: COMMAND``, ``docs: …``."""
    lines = [f"error: {error.what}"]
    if error.why:
        lines.append(f"why: {error.why}")
    lines.append(f"fix: {error.fix or f'relit explain {error.code}'}")
    return [*lines, f"docs: relit explain {error.code}"]


def unexpected(error: BaseException, verbose: bool) -> RelitError:
    """A fault of ours, told like any other; a full disk is nobody's."""
    if is_full(error):
        return errors.StoreFull("relit could not write", why=str(error), fix="df -h; free some space, then again")
    fix = "report it with the traceback above" if verbose else "the same command with -v shows the traceback"
    return RelitError(
        f"relit stumbled: {type(error).__name__}: {error}", why="this is a fault in relit, not in your input", fix=fix
    )
