"""What is tested here runs in the loop that `relit gateway` runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from relit.app.gateway import new_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": new_loop}
