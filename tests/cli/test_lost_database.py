"""``relit.db`` is lost, the packs are not: what a person is told to do, done word by word."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_house import House

from relit.testing.s3 import S3


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    made = House(tmp_path)
    store = "local"
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        bucket = s3.new_bucket()
        s3.store(bucket).put("first", b"")  # makes it
        made.environment |= {f"AWS_{name.upper()}": value for name, value in s3.options().items()}
        store = f"s3://{bucket}/volumes"
    (tmp_path / "relit.toml").write_text(
        f'[volumes]\nstore = "{store}"\n[agents.ada]\nkind = "command"\ncommand = ["sleep", "1000"]\n'
    )
    home = made.data / "agents" / "ada" / "home"
    home.mkdir(parents=True)
    made.data.chmod(0o700)
    (home / "notes").write_text("one")
    ok(made, "volume", "snapshot", "ada", "--tag", "first")
    (home / "notes").write_text("two")
    ok(made, "volume", "snapshot", "ada")
    return made


def ok(house: House, *words: str) -> str:
    done = house.run(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def lose(house: House) -> Path:
    """The damaged file is put away."""
    away = house.folder / "away"
    away.mkdir()
    for path in house.data.glob("relit.db*"):
        path.rename(away / path.name)
    return away


def notes(house: House) -> str:
    return (house.data / "agents" / "ada" / "home" / "notes").read_text()


def test_the_packs_rebuild_the_volumes(house: House) -> None:
    lose(house)
    assert "1 volumes, 2 snapshots" in ok(house, "volume", "rebuild")
    (house.data / "agents" / "ada" / "home" / "notes").write_text("three")
    assert "snapshot 3" in ok(house, "volume", "snapshot", "ada")
    ok(house, "--yes", "volume", "restore", "ada", "--at", "#1")
    assert notes(house) == "one"
    assert "no damage" in ok(house, "volume", "verify")


def test_the_old_store_does_not_come_back_over_it(house: House) -> None:
    away = lose(house)
    ok(house, "volume", "rebuild")
    for path in house.data.glob("relit.db*"):
        path.rename(house.folder / path.name)
    for path in away.iterdir():
        path.rename(house.data / path.name)
    told = house.run("volume", "ls")
    assert told.exit_code == 1
    assert "it was recovered elsewhere" in told.stderr


def test_also_when_other_commands_were_tried_first(house: House) -> None:
    lose(house)
    told = house.run("volume", "ls")
    assert told.exit_code == 1
    assert "relit volume rebuild" in told.stderr
    assert "1 volumes, 2 snapshots" in ok(house, "volume", "rebuild")
    assert "ada" in ok(house, "volume", "ls")


def test_but_not_with_another_key(house: House) -> None:
    away = lose(house)
    (house.data / "key").rename(away / "key")
    (house.folder / "other").mkdir()
    other = House(house.folder / "other")
    ok(other, "volume", "ls")
    (other.data / "key").rename(house.data / "key")
    told = house.run("volume", "rebuild")
    assert told.exit_code == 1
    assert "this key does not open the packs" in told.stderr


def test_nor_over_volumes_of_another_store(house: House) -> None:
    lose(house)
    elsewhere = dict(house.environment)
    house.environment["RELIT_VOLUMES__STORE"] = str(house.folder / "elsewhere")
    ok(house, "volume", "snapshot", "ada")
    house.environment = elsewhere
    told = house.run("volume", "rebuild")
    assert told.exit_code == 1
    assert "belongs to another relit store" in told.stderr
