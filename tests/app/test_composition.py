"""The parts are chosen as the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.app import modules, parts
from relit.app.declared import declare
from relit.app.serve import options
from relit.app.specs import check_names
from relit.app.specs import specs as specs_of
from relit.control.box import Limits
from relit.durable.definitions import Agent
from relit.errors import ConfigError, UnknownWorkflow
from relit.settings import Environment, Settings, load

MODULE = """
import relit

@relit.agent(name="clerk")
async def clerk(ctx, message):
    return message

@relit.workflow(agent="clerk")
async def other(ctx):
    return 1
"""

CONFIG = """
[agents.clerk]
entry = "{module}:clerk"
priority = 70
workers = 2
mailbox = {{ concurrency = 3, expire = "1h" }}
[agents.clerk.schedules.beat]
every = "30m"
message = "Look around."
[agents.tool]
kind = "command"
command = ["sleep", "1"]
env = {{ KEY = "secret:key" }}
[webhooks.in]
agent = "clerk"
secret = "secret:key"
[subscribers.out]
url = "http://127.0.0.1:1/hook"
secret = "secret:key"
events = ["run.failed"]
"""


def settings(folder: Path, text: str) -> Settings:
    path = folder / "relit.toml"
    path.write_text(text)
    secrets = folder / "data" / "secrets.toml"
    secrets.parent.mkdir(exist_ok=True, mode=0o700)
    secrets.touch(mode=0o600)
    secrets.write_text('key = "hunter2"\n')
    return load(path, environment=Environment({"HOME": str(folder), "RELIT_DATA": str(folder / "data")}))


async def test_what_is_declared_stands_in_the_store_once(tmp_path: Path) -> None:
    given = settings(tmp_path, CONFIG.format(module="declared_clerks"))
    async with parts.engine(given) as engine:
        await declare(engine, given)
        first = await engine.store.schedules()
        await declare(engine, given)
        assert await engine.store.schedules() == first
        assert [each.name for each in first] == ["clerk.beat"]
        assert first[0].next_at is not None
        boxes = {each.mailbox.name: each.mailbox for each in await engine.store.mailboxes()}
        assert boxes["clerk"].concurrency == 3
        subscribers = await engine.store.subscribers()
        assert [(each.name, each.secret) for each in subscribers] == [("out", "secret:key")]


async def test_a_schedule_that_left_the_file_ends(tmp_path: Path) -> None:
    given = settings(tmp_path, CONFIG.format(module="declared_clerks"))
    without = settings(tmp_path, '[agents.clerk]\nentry = "x"\n')
    async with parts.engine(given) as engine:
        await declare(engine, given)
        await declare(engine, without)
        assert await engine.store.schedules() == []


def test_the_api_is_told_of_webhooks_and_defaults(tmp_path: Path) -> None:
    told = options(settings(tmp_path, CONFIG.format(module="x")))
    assert told.webhooks["in"].secret == "hunter2"
    assert told.agents["clerk"].priority == 70
    assert told.agents["clerk"].expire_ms == 3_600_000


@pytest.mark.parametrize("secret", ["secret:nope", "whsec_!!", " "])
def test_a_secret_that_cannot_be_used_is_told_before_anything_starts(tmp_path: Path, secret: str) -> None:
    given = settings(tmp_path, f'[subscribers.out]\nurl = "http://127.0.0.1:1"\nsecret = "{secret}"\n')
    with pytest.raises(ConfigError, match=r"\[subscribers.out\]"):
        options(given)


def test_the_node_keeps_a_process_for_each_worker(tmp_path: Path) -> None:
    given = settings(tmp_path, CONFIG.format(module="x"))
    specs = {each.name: each for each in specs_of(given, Environment({"PATH": "/bin", "SSH_TTY": "x"}), ["more.py"])}
    assert list(specs) == ["server", "volumes", "clerk-1", "clerk-2", "tool", "more"]
    assert specs["tool"].argv == ["sleep", "1"]
    assert specs["tool"].env["KEY"] == "hunter2"
    assert (specs["tool"].limits, specs["tool"].box and specs["tool"].box.connect) == (None, None)
    assert "SSH_TTY" not in specs["server"].env
    assert specs["clerk-1"].order > specs["server"].order
    for each in ("server", "volumes"):
        assert specs[each].live is not None, f"{each} is started again when it hangs"
    assert str(given.data) in specs["more"].argv
    counts = [name for name, each in specs.items() if each.demand is not None]
    assert counts == ["clerk-1", "clerk-2", "tool", "more"], "all but relit's own wait for memory, and may be shed"


def test_a_program_of_strangers_is_told_nothing_of_our_environment(tmp_path: Path) -> None:
    given = settings(tmp_path, CONFIG.format(module="x"))
    around = {"PATH": "/bin", "LANG": "C", "OPENAI_API_KEY": "sk-1", "RELIT_TOKEN": "t", "RELIT_SERVER__DATABASE": "d"}
    specs = {each.name: each for each in specs_of(given, Environment(around))}
    assert not {"OPENAI_API_KEY", "RELIT_TOKEN", "RELIT_SERVER__DATABASE"} & specs["tool"].env.keys()
    assert specs["tool"].env["LANG"] == "C"
    assert specs["clerk-1"].env["OPENAI_API_KEY"] == "sk-1", "a worker is its owner's own code"
    other = around | {"VIRTUAL_ENV": "/x", "PATH": "/x/bin:/bin", "LANG": "de_DE.UTF-8"}
    more = {each.name: each for each in specs_of(given, Environment(other))}
    assert more["tool"].tag() == specs["tool"].tag(), "another shell is no reason to start it anew"
    assert more["tool"].env["PATH"] == "/x/bin:/bin"


def test_what_concerns_others_changes_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(tmp_path, CONFIG.format(module="x"))
    home, node = tmp_path / "operator", tmp_path / "where the node runs"
    (node / "venv").mkdir(parents=True)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(node)

    def tag() -> str:
        return next(each.tag() for each in specs_of(given, Environment({"PATH": "/bin"})) if each.name == "tool")

    before = tag()
    given.runtimes.mkdir()
    (home / ".kube").mkdir()
    (node / "venv" / "pyvenv.cfg").write_text("home = /usr/local/bin\n")
    assert tag() == before


def test_limits_and_ports_of_an_agent_reach_its_process(tmp_path: Path) -> None:
    text = '[agents.tool]\nkind = "command"\ncommand = ["sleep", "1"]\nports = ["web"]\nconnect = [443]\n'
    given = settings(tmp_path, text + 'limits = { files = 99, file_size = "1M" }\n')
    spec = next(each for each in specs_of(given, Environment({"PATH": "/bin"})) if each.name == "tool")
    assert spec.limits == Limits(nofile=99, fsize=1 << 20, core=0)
    port = int(spec.env["PORT_WEB"])
    if spec.box is not None:  # where there is a sandbox
        assert spec.box.ports == [port]
        assert spec.box.connect == sorted({443, port, given.address[1], given.gateway_address[1]})


@pytest.mark.parametrize("module", ["server.py", "clerk-2", "tool", "one.py"])
def test_two_instances_of_one_name_are_refused(tmp_path: Path, module: str) -> None:
    given = settings(tmp_path, CONFIG.format(module="x"))
    with pytest.raises(ConfigError, match="two instances are called"):
        check_names(given, ["one", module])
    check_names(given, ["one", "two"])


def test_databases_and_blobs_are_where_the_settings_say(tmp_path: Path) -> None:
    assert parts.database(settings(tmp_path, "")) == tmp_path / "data" / "relit.db"
    named = settings(tmp_path, '[server]\ndatabase = "sqlite:here/my.db"\n')
    assert parts.database(named) == tmp_path / "here" / "my.db"
    dsn = "postgresql://me@db/relit"
    assert parts.database(settings(tmp_path, f'[server]\ndatabase = "{dsn}"\n')) == dsn


def test_modules_are_found_by_name_file_and_object(tmp_path: Path) -> None:
    (tmp_path / "found_clerks.py").write_text(MODULE)
    assert len(modules.load("found_clerks", tmp_path)) == 2
    assert len(modules.load("found_clerks.py", tmp_path)) == 2
    (one,) = modules.load("found_clerks:clerk", tmp_path)
    assert isinstance(one, Agent)
    assert modules.find([one], None, "found_clerks").target == "clerk/message"
    with pytest.raises(UnknownWorkflow, match="did you mean clerk"):
        modules.load("found_clerks:clrek", tmp_path)
    with pytest.raises(ConfigError, match="there is no module"):
        modules.load("no_such_clerks", tmp_path)


def test_the_mailbox_of_the_file_wins_over_the_codes(tmp_path: Path) -> None:
    (tmp_path / "boxed_clerks.py").write_text(MODULE)
    given = settings(tmp_path, CONFIG.format(module="boxed_clerks"))
    found = modules.of_agent(given, "clerk")
    (changed,) = modules.with_mailboxes(found, given)
    assert isinstance(changed, Agent)
    assert changed.mailbox is not None
    assert changed.mailbox.concurrency == 3
    assert isinstance(found[0], Agent)
    assert found[0].mailbox is None


def test_an_unknown_agent_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean clerk"):
        modules.of_agent(settings(tmp_path, CONFIG.format(module="x")), "clrek")
