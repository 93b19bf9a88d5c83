"""Keeps what a process holds out of swap, so that it can act when others are there: ``mlockall(2)``."""

from __future__ import annotations

import ctypes

_CURRENT, _ONFAULT = (
    1,
    4,
)  # of what is mapped now, whatever is touched: later mappings must not fail for want of a limit


def lock() -> bool:
    """Of this process, for good. False: it may not (``RLIMIT_MEMLOCK``; root may)."""
    return bool(ctypes.CDLL(None, use_errno=True).mlockall(_CURRENT | _ONFAULT) == 0)
