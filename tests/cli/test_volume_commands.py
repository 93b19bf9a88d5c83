"""``relit volume``, ``restore``, ``agent fork``, ``key``: what a person sees and what a program gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from relit import documents
from relit.api.auth import ensure_token
from relit.api.build import build
from relit.api.parts import Parts
from relit.api.server import ApiServer
from relit.cli.main import cli
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.store.sql.sqlite.store import SqliteStore
from volumes_memory import MemoryVolumes


class Desk:
    """The command line before a server whose volumes are in memory, with two snapshots."""

    def __init__(self, url: str, token: str, data: Path) -> None:
        self.volumes = MemoryVolumes()
        self.environment = {"RELIT_SERVER": url, "RELIT_TOKEN": token, "RELIT_DATA": str(data), "CI": ""}

    async def run(self, *words: str, text: str | None = None) -> Result:
        runner = CliRunner(env=self.environment)
        return await asyncio.to_thread(runner.invoke, cli, list(words), input=text)

    async def json(self, *words: str) -> Any:
        result = await self.run("--json", *words)
        assert result.exit_code in (0, 3), result.output
        return json.loads(result.stdout)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = SqliteStore(tmp_path / "relit.db")
    await store.start()
    token = await ensure_token(store, tmp_path)
    desk = Desk("", token, tmp_path)
    parts = Parts(Engine(store, Payloads()), volumes=desk.volumes)
    server = ApiServer(build(parts), port=0, closing=parts.closing.close)
    await server.start()
    desk.environment["RELIT_SERVER"] = server.url
    await desk.volumes.snapshot("clerk")
    desk.volumes.homes["clerk"] |= {b"notes/a.md": b"two\n", b"caf\xe9": b"\x00\x02\x03", b"new": b"x"}
    await desk.volumes.snapshot("clerk", note="second", tag="known-good")
    yield desk
    await server.stop()
    await store.stop()


async def test_looking(desk: Desk) -> None:
    assert "clerk" in (await desk.run("volume")).stdout
    log = (await desk.run("volume", "log", "clerk")).stdout
    assert "known-good, 1 skipped, second" in log
    assert "mid-run, 1 skipped\n" in log
    assert [each["number"] for each in (await desk.json("volume", "log", "clerk"))["snapshots"]] == [2, 1]
    assert (await desk.run("volume", "cat", "clerk", "notes/a.md", "--at", "1")).stdout == "one\n"
    assert "caf·xe9" not in (await desk.run("volume", "files", "clerk", "--at", "#1")).stdout
    assert (await desk.json("volume", "stats", "clerk"))["chunks"] == 4
    assert "4, 5 B packed" in (await desk.run("volume", "stats")).stdout


async def test_differences_show_text_and_sizes(desk: Desk) -> None:
    shown = (await desk.run("volume", "diff", "clerk", "1", "2")).stdout
    assert "-one" in shown
    assert "+two" in shown
    assert "~ caf\\xe9  2 B → 3 B" in shown
    assert "+ new" in shown
    assert "-one" not in (await desk.run("volume", "diff", "clerk", "1", "--names")).stdout


async def test_a_snapshot_says_what_it_left_out(desk: Desk) -> None:
    result = await desk.run("volume", "snapshot", "clerk", "--tag", "v1")
    assert "snapshot 3, 3 files, 2.0K new, frozen for 4ms" in result.stdout
    assert "left out: run.sock (a socket)" in result.stderr
    assert "nothing changed since snapshot 3" in (await desk.run("volume", "snapshot", "clerk")).stdout


async def test_a_restore_asks_and_shows_what_stays(desk: Desk) -> None:
    asked = await desk.run("restore", "clerk", "--at", "1")
    assert asked.exit_code == 2
    assert "say --yes" in asked.stderr
    assert desk.volumes.homes["clerk"][b"notes/a.md"] == b"two\n"
    done = await desk.run("restore", "clerk", "--at", "1", "--yes", "--messages", "redeliver")
    assert "1 removed:\n    new" in done.stdout
    assert "1 effects since then stay done" in done.stdout
    assert "1 messages since then are delivered again" in done.stdout
    assert desk.volumes.homes["clerk"] == {b"notes/a.md": b"one\n", b"caf\xe9": b"\x00\x01"}


async def test_a_plan_does_nothing(desk: Desk) -> None:
    plan = await desk.json("volume", "restore", "clerk", "./notes/", "--at", "1", "--dry-run")
    assert (plan["written"], plan["removed"], plan["choice"]) == (["notes/a.md"], [], None)
    assert "would be written" in (await desk.run("restore", "clerk", "--at", "1", "--dry-run")).stdout
    assert desk.volumes.homes["clerk"][b"notes/a.md"] == b"two\n"


@pytest.mark.parametrize(
    "words",
    [
        ("restore", "clerk"),
        ("restore", "clerk", "--at", "half past nine"),
        ("restore", "clerk", "../x", "--at", "1"),
        ("restore", "clerk", "/etc/passwd", "--at", "1"),
        ("restore", "clerk", "notes", "--at", "1", "--messages", "drop"),
        ("restore", "clerk", "--at", "1", "--exact"),
        ("restore", "clerk", "notes", "--at", "1", "--full"),
        ("volume", "restore", "clerk", "notes", "--at", "1", "--full"),
        ("volume", "tag", "clerk", "1", "yesterday"),
        ("volume", "verify", "--sample", "0"),
    ],
)
async def test_what_makes_no_sense_is_told_as_usage(desk: Desk, words: tuple[str, ...]) -> None:
    assert (await desk.run(*words)).exit_code == 2


async def test_forking_and_keeping(desk: Desk) -> None:
    assert "twin is made from clerk@1" in (await desk.run("agent", "fork", "clerk", "twin", "--at", "1")).stdout
    assert (await desk.run("volume", "fork", "clerk", "twin")).exit_code == 6
    assert "pinned" in (await desk.run("volume", "pin", "clerk", "1")).stdout
    assert (await desk.run("volume", "rm", "clerk", "--yes")).exit_code == 6
    assert "no marks" in (await desk.run("volume", "pin", "clerk", "1", "--off")).stdout
    assert (await desk.json("volume", "tag", "clerk", "2", "known-good", "--remove"))["tags"] == []
    assert (await desk.run("volume", "tag", "clerk", "1", "known-good")).exit_code == 6
    assert "known-good" in (await desk.run("volume", "tag", "clerk", "1", "known-good", "--force")).stdout
    assert (await desk.run("volume", "rm", "clerk", "--yes")).exit_code == 0
    assert (await desk.run("volume", "log", "clerk")).exit_code == 4


async def test_throwing_away_says_what_becomes_of_the_home(desk: Desk) -> None:
    stays = (await desk.run("volume", "rm", "clerk", "--yes")).stderr
    assert "its home stays" in stays
    assert "--home puts it away" in stays
    await desk.run("volume", "snapshot", "clerk")
    assert "is now home.removed-1" in (await desk.run("volume", "rm", "clerk", "--home", "--yes")).stderr


async def test_a_home_is_laid_anew_when_that_is_asked_for(desk: Desk) -> None:
    for words in (("restore",), ("volume", "restore")):
        shown = (await desk.run(*words, "clerk", "--at", "1", "--full", "--yes")).stdout
        assert "what it replaced lies in rejected/1" in shown


async def test_a_restore_says_what_is_not_as_it_was(desk: Desk) -> None:
    for flag, said in (("--dry-run", "1 would not be as they were then"), ("--yes", "1 are not as they were then")):
        shown = (await desk.run("volume", "restore", "clerk", "new", "--at", "1", "--exact", flag)).stdout
        assert f"{said}:\n    run (stays)" in shown
    assert b"new" not in desk.volumes.homes["clerk"]


async def test_looking_after(desk: Desk) -> None:
    pruned = (await desk.run("volume", "prune", "--dry-run")).stdout
    assert "older than every tier" in pruned
    assert "1 snapshots would go" in pruned
    damaged = await desk.run("volume", "verify")
    assert damaged.exit_code == 3
    assert "damaged: chunk 00ff (clerk snapshots 1, 2)\n    notes/a.md" in damaged.stdout
    assert (await desk.run("volume", "verify", "--sample", "0.5")).exit_code == 0
    assert "2 snapshots" in (await desk.run("volume", "rebuild")).stdout


async def test_what_was_not_checked_is_told_and_is_no_success(desk: Desk) -> None:
    desk.volumes.notes = ["clerk was not test-restored: 9 GB are more than half of what is free below /data"]
    checked = await desk.run("volume", "verify", "--sample", "0.5")
    assert checked.exit_code == 3
    assert "not checked: clerk was not test-restored: 9 GB" in checked.stdout
    assert "no damage in what was checked" in checked.stdout


async def test_damage_that_checks_found_is_listed_with_what_mends_it(desk: Desk) -> None:
    hurt = documents.Damage(
        what="chunk 00ff", pack="ab" * 16, agent="clerk", snapshots=[1, 2, 3, 4, 9], paths=["a"], fix="do this"
    )
    stuck = documents.Damage(what="prune failed", fix="relit volume stats")
    desk.volumes.damage = [hurt, stuck]
    listed = await desk.run("volume", "ls")
    assert listed.exit_code == 3
    assert "clerk  damaged" in listed.stdout
    assert "damaged: chunk 00ff (clerk snapshots 1 to 4, 9)\n    a\n    fix: do this" in listed.stdout
    assert "damaged: prune failed\n" in listed.stdout
    found = [each for each in (await desk.json("doctor"))["findings"] if each["checkId"] == "volumes"]
    assert [(each["message"], each["fixHint"]) for each in found] == [
        ("chunk 00ff (clerk: a)", "do this"), ("prune failed", "relit volume stats"),
    ]  # fmt: skip


async def test_a_folder_without_a_key_says_when_it_gets_one(desk: Desk) -> None:
    result = await desk.run("key", "show-id")
    assert result.exit_code == 4
    assert "the first snapshot makes it" in result.stderr
