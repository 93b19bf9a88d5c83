"""The kinds that come with relit: that their files say what was found out, and what a new one needs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from relit.agents import door
from relit.agents.adapter import Model, Place, fit, furnish
from relit.agents.door import Door
from relit.agents.kind import Kind, builtin, fill, kinds, load
from relit.control.care import Ladder
from relit.errors import ConfigError
from relit.volumes.beneath import Beneath
from relit.volumes.ignore import Ignore, Rules
from relit.volumes.scan import Home

KINDS = builtin()
TREES = {
    "openclaw": (
        """home/.profile workspace/AGENTS.md workspace/memory/today.md state/openclaw.json state/state/openclaw.sqlite
        state/agents/main/agent/openclaw-agent.sqlite workspace/cache/kept workspace/logs/kept""",
        """state/cache/a state/cache/deep/b state/tmp/c state/logs/openclaw.log state/plugin-skills/x/SKILL.md
        state/state/openclaw.lock.sqlite openclaw.lock.sqlite state/state/openclaw.sqlite-shm""",
    ),
    "hermes": (
        """home/config.yaml home/state.db home/sessions/one.jsonl home/skills/logs/kept home/state/kept work/logs/kept
        home/memories/MEMORY.md home/cron/jobs.json""",
        """home/logs/gateway.log home/logs/old/gateway.1 home/gateway.pid home/gateway.lock home/cron/.tick.lock
        home/gateway_state.json home/state/gateway.heartbeat home/state.db-shm home/sandboxes/one/file""",
    ),
}


def place(folder: Path, kind: Kind, *, model: bool = True) -> Place:
    opened = door.settle(folder / "agents" / "ada", kind.ports, kind.tokens)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return Place(
        name="ada",
        home=str(home),
        tmp=str(folder / "tmp"),
        runtime="/runtime",
        door=opened,
        model=Model(url="http://m/v1", key="k") if model else None,
    )


@pytest.mark.parametrize("name", TREES)
def test_a_kind_leaves_out_its_caches_and_locks_and_keeps_its_state(name: str, tmp_path: Path) -> None:
    kept, out = (text.split() for text in TREES[name])
    for path in kept + out:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    rules = Rules(KINDS[name].exclude)
    assert rules.faults == []
    with Beneath(tmp_path) as beneath:
        found = {os.fsdecode(path) for path, _ in Home(beneath, Ignore(rules)).walk()}
    assert {path for path in found if (tmp_path / path).is_file()} == set(kept)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("model", [True, False])
def test_every_kind_can_be_fitted(name: str, model: bool, tmp_path: Path) -> None:
    made = fit(name, KINDS[name], place(tmp_path, KINDS[name], model=model), ladder=Ladder())
    assert made.care.agent == "ada"
    assert all(isinstance(value, str) for value in made.env.values())
    assert "{" not in " ".join([*made.argv, *made.env.values(), made.cwd])
    assert (made.canary is not None) == model
    kept = made.care.config[0].keep
    assert all("." in key for key in kept)
    assert any(value == "http://m/v1" for value in kept.values()) == model


@pytest.mark.parametrize("name", KINDS)
def test_a_first_start_finds_its_folders_and_configuration(name: str, tmp_path: Path) -> None:
    where, kind = place(tmp_path, KINDS[name]), KINDS[name]
    furnish(kind, where)
    made = tmp_path / "home" / kind.config[0].path
    assert "http://m/v1" in made.read_text()
    made.unlink()
    furnish(kind, where)
    assert not made.exists(), "one that was lost is not made anew: that would hide the loss"


@pytest.mark.parametrize("name", KINDS)
def test_a_first_start_that_was_cut_short_is_made_up_for(name: str, tmp_path: Path) -> None:
    where, kind = place(tmp_path, KINDS[name]), KINDS[name]
    made, tmp = tmp_path / "home" / kind.config[0].path, Path(where.tmp)
    tmp.write_text("")  # it comes between folders and configuration
    with pytest.raises(OSError, match="tmp"):
        furnish(kind, where)
    assert any((tmp_path / "home").iterdir())
    assert not made.exists()
    tmp.unlink()
    furnish(kind, where)
    assert "http://m/v1" in made.read_text()
    made.unlink()
    furnish(kind, where)
    assert not made.exists(), "from now on one that is lost stays lost"


def test_what_is_in_a_home_already_is_not_written_over_when_a_start_was_cut_short(tmp_path: Path) -> None:
    kind = KINDS["openclaw"]
    where, made = place(tmp_path, kind), tmp_path / "home" / kind.config[0].path
    (tmp_path / "furnishing").touch()
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text("its own")
    furnish(kind, where)
    assert made.read_text() == "its own"


@pytest.mark.parametrize("name", KINDS)
def test_what_an_agent_put_in_the_place_of_its_folders_stays_and_leads_nowhere(name: str, tmp_path: Path) -> None:
    where, kind, outside = place(tmp_path, KINDS[name]), KINDS[name], tmp_path / "outside"
    furnish(kind, where)
    outside.mkdir()
    for number, folder in enumerate(kind.folders):
        each = tmp_path / "home" / folder
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
            [each.touch, lambda at=each: at.symlink_to("/nowhere/at/all"), lambda at=each: at.symlink_to(outside)][
                number % 3
            ]()
    furnish(kind, where)
    assert not any(outside.iterdir())


def test_ports_and_tokens_stay_and_are_nobody_elses(tmp_path: Path) -> None:
    one = door.settle(tmp_path / "agents" / "one", ["api"], ["api"])
    two = door.settle(tmp_path / "agents" / "two", ["api", "more"], ["api"])
    assert door.settle(tmp_path / "agents" / "one", ["api"], ["api"]) == one
    assert len({one.ports["api"], *two.ports.values()}) == 3
    assert one.tokens["api"] != two.tokens["api"]
    assert len(one.tokens["api"]) >= 32
    assert door.place_of(tmp_path / "agents" / "one").stat().st_mode & 0o777 == 0o600
    more = door.settle(tmp_path / "agents" / "one", ["api", "new"], ["api"])
    assert more.ports["api"] == one.ports["api"]


def test_names_are_filled_in_and_keep_their_type() -> None:
    names = {"port:a": 7, "home": "/h"}
    assert fill({"a": "{port:a}", "b": ["{home}/x:{port:a}", "${HOME}", "{nonce}", 3]}, names) == {
        "a": 7,
        "b": ["/h/x:7", "${HOME}", "{nonce}", 3],
    }
    with pytest.raises(ConfigError, match="port:b"):
        fill("{port:b}", names)
    assert fill("awk {print}", names, strict=False) == "awk {print}"


def test_a_kind_of_ones_own_wins(tmp_path: Path) -> None:
    (tmp_path / "hermes.toml").write_text('title = "Mine"\ncommand = ["x"]\n')
    assert kinds(tmp_path)["hermes"].title == "Mine"
    assert kinds(tmp_path)["openclaw"] == KINDS["openclaw"]


@pytest.mark.parametrize("text", ["title = 1", "nonsense", 'title = "x"', 'title = "x"\ncommand = ["x"]\nfoo = 1'])
def test_a_file_that_describes_no_kind_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load(text, "mine.toml")


def test_a_door_can_be_read_before_it_is_made(tmp_path: Path) -> None:
    assert door.read(tmp_path) == Door()
