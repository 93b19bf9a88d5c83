"""Tables of agents in TOML: found, written, changed, with everything else left as it is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from relit.app import agent_files
from relit.errors import ConfigError, NotFound
from relit.settings import Environment, Settings, load
from relit.settings.locate import lines_of

PATIENT = trying(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TWO = """\
# mine
[server]
listen = "127.0.0.1:7001"

[agents.bob]          # the builder
kind = "command"      # any
command = ["true"]

[agents.bob.env]
A = "1"

# of eve
[agents.eve]
kind = "command"
command = ["false"]
"""


def settings(folder: Path, text: str, **more: str) -> Settings:
    (folder / "relit.toml").write_text(text)
    (folder / "agents.d").mkdir()
    for name, other in more.items():
        (folder / "agents.d" / f"{name}.toml").write_text(other)
    return load(folder / "relit.toml", environment=Environment({}), data=folder / "data")


def test_the_lines_of_an_agent_are_found() -> None:
    assert lines_of(TWO, ("agents", "bob")) == [(5, 10)]
    assert lines_of(TWO, ("agents", "eve")) == [(13, 15)]
    assert lines_of(TWO, ("agents", "ann")) == []


def test_an_agent_stands_alone_in_a_file_or_among_others(tmp_path: Path) -> None:
    known = settings(tmp_path, TWO, ann='[agents.ann]\nkind = "command"\ncommand = ["true"]\n')
    assert agent_files.standing(known, "ann").alone
    among = agent_files.standing(known, "bob")
    assert not among.alone
    assert among.told() == f"{tmp_path}/relit.toml, lines 5 to 10"
    with pytest.raises(NotFound, match="did you mean bob"):
        agent_files.standing(known, "bobb")


def test_a_key_is_changed_and_remarks_stay() -> None:
    made = agent_files.with_key(TWO, ("agents", "bob"), "kind", "python")
    assert made == TWO.replace('"command"      # any', '"python"      # any', 1)


def test_a_key_that_is_not_there_is_put_into_its_table() -> None:
    made = agent_files.with_key(TWO, ("agents", "eve"), "version", "2.0")
    assert made == TWO.replace("[agents.eve]\n", '[agents.eve]\nversion = "2.0"\n')


def test_a_table_in_one_line_is_left_to_a_person() -> None:
    with pytest.raises(ConfigError, match='version = "2"'):
        agent_files.with_key('agents = { bob = { kind = "x" } }\n', ("agents", "bob"), "version", "2")


@PATIENT
@given(
    st.dictionaries(
        st.text(max_size=9), st.text(max_size=20) | st.lists(st.text(max_size=9), max_size=3) | st.booleans()
    )
)
def test_a_written_table_reads_as_it_was(values: dict[str, object]) -> None:
    text = agent_files.table(("agents", "a.b"), values)
    assert tomllib.loads(text) == {"agents": {"a.b": values}}


@PATIENT
@given(st.text(max_size=30))
def test_a_changed_key_reads_as_it_was_written(value: str) -> None:
    made = agent_files.with_key(TWO, ("agents", "bob"), "kind", value)
    assert tomllib.loads(made)["agents"]["bob"]["kind"] == value


def test_drafts_are_read_as_if_they_were_files(tmp_path: Path) -> None:
    known = settings(tmp_path, TWO)
    file = agent_files.own_file(tmp_path / "relit.toml", "ann")
    more = {file: '[agents.ann]\nkind = "command"\ncommand = ["true"]\n'}
    made = load(known.path, environment=Environment({}), data=known.data, drafts=more)
    assert set(made.agents) == {"bob", "eve", "ann"}
    agent_files.put(file, more[file])
    gone = load(known.path, environment=Environment({}), data=known.data, drafts={file: None})
    assert set(gone.agents) == {"bob", "eve"}
    assert file.stat().st_mode & 0o777 == 0o600
