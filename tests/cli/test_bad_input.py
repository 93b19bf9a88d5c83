"""Whatever is wrong around relit is told clearly, and nothing is started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import apsw
import pytest
from cli_house import House


def test_a_taken_port_is_told(quiet_house: House) -> None:
    host, _, port = quiet_house.environment["RELIT_SERVER__LISTEN"].partition(":")
    with socket.create_server((host, int(port))):
        done = quiet_house.spawn("server")
    assert done.returncode == 78
    assert f"cannot listen on {host}:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_relit_on_the_port_is_not_taken_for_ours(
    quiet_house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    quiet_house.up()
    try:
        second = House(tmp_path_factory.mktemp("second"))
        second.environment["RELIT_SERVER__LISTEN"] = quiet_house.environment["RELIT_SERVER__LISTEN"]
        done = second.spawn("up", "clerks")
        assert done.returncode == 78, done.stdout
        assert "cannot listen on" in done.stderr
        assert quiet_house.run("ps").exit_code == 0
    finally:
        quiet_house.down()


def test_a_database_of_a_newer_relit_is_left_alone(quiet_house: House) -> None:
    assert quiet_house.spawn("run", "clerks:count", "[1]").returncode == 0
    database = apsw.Connection(str(quiet_house.data / "relit.db"))
    database.execute("PRAGMA user_version = 999")
    database.close()
    done = quiet_house.spawn("run", "clerks:count", "[1]")
    assert done.returncode == 1
    assert "docs: relit explain schema-too-new" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_database_is_left_alone(quiet_house: House) -> None:
    quiet_house.data.mkdir(mode=0o700)
    (quiet_house.data / "relit.db").write_bytes(b"this is not a database" * 100)
    done = quiet_house.spawn("server")
    assert done.returncode == 1
    assert "docs: relit explain store-corrupt" in done.stderr


def test_a_database_that_cannot_be_reached_is_told(quiet_house: House) -> None:
    quiet_house.environment["RELIT_SERVER__DATABASE"] = "mysql://x"
    done = quiet_house.spawn("server")
    assert done.returncode == 78
    assert "allowed: sqlite, sqlite:PATH or postgresql://" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root to give rights away")
@pytest.mark.parametrize(
    "words", [["up"], ["server"], ["ps"], ["send", "clerk", "x"], ["down"], ["run", "clerks:count"]]
)
def test_a_data_folder_of_somebody_else_is_told(quiet_house: House, words: list[str]) -> None:
    quiet_house.data.mkdir(mode=0o700)
    os.chown(quiet_house.data, 65534, 65534)
    done = subprocess.run(
        ["setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-m", "relit.cli", *words],
        cwd=quiet_house.folder,
        env=quiet_house.environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 78, done.stderr
    assert f"the data folder {quiet_house.data} cannot be used" in done.stderr
    assert "fix: " in done.stderr
