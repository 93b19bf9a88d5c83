"""The next life of an instance, made ready while this one lives, so that a death costs next to no time."""

from __future__ import annotations

import contextlib

from relit.control.care import Care
from relit.control.values import InstanceSpec
from relit.drivers.base import Driver, Launch, Life
from relit.errors import KeeperUnreachable, RelitError
from relit.node.launching import launch_of


class Follower:
    """At most one. The driver starts it by itself when the life ends; whoever wants something else drops it first."""

    def __init__(self, spec: InstanceSpec, driver: Driver) -> None:
        self._spec = spec
        self._driver = driver
        self._launch: Launch | None = None

    @property
    def possible(self) -> bool:
        """Whether nothing has to be looked at or cleared away before a start."""
        ready, care = self._spec.ready, self._spec.care
        looked_at = self._spec.fault != "" or (care is not None and _looked_at(care))
        return (ready is None or ready.kind != "file") and not looked_at

    @property
    def there(self) -> bool:
        """Whether it was made ready, and so perhaps runs."""
        return self._launch is not None

    async def make(self, life: Life, unless: list[int]) -> None:
        """Have it follow this life."""
        launch = launch_of(self._spec)
        try:
            self._launch = launch
            await self._driver.stand_by(launch, after=life.key, unless=unless)
        except RelitError:  # the next start meets the same trouble, and tells it
            self._launch = None

    def take(self) -> Launch:
        """What to start: where that was made ready, the driver answers with the life that it started already."""
        launch, self._launch = self._launch, None
        return launch or launch_of(self._spec)

    async def drop(self) -> None:
        """There is to be none; one that was started already ends."""
        launch, self._launch = self._launch, None
        if launch is not None:
            with contextlib.suppress(KeeperUnreachable):  # gone with the keeper, or found by name at the next start
                await self._driver.kill(launch.key)
                await self._driver.wait(launch.key)
                await self._driver.forget(launch.key)


def _looked_at(care: Care) -> bool:
    return bool(care.needs or care.ports or care.config or care.env_file or care.databases or care.settle)
