"""Settings: sources, their order, and faults told with file, line, key and what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit.errors import ConfigError
from relit.settings import Environment, Secrets, Settings, load, schema, show


def read(folder: Path, text: str = "", /, flags: dict[str, object] | None = None, **variables: str) -> Settings:
    path = folder / "relit.toml"
    path.write_text(text)
    environment = Environment({"HOME": str(folder), **variables})
    return load(path, flags, environment=environment)


def refused(folder: Path, text: str = "", **variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, **variables)
    return str(caught.value)


def test_nothing_set_means_defaults(tmp_path: Path) -> None:
    settings = load(None, environment=Environment({"HOME": str(tmp_path)}))
    assert settings.server.listen == "127.0.0.1:7717"
    assert settings.url == "http://127.0.0.1:7717"
    assert settings.data == tmp_path / ".local/share/relit"
    assert settings.worker.lease_ms == 10_000


def test_stronger_sources_win(tmp_path: Path) -> None:
    text = '[server]\nlisten = "127.0.0.1:1"\ndatabase = "sqlite:a"\nblobs = "b"\n'
    variables = {"RELIT_SERVER__LISTEN": "127.0.0.1:2", "RELIT_SERVER__DATABASE": "sqlite:c"}
    settings = read(tmp_path, text, {"server.listen": "127.0.0.1:3"}, **variables)
    assert (settings.server.listen, settings.server.database, settings.server.blobs) == (
        "127.0.0.1:3",
        "sqlite:c",
        "b",
    )
    assert settings.origin(("server", "listen")) == "--listen"
    assert settings.origin(("server", "database")) == "RELIT_SERVER__DATABASE"
    assert settings.origin(("server", "blobs")) == "relit.toml:4"
    assert settings.origin(("worker", "lease")) == "default"


def test_variables_are_read_as_the_settings_type(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        '[agents.my-agent]\nentry = "a:b"\n',
        RELIT_AGENTS__MY_AGENT__PRIORITY="7",
        RELIT_SERVER__METRICS_PUBLIC="true",
        RELIT_SERVER__HOSTS='["a.example"]',
        RELIT_AGENTS__MY_AGENT__MAILBOX__DEPTH="5",
    )
    assert settings.agents["my-agent"].priority == 7
    assert settings.agents["my-agent"].mailbox.depth == 5
    assert settings.server.metrics_public is True
    assert settings.server.hosts == ["a.example"]


def test_agents_of_agents_d_are_added(tmp_path: Path) -> None:
    (tmp_path / "agents.d").mkdir()
    (tmp_path / "agents.d/b.toml").write_text('[agents.b]\nentry = "b:b"\n')
    settings = read(tmp_path, '[agents.a]\nentry = "a:a"\n')
    assert sorted(settings.agents) == ["a", "b"]


def test_an_agent_in_two_files_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "agents.d").mkdir()
    (tmp_path / "agents.d/b.toml").write_text('\n[agents.a]\nentry = "b:b"\n')
    text = refused(tmp_path, '[agents.a]\nentry = "a:a"\n')
    assert "stands both in relit.toml:1 and agents.d/b.toml:2" in text


def test_an_unknown_key_names_line_and_neighbour(tmp_path: Path) -> None:
    text = refused(tmp_path, '[server]\n\nlisten = "127.0.0.1:1"\ndatabse = "sqlite"\n')
    assert "relit.toml:4: server.databse: there is no such setting; did you mean database?" in text
    assert "relit config check" in text


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    text = refused(
        tmp_path,
        """
[worker]
concurrency = 0
lease = "soon"
[agents.a]
kind = "python"
mailbox = { depth = "many" }
[retention]
runs = 30
""",
    )
    assert "4 faults" in text
    assert "relit.toml:3: worker.concurrency: 0 is not allowed (allowed: a whole number, 1 or more)" in text
    assert 'relit.toml:4: worker.lease: "soon" is not allowed (allowed: a duration: 90s, 10m, 2h, 1d)' in text
    assert "relit.toml:7: agents.a.mailbox.depth" in text
    assert "relit.toml:9: retention.runs" in text


def test_settings_of_later_versions_are_refused(tmp_path: Path) -> None:
    text = refused(tmp_path, '[agents.a]\nentry = "a:a"\n[connections.mail]\n')
    assert "relit.toml:3" in text
    assert "is not in this version of relit" in text


def test_a_kind_must_be_known(tmp_path: Path) -> None:
    text = refused(tmp_path, '[agents.a]\nkind = "openclow"\n')
    assert 'relit.toml:2: agents.a.kind: "openclow" is not allowed; did you mean openclaw?' in text
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "mine.toml").write_text('title = "Mine"\ncommand = ["x"]\n')
    assert read(tmp_path, '[agents.a]\nkind = "mine"\n').kinds()["mine"].title == "Mine"


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    text = refused(tmp_path, "[server]\nlisten = \n")
    assert "relit.toml is not valid TOML" in text
    assert "line 2" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[agents.a]\nkind = "python"\n', "agents.a.entry: is missing"),
        ('[agents.a]\nkind = "command"\n', "agents.a.command: is missing"),
        ('[server]\nlisten = "here"\n', "server.listen"),
        ('[server]\ndatabase = "mysql://x"\n', "server.database"),
        ('[agents.a]\nentry = "a:b"\n[agents.a.schedules.s]\nmessage = "x"\n', "exactly one of every and cron"),
        ('[agents.a]\nentry = "a:b"\nschedules.s = { every = "1m" }\n', "exactly one of message and workflow"),
        ('[agents.a]\nentry = "a:b"\nschedules.s = { cron = "x", message = "x" }\n', "not a cron expression"),
        (
            '[agents.a]\nentry = "a:b"\nschedules.s = { cron = "0 9 * * *", zone = "Mars/One", message = "x" }\n',
            "not a time zone",
        ),
        ('[agents.mail]\nentry = "a:b"\n[webhooks.w]\nagent = "mial"\nsecret = "secret:x"\n', "did you mean mail?"),
        ('[webhooks.w]\nagent = "mial"\n', "webhooks.w.secret: is missing"),
        ("server = 3\n", "server: must be a table, not 3"),
        ('[agents."A B"]\nentry = "a:b"\n', "is not a name"),
    ],
)
def test_contradictions_are_told(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in refused(tmp_path, text)


def test_a_variable_that_names_no_setting_is_a_fault(tmp_path: Path) -> None:
    text = refused(tmp_path, RELIT_SERVER__LISTN="x")
    assert "RELIT_SERVER__LISTN: there is no such setting; did you mean RELIT_SERVER__LISTEN?" in text


def test_a_single_underscore_is_told(tmp_path: Path) -> None:
    text = refused(tmp_path, RELIT_SERVER_LISTEN="x")
    assert "did you mean RELIT_SERVER__LISTEN?" in text


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    assert "RELIT_WORKER__CONCURRENCY: worker.concurrency" in refused(tmp_path, RELIT_WORKER__CONCURRENCY="x")


def test_a_missing_named_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load(environment=Environment({"RELIT_CONFIG": str(tmp_path / "none.toml")}))


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    text = """
[server]
database = "postgresql://me:hunter2@db/relit"
[agents.a]
entry = "a:b"
env = { KEY = "hunter2", OTHER = "secret:other" }
[webhooks.w]
agent = "a"
secret = "hunter2"
"""
    settings = read(tmp_path, text)
    shown = f"{show.tree(settings)} {list(show.rows(settings))}"
    assert "hunter2" not in shown
    assert "secret:other" in shown
    assert "postgresql://me:********@db/relit" in shown


def test_a_wrong_secret_is_not_quoted_in_the_error(tmp_path: Path) -> None:
    assert "4711" not in refused(tmp_path, '[webhooks.w]\nagent = "a"\nsecret = 4711\n')


def test_secrets_are_read_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('mail = "s3cret"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        Secrets(tmp_path).reveal("secret:mail")
    path.chmod(0o600)
    secrets = Secrets(tmp_path)
    assert secrets.reveal("secret:mail") == "s3cret"
    assert secrets.reveal("plain") == "plain"
    assert "s3cret" not in repr(secrets)
    with pytest.raises(ConfigError, match="did you mean mail"):
        secrets.reveal("secret:mial")


def test_the_shipped_schema_is_current() -> None:
    assert schema.SHIPPED.read_text() == schema.text(), "run: python -m relit.settings.schema"


def test_every_setting_has_a_description_and_its_place_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text()
    for key, _, _, description in show.reference():
        assert description, key
        assert f"`{key}`" in page, f"docs/reference/configuration.md lacks {key}"
        assert description in page, f"docs/reference/configuration.md lacks the sentence of {key}"


def test_snapshots_and_volumes_are_on_by_default(tmp_path: Path) -> None:
    settings = read(tmp_path, '[agents.a]\nentry = "a:a"\n')
    snapshots = settings.agents["a"].snapshots
    assert (snapshots.enabled, snapshots.every_ms, snapshots.max_bytes) == (True, 60_000, 20 << 30)
    assert [tier.text for tier in snapshots.tiers] == ["1h all", "2d hourly", "30d daily", "26w weekly"]
    assert settings.volumes.encryption == "key"
    assert settings.volume_store == str(settings.data / "volumes")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[server]\nblobs = "s3://b/p/"', "s3://b/p/volumes"),
        ('[server]\nblobs = "s3://b/p"\n[volumes]\nstore = "/srv/packs"', "/srv/packs"),
        ('[volumes]\nstore = "s3://other"', "s3://other"),
        ('[server]\nblobs = "/srv/blobs"', "/srv/blobs/volumes"),
    ],
)
def test_packs_go_beside_the_blobs_unless_told_otherwise(tmp_path: Path, text: str, wanted: str) -> None:
    assert read(tmp_path, text).volume_store == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[agents.a]\nentry = "a:a"\nsnapshots = { keep = "1h" }', "SPAN all|hourly|daily|weekly"),
        ('[agents.a]\nentry = "a:a"\nsnapshots = { every = "5ms" }', "too often"),
        (
            '[agents.a]\nentry = "a:a"\nsnapshots.exclude = ["*.log", "[z-a]"]',
            'snapshots.exclude: "[z-a]" is not a pattern',
        ),
        ("[agents.a]\nentry = 'a:a'\nsnapshots.exclude = ['[a-\\]']", "it runs backwards"),
        ('[volumes]\nstore = "gs://bucket"', "is not a blob store"),
        ('[volumes]\nencryption = "passphrase"', "secret:NAME"),
        ('[volumes]\npassphrase = "secret:x"', "does nothing"),
        ('[volumes]\ninterval = "0s"', "longer than nothing"),
    ],
)
def test_volumes_that_contradict_themselves_are_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_probes_that_cannot_be_asked_are_faults_of_the_file(tmp_path: Path) -> None:
    text = refused(
        tmp_path,
        """
[agents.a]
kind = "command"
command = ["x"]
ports = ["web", "web"]
probes.ready = { http = "http://127.0.0.1:{port:wob}/" }
probes.live = [{ http = "http://127.0.0.1:{port:web}/", tcp = "127.0.0.1:{port:web}" }]
""",
    )
    assert "agents.a.ports: has web twice" in text
    assert "agents.a.probes.ready: names {port:wob}, which is none of its ports" in text
    assert "agents.a.probes.live[0]: a probe asks in exactly one way: given are http, tcp" in text


def test_a_protection_that_would_not_be_there_is_refused(tmp_path: Path) -> None:
    text = refused(
        tmp_path,
        """
[agents.a]
entry = "a:b"
limits = { files = 9 }
connect = [443]
[agents.b]
kind = "command"
command = ["x"]
sandbox = "off"
connect = [443]
""",
    )
    assert "agents.a.limits: does nothing" in text
    assert "agents.a.connect: does nothing" in text
    assert "agents.b.connect: needs a sandbox" in text
