"""Volumes that run: watched in each way, or the cheapest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kit import Kit, running

from relit.volumes.reading import Reader


@pytest.fixture(params=["fanotify", "inotify", "sweep"])
async def watched(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kit]:
    """With an empty home, watched in each of the three ways."""
    async with running(Kit(tmp_path, watch=request.param)) as made:
        made.home().mkdir(parents=True)
        yield made


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[Kit]:
    """With an empty home that is swept."""
    async with running(Kit(tmp_path)) as made:
        made.home().mkdir(parents=True)
        yield made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The files that were read."""
    paths: list[bytes] = []
    content = Reader._content

    def counted(self: Reader, home: object, path: bytes, *more: object) -> object:
        paths.append(path)
        return content(self, home, path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Reader, "_content", counted)
    return paths
