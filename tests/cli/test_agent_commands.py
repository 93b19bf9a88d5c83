"""``relit agent``: add, ls, start, stop, restart, exec, edit, install, rm, with a toy kind and real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_house import AgentHouse

pytestmark = pytest.mark.slow


@pytest.fixture
def quiet(tmp_path: Path) -> AgentHouse:
    """Nothing runs in it."""
    return AgentHouse(tmp_path)


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentHouse]:
    """A node runs, with the agent ``bob`` of the toy kind."""
    made = AgentHouse(tmp_path_factory.mktemp("lively"))
    added = made.run("agent", "add", "bob", "--kind", "toy")
    assert added.exit_code == 0, added.output
    made.up()
    try:
        yield made
    finally:
        made.down()


# --- without a node -----------------------------------------------------------------------------------------------


def test_an_agent_of_the_configuration_is_listed_without_a_server(quiet: AgentHouse) -> None:
    assert quiet.listed("tick") == {
        "name": "tick", "kind": "command", "version": "", "state": "stopped", "pid": None, "pids": [], "ports": {},
        "home": str(quiet.home("tick")), "installed": True, "restarts": 0, "reason": "no node runs it: relit up",
    }  # fmt: skip


def test_the_doctor_says_whose_ports_are_not_limited_and_calls_it_no_trouble(quiet: AgentHouse) -> None:
    report = json.loads(quiet.run("--json", "doctor").stdout)
    [found] = [each for each in report["findings"] if each["checkId"] == "ports"]
    assert found["severity"] == "info"
    assert "tick" in found["message"]
    quiet.config.write_text(quiet.config.read_text() + "connect = [443]\n")
    report = json.loads(quiet.run("--json", "doctor").stdout)
    assert [each for each in report["findings"] if each["checkId"] == "ports" and each["severity"] == "info"] == []


def test_add_writes_a_file_and_makes_a_home(quiet: AgentHouse) -> None:
    done = quiet.run("agent", "add", "eve", "--kind", "toy", "--no-start")
    assert done.exit_code == 0, done.output
    assert (quiet.folder / "agents.d" / "eve.toml").read_text() == '[agents.eve]\nkind = "toy"\nversion = "1.0"\n'
    port = quiet.listed("eve")["ports"]["http"]  # type: ignore[index]
    assert json.loads((quiet.home("eve") / "state/toy.json").read_text()) == {
        "port": port, "heartbeat": "off", "workspace": str(quiet.home("eve") / "work"),
    }  # fmt: skip
    assert quiet.listed("eve")["reason"] == "stopped by hand"
    assert "relit agent start eve" in done.stderr


def test_add_tells_its_steps_as_json_lines(quiet: AgentHouse) -> None:
    done = quiet.run("--json", "agent", "add", "eve", "--kind", "toy")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"python", "packages", "check", "record"} <= {row.get("phase") for row in rows}
    assert rows[-1]["event"] == "added"
    assert rows[-1]["version"] == "1.0"


def test_the_first_agent_makes_the_users_configuration(quiet: AgentHouse) -> None:
    del quiet.environment["RELIT_CONFIG"]
    quiet.config.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "relit.cli", "agent", "add", "tock", "--kind", "command", "--", "sleep", "9"],
        cwd=quiet.folder, env=quiet.environment, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = quiet.folder / "config/relit"
    assert (made / "relit.toml").read_text().startswith("# relit's configuration")
    assert 'command = ["sleep", "9"]' in (made / "agents.d/tock.toml").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tick", "--kind", "command", "--", "true"], 6, "lines 1 to 3"),
        (["Eve", "--kind", "toy"], 2, "no name for an agent"),
        (["eve", "--kind", "toi"], 4, "did you mean toy?"),
        (["eve", "--kind", "command"], 2, "-- PROGRAM"),
        (["eve", "--kind", "python"], 2, "--entry MODULE:OBJECT"),
        (["eve", "--kind", "hermes"], 78, "there is no [models.default]"),
        (["eve", "--kind", "hermes", "--model", "fast"], 78, "there is no [models.fast]"),
        (["server", "--kind", "command", "--", "true"], 78, "two instances are called server"),
        (["eve", "--kind", "toy", "--version", "9.9"], 1, "9.9"),
    ],
)
def test_what_cannot_be_added_leaves_nothing(quiet: AgentHouse, words: list[str], code: int, said: str) -> None:
    done = quiet.run("agent", "add", *words)
    assert done.exit_code == code, done.output
    assert said in done.output
    assert not (quiet.folder / "agents.d").exists()
    assert not quiet.home("eve").exists()


def test_an_add_that_is_interrupted_leaves_no_agent(quiet: AgentHouse) -> None:
    adding = subprocess.Popen(
        [sys.executable, "-m", "relit.cli", "--json", "agent", "add", "eve", "--kind", "toy"],
        cwd=quiet.folder, env=quiet.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert adding.stdout is not None
    assert "progress" in adding.stdout.readline()  # it has begun to install
    adding.send_signal(signal.SIGINT)
    adding.communicate(timeout=30)
    assert adding.returncode == 130
    assert not (quiet.folder / "agents.d").exists()
    assert not quiet.home("eve").exists()
    assert not (quiet.data / "runtimes/toy/1.0").exists()


def test_stop_and_start_without_a_node_are_remembered(quiet: AgentHouse) -> None:
    assert quiet.json("agent", "stop", "tick")["changed"] is True
    assert quiet.json("agent", "stop", "tick")["changed"] is False
    assert quiet.listed("tick")["reason"] == "stopped by hand"
    assert quiet.json("agent", "start", "tick")["outcome"] == "waits"
    assert "no node runs here" in quiet.run("agent", "restart", "tick").output


def test_an_agent_that_nobody_knows_is_not_found(quiet: AgentHouse) -> None:
    for verb in ("start", "stop", "restart", "install", "rm", "edit"):
        done = quiet.run("--yes", "agent", verb, "tikc")
        assert done.exit_code == 4, done.output
        assert "did you mean tick?" in done.output


def test_an_agent_of_relit_toml_is_removed_by_hand_alone(quiet: AgentHouse) -> None:
    done = quiet.run("--yes", "agent", "rm", "tick")
    assert done.exit_code == 78
    assert f"{quiet.config}, lines 1 to 3" in done.output


def test_install_mends_a_damaged_runtime(quiet: AgentHouse) -> None:
    assert quiet.run("agent", "add", "eve", "--kind", "toy").exit_code == 0
    program = next((quiet.data / "runtimes/toy/1.0").rglob("toyagent.py"))
    program.write_text("broken")
    done = quiet.run("agent", "install", "eve")
    assert done.exit_code == 0, done.output
    assert "is installed anew" in done.output
    assert "VERSION" in next((quiet.data / "runtimes/toy/1.0").rglob("toyagent.py")).read_text()
    assert "is whole" in quiet.run("agent", "install", "eve").output
    assert "needs nothing" in quiet.run("agent", "install", "tick").output


def test_the_table_of_an_agent_is_edited_and_checked(quiet: AgentHouse) -> None:
    quiet.environment["EDITOR"] = "sed -i s/1000/2000/"
    assert quiet.run("agent", "edit", "tick").exit_code == 0
    assert '"2000"' in quiet.config.read_text()
    quiet.environment["EDITOR"] = "sed -i s/command/comand/g"
    done = quiet.run("agent", "edit", "tick")
    assert done.exit_code == 78
    assert "stays as it is" in done.output
    assert "comand" not in quiet.config.read_text()
    assert "comand" in (quiet.data / "agents/tick/run/drafts/relit.toml").read_text()


# --- with a node --------------------------------------------------------------------------------------------------


def test_an_agent_is_stopped_started_and_restarted(lively: AgentHouse) -> None:
    before = lively.listed("bob")
    assert before["state"] == "ready"
    assert lively.json("agent", "stop", "bob")["outcome"] == "stopped"
    assert lively.listed("bob")["state"] == "stopped"
    assert lively.listed("bob")["reason"] == "stopped by hand"
    assert not Path(f"/proc/{before['pid']}").exists()
    started = lively.json("agent", "start", "bob")
    assert started["pid"] == lively.listed("bob")["pid"] != before["pid"]
    assert lively.json("agent", "start", "bob")["changed"] is False
    assert lively.json("agent", "restart", "bob")["pid"] != started["pid"]


def test_a_start_that_takes_too_long_ends_with_5(lively: AgentHouse) -> None:
    assert lively.run("agent", "stop", "bob").exit_code == 0
    assert lively.run("agent", "start", "bob", "--timeout", "1ms").exit_code == 5
    assert lively.run("agent", "start", "bob").exit_code == 0


def test_an_installation_that_fails_stops_nobody_and_removes_nothing(
    lively: AgentHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run on, on what they have; as soon as a new one can be had they are started on that."""
    assert lively.run("agent", "add", "dan", "--kind", "toy").exit_code == 0
    before = {name: lively.listed(name)["pid"] for name in ("bob", "dan")}
    program = next((lively.data / "runtimes/toy/1.0").rglob("toyagent.py"))
    program.write_text("broken")
    with monkeypatch.context() as patch:
        patch.setitem(lively.environment, "PIP_FIND_LINKS", str(lively.folder / "nowhere"))
        failed = lively.run("agent", "install", "dan")
    assert failed.exit_code == 1, failed.output
    assert "No matching distribution" in failed.output
    assert "what is there stays as it is, and no agent was stopped" in failed.output
    assert {name: lively.listed(name)["pid"] for name in before} == before
    assert program.read_text() == "broken"
    assert list((lively.data / "runtimes/toy").glob(".*partial*")) == []
    done = lively.run("agent", "install", "dan")
    assert done.exit_code == 0, done.output
    assert "restarted: bob, dan" in done.output
    for name, pid in before.items():
        assert lively.listed(name)["state"] == "ready"
        assert lively.listed(name)["pid"] != pid
    assert lively.run("--yes", "agent", "rm", "dan").exit_code == 0


def test_added_and_removed_while_a_node_runs(lively: AgentHouse) -> None:
    done = lively.run("agent", "add", "eve", "--kind", "toy")
    assert done.exit_code == 0, done.output
    assert "eve runs (pid" in done.output
    gone = lively.run("--yes", "agent", "rm", "eve")
    assert gone.exit_code == 0, gone.output
    assert lively.home("eve").is_dir()
    assert "eve" not in [each["name"] for each in lively.json("agent", "ls")["agents"]]


def test_rm_home_puts_the_home_away_and_forgets_the_volume(lively: AgentHouse) -> None:
    assert lively.run("agent", "add", "zoe", "--kind", "toy").exit_code == 0
    assert lively.run("volume", "snapshot", "zoe").exit_code == 0
    gone = lively.json("--yes", "agent", "rm", "zoe", "--home")
    assert Path(gone["home"]).name.startswith("home.removed-")
    assert not lively.home("zoe").exists()
    assert "zoe" not in [each["agent"] for each in lively.json("volume", "ls")["volumes"]]


def test_a_command_runs_in_the_agents_place(lively: AgentHouse) -> None:
    words = ["python", "-c", "import os, toyagent, sys; print(os.getcwd(), toyagent.VERSION); sys.exit(7)"]
    done = lively.spawn("agent", "exec", "bob", "--", *words)
    assert done.returncode == 7, done.stderr
    assert done.stdout.split() == [str(lively.home("bob") / "work"), "1.0"]
    assert lively.spawn("agent", "exec", "bob", "--", "sh", "-c", "kill -9 $$").returncode == 137
    assert "there is no program nosuch" in lively.spawn("agent", "exec", "bob", "--", "nosuch").stderr


def test_a_configuration_is_checked_put_in_place_and_taken_up(lively: AgentHouse, tmp_path: Path) -> None:
    file, draft = lively.home("bob") / "state/toy.json", tmp_path / "draft.json"
    before = lively.listed("bob")["pid"]
    draft.write_text('{"port": 1, "mood": "good"}')
    done = lively.run("agent", "edit", "bob", "--from", str(draft))
    assert done.exit_code == 0, done.output
    assert json.loads(file.read_text())["mood"] == "good"
    assert lively.listed("bob")["pid"] != before
    draft.write_text('{"port": 1, "moood": "good"}')
    wrong = lively.run("agent", "edit", "bob", "--from", str(draft))
    assert wrong.exit_code == 78
    assert "there is no setting moood" in wrong.output  # the agent's own word
    assert json.loads(file.read_text())["mood"] == "good"
    assert not list(file.parent.glob(".*draft*"))


def test_a_restart_is_not_made_when_it_is_not_wanted(lively: AgentHouse, tmp_path: Path) -> None:
    draft, before = tmp_path / "draft.json", lively.listed("bob")["pid"]
    draft.write_text('{"port": 1, "mood": "other"}')
    assert lively.run("agent", "edit", "bob", "--from", str(draft), "--no-restart").exit_code == 0
    assert lively.listed("bob")["pid"] == before
    assert "nothing changed" in lively.run("agent", "edit", "bob", "--from", str(draft)).output


def test_a_file_that_the_agent_changed_meanwhile_is_not_overwritten(lively: AgentHouse) -> None:
    file = lively.home("bob") / "state/toy.json"
    lively.environment["EDITOR"] = (
        f"{sys.executable} -c \"import sys; open(sys.argv[1], 'a').write(' '); open('{file}', 'a').write('  ')\""
    )
    try:
        done = lively.run("agent", "edit", "bob")
    finally:
        del lively.environment["EDITOR"]
    assert done.exit_code == 6, done.output
    assert "has changed since you began" in done.output


def test_an_agent_stays_stopped_when_everything_starts_again(lively: AgentHouse) -> None:
    assert lively.run("agent", "stop", "bob").exit_code == 0
    lively.down()
    lively.up()
    assert lively.listed("bob")["state"] == "stopped"
    assert lively.run("agent", "start", "bob").exit_code == 0
