"""How many descriptors the keeper may hold. Standard library only.

It holds one for each life that it took over, and one for each that waits at a gate: more than the usual 1,024. So it
takes as many as are allowed, and leaves low numbers free for what is open for a moment. Its children get the limit that
it was given itself: with a larger one programs fail that use ``select``, and others close each number up to it first.
"""

import fcntl
import os
import resource

from relit.node import kin

LOW = 256  # more than clients, a start and a look into /proc need


class Files:
    """The limit, ours and our children's."""

    def __init__(self) -> None:
        self._given, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = self._hard
        try:
            self.widen()
        except (OSError, ValueError) as error:
            kin.complain(f"the limit of descriptors stays {self._given}: {error}")
            self._most = self._given

    def widen(self) -> None:
        """As many as are allowed."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._most, self._hard))

    def narrow(self) -> None:
        """As many as a child may have, while it is born. What is open stays open; libc takes only numbers below."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._given, self._hard))

    def keep(self, fd: int) -> int:
        """A higher number for what stays open; ``fd`` is closed. Raises ``OSError``, and then it is not."""
        kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(LOW, self._given // 2))
        os.close(fd)
        return kept
