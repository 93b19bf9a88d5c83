"""A flipped bit in relit.db, with the real commands: named, kept in view, put right."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec
import pytest
from cli_house import House

from relit.manifest import Entry


@pytest.fixture
def house(quiet_house: House) -> House:
    """Three snapshots of clerk's home; ``early`` is in the first two."""
    home = quiet_house.data / "agents" / "clerk" / "home"
    home.mkdir(parents=True)
    (home / "early").write_text("worth keeping")
    for no in (1, 2, 3):
        (home / f"note{no}").write_text(f"note {no}")
        if no == 3:
            (home / "early").unlink()
        done = quiet_house.run("volume", "snapshot", "clerk")
        assert done.exit_code == 0, done.output
    return quiet_house


def flip(house: House, **changes: Any) -> None:
    """Change the row of ``early``."""
    connection = apsw.Connection(str(house.data / "relit.db"))
    [(since, body)] = connection.execute("SELECT since, body FROM entries WHERE path = x'6561726c79'")
    entry = msgspec.structs.replace(msgspec.msgpack.decode(body, type=Entry), **changes)
    packed = msgspec.msgpack.encode(entry)
    connection.execute("UPDATE entries SET body = ? WHERE path = x'6561726c79' AND since = ?", (packed, since))
    connection.close()


def early(house: House) -> str:
    return house.run("volume", "cat", "clerk", "early", "--at", "2").stdout


def test_a_flipped_bit_is_shown_until_it_is_put_right(house: House) -> None:
    assert house.run("volume", "verify").exit_code == 0
    flip(house, mode=0o4644)
    checked = house.run("volume", "verify")
    assert checked.exit_code == 3
    assert "(clerk snapshots 1, 2)\n    early\n    fix: relit volume rebuild" in checked.stdout
    listed = house.run("volume", "ls")
    assert listed.exit_code == 3
    assert "damaged" in listed.stdout
    assert "fix: relit volume rebuild" in listed.stdout
    rebuilt = house.run("volume", "rebuild")
    assert (rebuilt.exit_code, "the manifest of clerk was damaged, and is right again" in rebuilt.stdout) == (0, True)
    assert house.run("volume", "verify").exit_code == 0
    assert house.run("volume", "ls").exit_code == 0


def test_prune_refuses_and_tells_what_mends_it(house: House) -> None:
    flip(house, parts=bytes(16))
    pruned = house.run("volume", "prune")
    assert pruned.exit_code == 1
    assert "early of clerk from snapshot 1 on" in pruned.stderr
    assert "fix: relit volume rebuild" in pruned.stderr
    assert house.run("volume", "rebuild").exit_code == 0
    assert early(house) == "worth keeping"
    assert house.run("volume", "prune").exit_code == 0


def test_without_packs_nothing_is_put_right(house: House) -> None:
    flip(house, mode=0o4644)
    packs = [path for path in house.data.rglob("packs/*/*") if path.is_file()]
    assert len(packs) == 3
    for pack in packs:
        pack.unlink()
    rebuilt = house.run("volume", "rebuild")
    assert "right again" not in rebuilt.stdout
    assert house.run("volume", "verify").exit_code == 3
