"""``relit incidents`` and ``relit why``: with a server, and with nothing but what a node wrote down."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from cli_house import House

from relit.app.backend import kept
from relit.control.care import Entry, Incident
from relit.lib.clock import SYSTEM_CLOCK
from relit.store.sql.sqlite.store import SqliteStore


def report(id: str, **fields: Any) -> Incident:
    now = SYSTEM_CLOCK.now_ms()
    given = {
        "id": id,
        "agent": "ada",
        "instance": "ada",
        "opened_ms": now - 60_000,
        "severity": "warning",
        "rung": 3,
        "title": "ada: died 5 times in 10 minutes",
        "cause": "exit code 78: gateway.port is not a number",
        "timeline": [
            Entry(at_ms=now - 60_000, what="died"),
            Entry(at_ms=now - 50_000, what="put its configuration back", outcome="a.json as in 41", took_ms=2000),
        ],
        "log": ["Error: \x1b[31mport"],
        "next": "relit agent edit ada",
    }
    return Incident(**(given | fields))


def put(house: House, *reports: Incident) -> None:
    """As the server's backend would."""

    async def write() -> None:
        store = SqliteStore(house.data / "relit.db")
        await store.start()
        for each in reports:
            await store.put_incident(kept(each))
        await store.stop()

    asyncio.run(write())


def over(each: Incident) -> Incident:
    entry = Entry(at_ms=SYSTEM_CLOCK.now_ms(), what="it is over")
    return msgspec.structs.replace(each, timeline=[*each.timeline, entry], resolved_ms=entry.at_ms)


@pytest.fixture
def calm(house: House) -> Iterator[House]:
    """The house; afterwards no trouble goes on."""
    yield house
    found = house.json("incidents")["incidents"]
    put(house, *(report(each["id"], agent=each["agent"], resolved_ms=1) for each in found))


def test_without_trouble_there_is_nothing_to_see(calm: House) -> None:
    result = calm.run("incidents")
    assert result.exit_code == 0
    assert "no agent is in trouble" in result.stderr
    assert calm.json("incidents") == {"incidents": [], "next": None}


def test_incidents_that_go_on_come_first_and_are_exit_code_3(calm: House) -> None:
    past = report("01jpast00000000000000000001", agent="bob", title="bob: was ill")
    put(calm, past, over(past), report("01jnow000000000000000000002"))
    result = calm.run("incidents")
    assert result.exit_code == 3
    head, line = result.stdout.splitlines()
    assert head.split() == ["ID", "AGENT", "SEVERITY", "STATE", "RUNG", "BEGAN", "LASTED", "WHAT"]
    assert "▲ warning  ● open  3 of 4" in line
    assert "ada: died 5 times" in line
    assert "bob" not in result.stdout
    everything = calm.run("incidents", "--all").stdout.splitlines()
    assert [line.split()[1] for line in everything[1:3]] == ["ada", "bob"]
    assert "○ resolved" in everything[2]
    assert calm.run("incidents", "--agent", "bob").exit_code == 0
    assert len(calm.json("incidents", "--all", "-n", "1")["incidents"]) == 1


def test_an_incident_that_only_informs_is_no_exit_code(calm: House) -> None:
    put(calm, report("01jinfo00000000000000000003", severity="info", rung=1))
    assert calm.run("incidents").exit_code == 0
    assert calm.run("why", "ada").exit_code == 0


def test_why_is_the_page_of_the_newest_trouble(calm: House) -> None:
    put(calm, report("01jwhy000000000000000000004", severity="critical", rung=4))
    result = calm.run("why", "ada")
    assert result.exit_code == 3
    assert result.stdout.startswith("# ada: died 5 times in 10 minutes\n\n**Open** since ")
    assert "**Next:** `relit agent edit ada`" in result.stdout
    assert "| put its configuration back | a.json as in 41 | 2.0s |" in result.stdout
    assert "\x1b" not in result.stdout
    told = calm.json("why", "ada")
    assert (told["agent"], told["now"], told["source"]) == ("ada", None, "server")
    assert told["incident"]["timeline"][1]["outcome"] == "a.json as in 41"


def test_why_takes_an_id_as_it_is_shown(calm: House) -> None:
    past = report("01jold000000000000000000005", title="ada: an old story")
    put(calm, past, over(past), report("01jnew000000000000000000006"))
    assert "an old story" in calm.run("why", "00000005").stdout
    assert "an old story" not in calm.run("why", "ada").stdout


def test_why_of_an_agent_that_is_well_says_so(calm: House) -> None:
    calm.run("send", "clerk", "x", "--wait")
    result = calm.run("why", "clerk")
    assert result.exit_code == 0
    assert result.stdout.startswith("clerk is well: it is ")
    assert " since " in result.stdout
    assert "No trouble of it is known." in result.stdout
    told = calm.json("why", "clerk")
    assert (told["now"]["agent"], told["incident"]) == ("clerk", None)


def test_why_finds_the_trouble_of_the_process_that_an_agent_lives_in(calm: House) -> None:
    calm.run("send", "clerk", "x", "--wait")
    told = report("01jmod000000000000000000007", agent="clerks", instance="clerks", title="clerks: died")
    put(calm, told)
    assert "# clerks: died" in calm.run("why", "clerk").stdout
    put(calm, over(told))
    after = calm.run("why", "clerk")
    assert after.exit_code == 0
    assert "Its last trouble is over:" in after.stdout
    assert "**Resolved** after" in after.stdout


def test_why_of_nobody_is_not_found(calm: House) -> None:
    result = calm.run("why", "nobody")
    assert result.exit_code == 4
    assert "there is no agent and no incident 'nobody'" in result.stderr


# --- without a server ------------------------------------------------------------------------------------------------


def write(house: House, told: Incident, folder: str = "ada") -> None:
    place = house.data / "agents" / folder / "incidents"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{told.id}.json").write_bytes(msgspec.json.format(msgspec.json.encode(told)))


def test_why_without_a_server_reads_what_the_node_wrote(quiet_house: House) -> None:
    write(quiet_house, report("01ja", opened_ms=1, resolved_ms=2, title="ada: long ago"))
    write(quiet_house, report("01jb", severity="critical"))
    write(quiet_house, report("01jc", resolved_ms=SYSTEM_CLOCK.now_ms(), title="ada: later, and over"))
    result = quiet_house.run("why", "ada")
    assert result.exit_code == 3
    assert result.stdout.startswith("# ada: died 5 times")
    assert "this is what the node of this machine knows" in result.stderr
    told = quiet_house.json("why", "ada")
    assert (told["source"], told["incident"]["id"], told["incident"]["effects"]) == ("node", "01jb", [])


def test_a_damaged_file_hides_no_other(quiet_house: House) -> None:
    write(quiet_house, report("01ja"))
    place = quiet_house.data / "agents" / "ada" / "incidents"
    (place / "01jz.json").write_text('{"id": ')
    (place / "01jy.json").mkdir()
    (place / ".01jx.new").write_text("x")
    assert quiet_house.json("why", "ada")["incident"]["id"] == "01ja"


def test_why_finds_the_files_of_copies_and_of_hosts(quiet_house: House) -> None:
    write(quiet_house, report("01ja", agent="ada-2", instance="ada-2"), "ada-2")
    assert quiet_house.json("why", "ada")["incident"]["id"] == "01ja"
    write(quiet_house, report("01jb", agent="mods", instance="mods"), "mods")
    notes = quiet_house.data / "agents" / "eve" / "run" / "lives-in"
    notes.mkdir(parents=True)
    (notes / "mods").touch()
    assert quiet_house.json("why", "eve")["incident"]["id"] == "01jb"


def test_why_without_server_and_files_says_that_nobody_answers(quiet_house: House) -> None:
    for name in ("ada", "../ada", "/etc", "*"):
        result = quiet_house.run("why", name)
        assert result.exit_code == 1
        assert "no relit server answers" in result.stderr


def test_a_server_elsewhere_is_not_answered_for(quiet_house: House) -> None:
    write(quiet_house, report("01ja"))
    result = quiet_house.run("--server", "http://127.0.0.1:9", "--json", "why", "ada")
    assert result.exit_code == 1
    assert json.loads(result.stderr)["code"] == "server-unreachable"
    shutil.rmtree(quiet_house.data)
