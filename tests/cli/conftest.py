"""One relit for all the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_house import House


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Server and worker, running."""
    made = House(tmp_path_factory.mktemp("house"))
    made.up()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def quiet_house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A data folder in which nothing runs."""
    return House(tmp_path_factory.mktemp("quiet"))
