"""Servers that tests share: started when the first test asks, one for the whole session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

import pytest

from relit.testing.postgres import Postgres
from relit.testing.s3 import S3
from relit.testing.servers import Missing

T = TypeVar("T")
pytest_plugins = ["matrices"]


def running(make: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """The server of ``make``. Without its binaries the test is skipped, except in CI, where nothing may be missing."""
    try:
        server = make()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))
    with server as ready:
        yield ready


@pytest.fixture(scope="session", autouse=True)
def idle_loop() -> Iterator[None]:
    """The main thread's current loop outside of tests: else pytest-asyncio makes one and leaves it unclosed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server. Tests that stop or restart it take ``own_postgres``."""
    yield from running(Postgres)


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """A database that tests share, each in a schema of its own."""
    return postgres.create_database()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for one test alone, to be killed and restarted."""
    yield from running(Postgres)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server."""
    yield from running(S3)
