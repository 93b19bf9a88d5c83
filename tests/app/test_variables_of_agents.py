"""Variables that a file in an agent's home gives values, too: what relit says counts, and a release gives them back."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from relit.agents import door, env_file
from relit.app.agent_adopting import Asked, Change, Moving, outside
from relit.app.agent_releasing import release
from relit.app.agents import fitted, place_of, variables_of
from relit.app.instances import folder_of, home_of
from relit.errors import Conflict
from relit.settings import Environment, Settings, load

KEY = "a-key-that-is-long-enough"
MINE = f"""# mine
API_SERVER_PORT=49  # the API
API_SERVER_KEY="{KEY}" # not yours
API_SERVER_HOST=0.0.0.0
export HERMES_HOME='/root/.hermes'
OPENROUTER_API_KEY=sk-or-1 # dear
"""


def settings_of(folder: Path, *names: str, more: str = "") -> Settings:
    tables = "".join(f'[agents.{name}]\nkind = "hermes"\nmodel = "own"\n{more}' for name in names)
    (folder / "relit.toml").write_text(tables)
    return load(folder / "relit.toml", environment=Environment({}), data=folder / "data")


def adopted(settings: Settings, name: str, text: str, link: Path | None = None) -> list[Change]:
    """As ``relit agent adopt`` does it, without a runtime."""
    source = settings.data.parent / f"of-{name}"
    source.mkdir()
    (source / "config.yaml").write_text("model: own\n")
    (source / "state.db").touch()
    (source / ".env").symlink_to(link) if link is not None else (source / ".env").write_text(text)
    home_of(settings, name).mkdir(parents=True)
    asked = Asked(source=source, known_as=source, name=name, kind="hermes")
    kind = settings.kinds()["hermes"]
    moving = Moving(asked, kind, Environment({"HOME": str(source.parent)}), lambda _: None, threading.Event())
    moving.see()
    moving.lay(settings)
    return [each for each in moving.fit() if ".env" in each.key]


def env_of(settings: Settings, name: str) -> Path:
    return home_of(settings, name) / "home" / ".env"


def test_an_adopted_file_says_what_relit_says_and_that_is_told(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann")
    changes = {each.key: (each.before, each.after) for each in adopted(settings, "ann", MINE)}
    home = home_of(settings, "ann")
    assert changes == {
        "home/.env:API_SERVER_HOST": ("0.0.0.0", "127.0.0.1"),
        "home/.env:HERMES_HOME": ("/root/.hermes", f"{home}/home"),
    }
    assert door.read(folder_of(settings, "ann")).ports == {"api": 49}
    assert door.read(folder_of(settings, "ann")).tokens["api"] == KEY
    assert env_of(settings, "ann").read_text() == MINE.replace("0.0.0.0", "127.0.0.1").replace(
        "'/root/.hermes'", f"{home}/home"
    )


def test_a_port_that_another_agent_has_gives_way_and_a_key_that_none_takes_too(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", "bob")
    adopted(settings, "ann", MINE)
    adopted(settings, "bob", MINE.replace(KEY, "k"))
    opened = place_of(settings, "bob", settings.kinds()["hermes"]).door
    assert opened.ports["api"] != 49
    assert len(opened.tokens["api"]) > 16
    said = env_file.said(home_of(settings, "bob"), "home/.env")
    assert (said["API_SERVER_PORT"], said["API_SERVER_KEY"]) == (str(opened.ports["api"]), opened.tokens["api"])


def test_a_fork_is_told_its_own_door_before_it_starts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "ann", "fork")
    adopted(settings, "ann", MINE)
    env_of(settings, "fork").parent.mkdir(parents=True)
    env_of(settings, "fork").write_bytes(env_of(settings, "ann").read_bytes())
    made = fitted(settings, "fork")
    assert made.care.env_file is not None
    assert env_file.fit(home_of(settings, "fork"), made.care.env_file) == ""
    said = env_file.said(home_of(settings, "fork"), "home/.env")
    assert {name: said[name] for name in made.env if name in said} == {
        name: value for name, value in made.env.items() if name in said
    }
    assert said["API_SERVER_PORT"] != "49"
    assert said["OPENROUTER_API_KEY"] == "sk-or-1"


@pytest.mark.parametrize("text", [MINE, MINE.replace(KEY, "k"), "", "API_SERVER_KEY\n", MINE + "API_SERVER_PORT=1"])
def test_a_release_gives_back_what_stood_there(tmp_path: Path, text: str) -> None:
    settings = settings_of(tmp_path, "ann")
    adopted(settings, "ann", text)
    with env_of(settings, "ann").open("a") as file:
        file.write("\n# of later\nNEW=1\n")
    done = release(settings, "ann", tmp_path / "back")
    assert (tmp_path / "back" / ".env").read_text() == f"{text}\n# of later\nNEW=1\n"
    assert (".env:HERMES_HOME" in done.undone) == ("HERMES_HOME" in text)


def test_a_released_file_names_nothing_in_relits_home(tmp_path: Path) -> None:
    """Of what came later, nobody knows what it said."""
    settings = settings_of(tmp_path, "ann")
    adopted(settings, "ann", "")
    env_of(settings, "ann").write_text("HERMES_HOME=x\nHOME=y\nAPI_SERVER_PORT=1\n")
    file = variables_of(settings, "ann", settings.kinds()["hermes"], place_of(settings, "ann"))
    assert file is not None
    env_file.fit(home_of(settings, "ann"), file)
    release(settings, "ann", tmp_path / "back")
    back = tmp_path / "back"
    assert env_file.said(back, ".env") == {
        "HERMES_HOME": str(back), "HOME": f"{back}/from-relit/oshome", "API_SERVER_PORT": file.keep["API_SERVER_PORT"],
    }  # fmt: skip


def test_what_relit_toml_says_of_a_variable_counts_and_no_secret_is_written(tmp_path: Path) -> None:
    own = 'env = { API_SERVER_HOST = "::1", API_SERVER_KEY = "secret:key", OPENROUTER_API_KEY = "x" }\n'
    made = fitted(settings_of(tmp_path, "ann", more=own), "ann")
    assert made.care.env_file is not None
    assert made.care.env_file.keep["API_SERVER_HOST"] == "::1"
    assert made.care.env_file.keep.keys() == made.env.keys() - {"API_SERVER_KEY"}


def test_a_linked_file_comes_along_as_one_of_its_own(tmp_path: Path) -> None:
    settings, source = settings_of(tmp_path, "ann"), tmp_path / "of-ann"
    dotfiles = tmp_path / "dotfiles"
    dotfiles.write_text(MINE)
    changes = adopted(settings, "ann", MINE, link=dotfiles)
    assert (source / ".env").is_symlink()
    assert [each.key for each in changes if each.key.endswith("HOST")] == ["home/.env:API_SERVER_HOST"]
    assert not env_of(settings, "ann").is_symlink()
    assert env_file.said(home_of(settings, "ann"), "home/.env")["API_SERVER_HOST"] == "127.0.0.1"
    assert door.read(folder_of(settings, "ann")).ports["api"] == 49
    assert dotfiles.read_text() == MINE


def test_an_agent_of_relits_own_at_its_port_does_not_forbid_a_move(tmp_path: Path) -> None:
    settings, source = settings_of(tmp_path, "ann"), tmp_path / "second"
    source.mkdir()
    (source / "config.yaml").write_text("model: own\n")
    (source / "state.db").touch()
    asked = Asked(source=source, known_as=source, name="bob", kind="hermes", move=True)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        (source / ".env").write_text(f"API_SERVER_PORT={port}\n")
        environment = Environment({"HOME": str(tmp_path)})
        with pytest.raises(Conflict, match="in use"):
            outside(settings, environment, asked)
        door.take(folder_of(settings, "ann"), {"api": port}, {})
        assert outside(settings, environment, asked) == []
