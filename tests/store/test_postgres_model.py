"""The store on PostgreSQL against the model of ``test_model``."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from test_model import BUDGET, StoreMachine

from relit.store.sql.postgres.store import PostgresStore
from relit.store.sql.store import SqlStore

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.mark.timeout(180)
def test_postgres_store_agrees_with_the_model(postgres_url: str) -> None:
    numbers = itertools.count()

    async def make() -> SqlStore:
        store = PostgresStore(postgres_url, schema=f"model_{os.getpid()}_{next(numbers)}")
        await store.start()
        return store

    machine = type("PostgresMachine", (StoreMachine,), {"make": staticmethod(make)})
    run_state_machine_as_test(machine, settings=settings(BUDGET, max_examples=20))
