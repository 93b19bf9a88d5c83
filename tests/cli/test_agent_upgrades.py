"""``relit agent upgrade`` and ``rollback``: tried in a clone, gone back from, remembered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from agent_house import AgentHouse
from cli_house import until

from relit.app import node_word
from relit.lib.clock import SYSTEM_CLOCK
from relit.node.status import Running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHouse]:
    made = AgentHouse(tmp_path_factory.mktemp("lively"))
    for name in ("bob", "cid", "dan", "eli", "fay"):
        added = made.run("agent", "add", name, "--kind", "toy")
        assert added.exit_code == 0, added.output
    made.up()
    try:
        yield made
    finally:
        made.down()


def starts(house: AgentHouse, name: str) -> list[str]:
    return (house.home(name) / "state/starts").read_text().split("\n")[:-1]


def test_an_upgrade_is_tried_in_a_clone_and_rolled_back(lively: AgentHouse) -> None:
    file = lively.folder / "agents.d/bob.toml"
    file.write_text(file.read_text().replace('version = "1.0"', 'version = "1.0"  # mine'))
    before = starts(lively, "bob")
    done = lively.run("--yes", "agent", "upgrade", "bob", "2.0")
    assert done.exit_code == 0, done.output
    assert 'version = "2.0"  # mine' in file.read_text()
    assert starts(lively, "bob") == [*before, "2.0 True"]  # the clone's start is not in it
    assert lively.listed("bob")["version"] == "2.0"
    assert not (lively.data / "agents/bob.trial").exists()
    assert "bob.trial" not in [each["agent"] for each in lively.json("volume", "ls")["volumes"]]
    back = lively.run("--yes", "agent", "rollback", "bob")
    assert back.exit_code == 0, back.output
    assert 'version = "1.0"  # mine' in file.read_text()
    assert starts(lively, "bob") == [*before, "1.0 True"]  # what 2.0 wrote is gone
    assert lively.run("--yes", "agent", "rollback", "bob").exit_code == 4


def test_a_version_that_fails_in_the_clone_never_reaches_the_agent(lively: AgentHouse) -> None:
    pid = lively.listed("cid")["pid"]
    done = lively.run("--yes", "agent", "upgrade", "cid", "3.0")
    assert done.exit_code == 1
    assert "version 3 does not start" in done.output
    assert lively.listed("cid")["pid"] == pid
    again = lively.run("--yes", "agent", "upgrade", "cid", "3.0")
    assert again.exit_code == 6
    assert "failed before, for cid" in again.output
    assert json.loads((lively.data / "runtimes/toy/bad.json").read_text())["3.0"]["agent"] == "cid"


def test_a_version_that_fails_only_for_real_is_gone_back_from(lively: AgentHouse) -> None:
    """And nothing is lost of what the agent did while its clone was tried."""
    before = starts(lively, "dan")
    clone, meanwhile = lively.data / "agents/dan.trial/log", lively.home("dan") / "state/meanwhile"

    def work() -> None:
        while not clone.exists():
            time.sleep(0.005)
        meanwhile.write_text("done")

    working = threading.Thread(target=work)
    working.start()
    done = lively.run("--yes", "agent", "upgrade", "dan", "4.0")
    working.join()
    assert meanwhile.read_text() == "done"
    assert done.exit_code == 1, done.output
    assert "it is back at 1.0" in done.output
    assert starts(lively, "dan") == [*before, "1.0 True"]
    assert lively.listed("dan")["state"] == "ready"
    assert 'version = "1.0"' in (lively.folder / "agents.d/dan.toml").read_text()
    assert "4.0" in json.loads((lively.data / "runtimes/toy/bad.json").read_text())


def test_an_agent_without_a_version_is_not_upgraded(lively: AgentHouse) -> None:
    assert lively.run("--yes", "agent", "upgrade", "tick", "2.0").exit_code == 2
    assert lively.run("--yes", "agent", "upgrade", "bob").exit_code == 6  # it has the kind's version


def begun(house: AgentHouse, *words: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "relit.cli", "--yes", "agent", *words], cwd=house.folder, env=house.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def tried(house: AgentHouse, name: str) -> bool:
    """Whether its clone's program runs."""
    log = house.data / "agents" / f"{name}.trial" / "home" / "who"
    return log.exists()


def test_what_is_edited_meanwhile_stays_and_a_second_upgrade_is_refused(lively: AgentHouse) -> None:
    file = lively.folder / "agents.d/eli.toml"
    file.write_text(file.read_text() + 'sandbox = "off"\nenv = { BOT_TOKEN = "bot-1234567890" }\n')
    upgrade = begun(lively, "upgrade", "eli", "5.0")
    until(lambda: tried(lively, "eli"), "the clone")
    clone = (lively.data / "agents/eli.trial/home/who").read_text()
    assert lively.run("--yes", "agent", "upgrade", "eli", "2.0").exit_code == 6
    file.write_text(file.read_text() + "priority = 7\n")
    out, _ = upgrade.communicate(timeout=90)
    assert upgrade.returncode == 0, out
    assert "priority = 7" in file.read_text()
    assert 'version = "5.0"' in file.read_text()
    assert clone == "None\n", "a clone has no token of its agent's"
    until(lambda: (lively.home("eli") / "who").exists(), "the agent itself")
    assert (lively.home("eli") / "who").read_text() == "bot-1234567890\n", "and wrote nothing into its home"
    assert not (lively.data / "agents/eli.trial").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_an_upgrade_whose_terminal_is_closed_leaves_nothing(lively: AgentHouse, number: signal.Signals) -> None:
    pid = lively.listed("fay")["pid"]
    upgrade = begun(lively, "upgrade", "fay", "5.0")
    until(lambda: tried(lively, "fay"), "the clone")
    upgrade.send_signal(number)
    upgrade.communicate(timeout=60)
    assert not (lively.data / "agents/fay.trial").exists()
    assert lively.listed("fay")["pid"] == pid
    assert "fay.trial" not in [each["agent"] for each in lively.json("volume", "ls")["volumes"]]


def test_one_that_is_killed_is_tidied_up_after(lively: AgentHouse) -> None:
    upgrade = begun(lively, "upgrade", "fay", "5.0")
    until(lambda: tried(lively, "fay"), "the clone")
    upgrade.kill()
    upgrade.communicate(timeout=60)
    server = next(each for each in node(lively) if each["name"] == "server")
    os.kill(int(server["pid"]), signal.SIGKILL)  # the next one looks at once
    until(lambda: not (lively.data / "agents/fay.trial").exists(), "the clone's end")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_one_that_ends_while_its_agent_is_switched_can_be_rolled_back(
    lively: AgentHouse, number: signal.Signals
) -> None:
    file = lively.folder / "agents.d/fay.toml"
    was = lively.listed("fay")["version"]
    upgrade = begun(lively, "upgrade", "fay", "5.0")
    until(lambda: 'version = "5.0"' in file.read_text(), "the switch")
    upgrade.send_signal(number)
    upgrade.communicate(timeout=60)
    until(lambda: bool(lively.listed("fay")["state"] in ("ready", "idle")), "the agent, though nobody looks after it")
    back = lively.run("--yes", "agent", "rollback", "fay")
    assert back.exit_code == 0, back.output
    assert lively.listed("fay")["version"] == was
    assert lively.run("--yes", "agent", "rollback", "fay").exit_code == 4


def test_settings_that_the_node_knows_already_are_taken_up_at_once(lively: AgentHouse) -> None:
    """As after an upgrade that was killed between its file and its word to the node."""
    run_dir, written = lively.data / "run", SYSTEM_CLOCK.monotonic()

    async def taken_up() -> Running:
        assert await node_word.reread(run_dir)
        return await node_word.applied(run_dir, written, lambda now: True, 20)

    assert asyncio.run(taken_up()).read_at >= written


def node(house: AgentHouse) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((house.data / "run" / "node.json").read_bytes())["instances"]
    return found


def test_what_a_clone_says_is_told_without_its_secrets(lively: AgentHouse) -> None:
    done = lively.run("--yes", "agent", "upgrade", "fay", "6.0")
    assert done.exit_code == 1
    assert "version 6 tells its key" in done.output
    told = done.output + (lively.data / "runtimes/toy/bad.json").read_text()
    assert "x1Y2x1Y2" not in told


def test_an_agent_that_takes_no_messages_says_so(lively: AgentHouse) -> None:
    refused = lively.run("send", "tick", "hello")
    assert refused.exit_code == 2
    assert "takes no messages" in refused.output


def test_up_once_more_reads_the_configuration_again(lively: AgentHouse) -> None:
    lively.config.write_text(
        lively.config.read_text() + '\n[agents.tock]\nkind = "command"\ncommand = ["sleep", "99"]\n'
    )
    done = lively.spawn("up")
    assert done.returncode == 0, done.stderr
    assert "reads relit.toml again" in done.stdout
    until(lambda: any(each["name"] == "tock" and each["pid"] for each in node(lively)), "tock")
