"""Instances whose settings or folders are at fault, and settings that a node does not take."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from node_house import Bell, Server, living, rings, running, spec

from relit.app.up import Reload, refuse
from relit.control.values import FAULTY, InstanceSpec
from relit.errors import ConfigError
from relit.node import record, status
from relit.node.client import KeeperClient
from relit.node.node import Node
from relit.settings import Environment, Settings, load

WHY = "the secret foo is not set: relit secret set foo"
BAD = InstanceSpec(name="bad", argv=[], fault=WHY)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(None, environment=Environment({"HOME": str(tmp_path), "RELIT_DATA": str(tmp_path / "data")}))


async def test_one_at_fault_is_told_at_once_and_the_others_run(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    async with running(keeper, run_dir, server, [BAD, spec("web", rings(bell))]) as node:
        assert living(int(await bell.next()))
        await server.until(lambda: server.incidents)
        told, now = server.incidents[0], next(each for each in node.status() if each.name == "bad")
        assert (told.severity, told.cause, told.next) == ("critical", WHY, "relit config check")
        assert now.state == "down"
        assert now.reason.startswith(FAULTY)
        assert WHY in now.reason


async def test_what_runs_of_one_at_fault_is_left_alone_until_that_is_mended(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell
) -> None:
    good = spec("bad", rings(bell))
    async with running(keeper, run_dir, server, [good], leave=True):
        pid = int(await bell.next())
    async with running(keeper, run_dir, server, [BAD]) as node:
        assert (await server.saw("instance.adopted"))["pid"] == pid
        await node.apply([good])
        assert int(await bell.next()) != pid


def at_fault(node: Node, settings: Settings, make: Callable[[Settings], list[InstanceSpec]]) -> Reload:
    return Reload(node, lambda: settings, make, settings, [BAD], again_s=0.01)


async def test_what_is_at_fault_starts_as_soon_as_it_can(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, settings: Settings
) -> None:
    looks = iter([[BAD], [BAD]])
    good = [spec("bad", rings(bell))]
    async with running(keeper, run_dir, server, [BAD]) as node:
        reload = at_fault(node, settings, lambda _: next(looks, good))
        await reload.start()
        assert living(int(await bell.next()))
        await reload.stop()


async def test_a_node_says_which_settings_it_did_not_take_and_listens_on(
    keeper: KeeperClient, run_dir: Path, server: Server, bell: Bell, settings: Settings
) -> None:
    faults: list[Exception] = [ConfigError("it is wrong"), TypeError("nobody thought of this")]

    def make(_: Settings) -> list[InstanceSpec]:
        if faults:
            raise faults.pop(0)
        return [spec("web", rings(bell))]

    async with running(keeper, run_dir, server, []) as node:
        reload = Reload(node, lambda: settings, make, settings, [])
        await reload.start()
        for why in ("it is wrong", "nobody thought of this"):
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(20):
                while (known := record.read(run_dir)) is None or why not in known.refused:
                    await asyncio.sleep(0.01)
            assert status.read(run_dir).refused_at == known.refused_at > known.read_at
        os.kill(os.getpid(), signal.SIGHUP)
        await bell.next()
        await reload.stop()


def test_settings_with_a_new_fault_are_refused_and_with_an_old_one_taken() -> None:
    refuse([BAD], [BAD])
    for before in ([], [InstanceSpec(name="bad", argv=["true"])]):
        with pytest.raises(ConfigError, match="foo is not set"):
            refuse([BAD], before)
