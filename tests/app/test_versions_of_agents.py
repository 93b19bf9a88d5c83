"""Which version an agent has, when its table does not say."""

from __future__ import annotations

from pathlib import Path

from relit.app import agents
from relit.settings import Environment, Settings, load

KIND = """
title = "Mine"
command = ["{{runtime}}/bin/mine", "{{port:http}}"]
ports = ["http"]

[install]
npm = ["mine@{{version}}"]
version = "{version}"
"""


def settings(folder: Path, version: str, table: str = 'kind = "mine"') -> Settings:
    """Of a relit that knows that version of it."""
    (folder / "kinds").mkdir(exist_ok=True)
    for kind in ("mine", "other"):
        (folder / "kinds" / f"{kind}.toml").write_text(KIND.format(version=version))
    (folder / "runtimes" / "mine" / version).mkdir(parents=True, exist_ok=True)
    file = folder / "relit.toml"
    file.write_text(f'[node]\nruntimes = "{folder}/runtimes"\n[agents.ada]\n{table}\n')
    return load(file, environment=Environment({}), data=folder / "data")


def version(made: Settings) -> str:
    kind = agents.kind_of(made, "ada")
    assert kind is not None
    return agents.version_of(made, "ada", kind)


def test_a_newer_relit_changes_no_version_by_itself(tmp_path: Path) -> None:
    old = settings(tmp_path, "1.0")
    assert version(old) == "1.0"
    assert agents.fitted(old, "ada").argv[0].endswith("/mine/1.0/bin/mine")
    new = settings(tmp_path, "2.0")
    assert version(new) == "1.0"
    assert agents.fitted(new, "ada").argv[0].endswith("/mine/1.0/bin/mine")


def test_what_its_table_says_counts_and_stays_when_it_says_no_more(tmp_path: Path) -> None:
    agents.fitted(settings(tmp_path, "1.0"), "ada")
    (tmp_path / "runtimes" / "mine" / "1.5").mkdir()
    said = settings(tmp_path, "1.0", 'kind = "mine"\nversion = "1.5"')
    assert version(said) == "1.5"
    agents.fitted(said, "ada")
    assert version(settings(tmp_path, "2.0")) == "1.5"


def test_one_that_was_never_there_is_not_remembered(tmp_path: Path) -> None:
    agents.fitted(settings(tmp_path, "1.0"), "ada")
    agents.fitted(settings(tmp_path, "1.0", 'kind = "mine"\nversion = "1.00"'), "ada")
    assert version(settings(tmp_path, "2.0")) == "1.0"


def test_another_kind_has_its_own(tmp_path: Path) -> None:
    agents.fitted(settings(tmp_path, "1.0"), "ada")
    assert version(settings(tmp_path, "2.0", 'kind = "other"')) == "2.0"
