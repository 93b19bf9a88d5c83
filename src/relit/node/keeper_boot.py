"""Starts the keeper: ``python -I -S keeper_boot.py RUN_DIR [--no-groups]``.

Things that must happen before the keeper's own code, or would cost it memory:

1. Fork and start a session, so that whoever started us may die without us, and need not reap us.
2. Become a subreaper, so that orphans of our children come to us. That needs ctypes (0.5 MB); the setting survives an
   exec, ctypes does not. So: set it, then exec the same script again.
3. Take no part in what its node is spared when memory runs out: our children, the agents, would inherit it.
4. Import ``relit.node.keeper`` without running ``relit/__init__.py``, which brings the whole SDK.
"""

import os
import sys

PR_SET_CHILD_SUBREAPER = 36
READY = "--subreaper"
NO_GROUPS = "--no-groups"  # find a life's processes in /proc even where cgroups are writable


def become_subreaper() -> None:
    """Ask the kernel for our descendants' orphans. Without it they go to init and only the walk finds them."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.stderr.write(f"keeper: not a subreaper: {os.strerror(ctypes.get_errno())}\n")


def be_ordinary() -> None:
    """As any process to whoever is to be killed for want of memory."""
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            spared = int(file.read()) < 0
        if spared:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write("0")
    except OSError as error:
        sys.stderr.write(f"keeper: oom_score_adj: {error.strerror}\n")


def bare_packages() -> None:
    """Put empty ``relit`` and ``relit.node`` packages in place: submodules load, ``__init__`` files do not run."""
    node = os.path.dirname(os.path.abspath(__file__))
    for name, folder in (("relit", os.path.dirname(node)), ("relit.node", node)):
        package = type(sys)(name)
        package.__path__ = [folder]
        sys.modules[name] = package


def main() -> int:
    """The keeper's process, from its first instruction to its last."""
    if READY not in sys.argv:
        if os.fork() != 0:
            os._exit(0)
        os.setsid()
        become_subreaper()
        be_ordinary()
        os.execv(sys.executable, [*sys.orig_argv, READY])
    bare_packages()
    from relit.node.keeper import run

    return run(sys.argv[1], NO_GROUPS not in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
