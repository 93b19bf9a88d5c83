"""A node's logs: as they are written, for many instances at once, over restarts and kills."""

from __future__ import annotations
