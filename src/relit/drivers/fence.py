"""Gives up TCP ports and becomes another program: ``python -I -S fence.py [--bind 1,2] [--connect 3] -- PROGRAM …``.

An option that is there allows these ports only (none, when its list is empty); one that is missing allows all. The
program and all its children keep the limits for good. ``--abi`` prints the kernel's Landlock version instead, 0 when it
has none. Standard library only; nothing else of relit is loaded.
"""

import ctypes
import os
import struct
import sys

CREATE, ADD, RESTRICT = 444, 445, 446  # landlock_create_ruleset, _add_rule, _restrict_self: the same on every machine
ASK_VERSION = 1
NET_PORT = 2
ACCESS = {"--bind": 1, "--connect": 2}
PR_SET_NO_NEW_PRIVS = 38
CANNOT = 126  # exit status: not fenced, so not started

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """The kernel's Landlock version; 0 without one."""
    return max(0, int(_libc.syscall(CREATE, None, *map(ctypes.c_long, (0, ASK_VERSION)))))


def fence(allowed: dict[int, list[int]]) -> None:
    """Restrict this process: for each kind of access the ports that stay. Raises ``OSError``."""
    handled = 0
    for access in allowed:
        handled |= access
    rules = struct.pack("=QQ", 0, handled)  # no limits on files
    ruleset = _call(CREATE, rules, len(rules), 0)
    for access, ports in allowed.items():
        for port in ports:
            _call(ADD, ruleset, NET_PORT, struct.pack("=QQ", access, port), 0)
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _error()
    _call(RESTRICT, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: int | bytes) -> int:
    answer = int(_libc.syscall(number, *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)))
    if answer < 0:
        raise _error()
    return answer


def _error() -> OSError:
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(words: list[str]) -> int:
    """Does not return when all is well."""
    if words == ["--abi"]:
        sys.stdout.write(f"{abi()}\n")
        return 0
    end = words.index("--")
    options = dict(zip(words[0:end:2], words[1:end:2], strict=True))
    try:
        fence({ACCESS[name]: [int(port) for port in ports.split(",") if port] for name, ports in options.items()})
        os.execvp(words[end + 1], words[end + 1 :])
    except OSError as error:
        sys.stderr.write(f"relit: {words[end + 1]} is not started behind a fence: {error}\n")
        return CANNOT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
