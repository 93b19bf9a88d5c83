"""The root: flags, errors, exit codes, without a server."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_house import House
from click.testing import CliRunner

from relit.cli import exits
from relit.cli.main import COMMANDS, Root, cli, hoist
from relit.errors import by_code


def test_global_flags_may_stand_anywhere() -> None:
    assert hoist(["ps", "--json", "--data", "x", "-q"]) == ["--json", "--data", "x", "-q", "ps"]
    assert hoist(["ps", "--server=u"]) == ["--server=u", "ps"]
    assert hoist(["run", "--", "--json"]) == ["run", "--", "--json"]


def test_a_misspelt_command_is_told(quiet_house: House) -> None:
    result = quiet_house.run("shwo")
    assert result.exit_code == exits.USAGE
    assert "did you mean show?" in result.stderr
    assert "docs: relit explain usage" in result.stderr


def test_a_misspelt_option_is_told(quiet_house: House) -> None:
    result = quiet_house.run("runs", "--limti", "3")
    assert result.exit_code == exits.USAGE
    assert "--limit" in result.stderr


def test_no_server_says_how_to_start_one(quiet_house: House) -> None:
    result = quiet_house.run("ps")
    assert result.exit_code == exits.FAILED
    assert result.stderr.startswith("error: no relit server answers at http://127.0.0.1:")
    assert "fix: relit up" in result.stderr


def test_errors_are_json_with_json(quiet_house: House) -> None:
    result = quiet_house.run("ps", "--json")
    said = json.loads(result.stderr)
    assert said["code"] == "server-unreachable"
    assert said["exit"] == 1


def test_a_wrong_configuration_is_exit_code_78(quiet_house: House) -> None:
    path = quiet_house.folder / "wrong.toml"
    path.write_text("[sever]\n")
    for words in (["config", "check"], ["up"], ["server"], ["doctor"]):
        result = quiet_house.run(*words, "--config", str(path))
        assert result.exit_code == exits.CONFIG, result.output
        assert "did you mean server?" in result.output


def test_an_unexpected_fault_shows_no_traceback_unless_asked() -> None:
    @click.command(cls=Root, invoke_without_command=True, no_args_is_help=False)
    def root() -> None:
        raise ZeroDivisionError("boom")

    plain = CliRunner().invoke(root, [])
    assert plain.exit_code == exits.FAILED
    assert "relit stumbled: ZeroDivisionError: boom" in plain.stderr
    assert "-v shows the traceback" in plain.stderr
    assert "Traceback" not in plain.output


def test_a_server_url_that_is_none_is_told(quiet_house: House) -> None:
    result = quiet_house.run("ps", "--server", "here")
    assert result.exit_code == exits.CONFIG
    assert "is not a server's URL" in result.stderr


def test_a_token_that_others_can_read_is_refused(quiet_house: House) -> None:
    quiet_house.data.mkdir()
    token = quiet_house.data / "token"
    token.write_text("relit_x")
    token.chmod(0o644)
    result = quiet_house.run("runs")
    assert result.exit_code == exits.CONFIG
    assert f"chmod 600 {token}" in result.stderr


def test_every_error_can_be_explained(quiet_house: House) -> None:
    listed = json.loads(quiet_house.run("explain", "--json").stdout)
    assert {each["code"] for each in listed} >= set(by_code())
    for code in by_code():
        assert quiet_house.run("explain", code).exit_code == 0
    wrong = quiet_house.run("explain", "conflcit")
    assert wrong.exit_code == exits.NOT_FOUND
    assert "did you mean conflict?" in wrong.stderr


def test_config_show_says_where_values_come_from(quiet_house: House) -> None:
    shown = quiet_house.run("config", "show")
    assert "RELIT_SERVER__LISTEN" in shown.stdout
    assert "worker.lease" in quiet_house.run("config", "show", "--all").stdout


def test_config_schema_is_the_shipped_one(quiet_house: House) -> None:
    assert json.loads(quiet_house.run("config", "schema").stdout)["title"] == "relit.toml"


def test_doctor_finds_what_is_wrong_without_a_server(quiet_house: House) -> None:
    quiet_house.data.mkdir(mode=0o755)
    quiet_house.data.chmod(0o755)
    result = quiet_house.run("doctor")
    assert result.exit_code == exits.DEGRADED
    assert f"chmod 700 {quiet_house.data}" in result.stdout
    assert "no server answers" in result.stdout


def test_run_without_a_server_finishes_and_keeps_the_run(quiet_house: House) -> None:
    done = quiet_house.spawn("run", "clerks:count", "[2]")
    assert done.returncode == 0, done.stderr
    assert "completed  1" in done.stdout
    database = quiet_house.data / "relit.db"
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_run_names_the_workflows_of_a_module(quiet_house: House) -> None:
    done = quiet_house.spawn("run", "clerks:cuont")
    assert done.returncode == exits.NOT_FOUND
    assert "fix: relit run clerks:count" in done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import nothing_like_this\n", "needs the module 'nothing_like_this'"),
        ("def x(:\n", "cannot be imported: SyntaxError"),
        ("x = 1\n", "defines no agent and no workflow"),
    ],
)
def test_a_module_that_cannot_be_used_is_told(quiet_house: House, text: str, problem: str) -> None:
    (quiet_house.folder / "broken.py").write_text(text)
    done = quiet_house.spawn("worker", "broken")
    assert done.returncode == exits.CONFIG
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    for name in COMMANDS:
        assert name in result.stdout or name in ("node", "volumes", "turns", "gateway", "functions", "front")


def test_nothing_heavy_is_imported_for_ps(quiet_house: House) -> None:
    code = (
        "import sys\nfrom relit.cli.main import cli\n"
        "try: cli.main(['ps'])\nexcept SystemExit: pass\n"
        "print(sorted({'asyncio', 'httpx', 'rich', 'starlette', 'apsw', 'obstore'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=quiet_house.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_command_and_option_is_in_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text()
    for path, command in _commands(cli, ()):
        assert f"`relit {' '.join(path)}" in page, f"docs/reference/cli.md lacks relit {' '.join(path)}"
        for parameter in command.params:
            for option in [*parameter.opts, *parameter.secondary_opts]:
                if option.startswith("--"):
                    assert f"`{option}" in page, f"docs/reference/cli.md lacks {option} of relit {' '.join(path)}"


def _commands(group: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        return [(path, group)]
    context = click.Context(group)
    found = [(path, group)] if path else []
    names = list(COMMANDS) if not path else group.list_commands(context)
    for name in names:
        command = group.get_command(context, name)
        assert command is not None
        found += _commands(command, (*path, name))
    return found


def test_nobody_is_asked_where_nobody_can_answer(quiet_house: House) -> None:
    result = quiet_house.run("token", "rm", "ci")
    assert result.exit_code == 2
    assert "say --yes" in result.stderr


def test_options_that_would_do_nothing_are_refused(quiet_house: House) -> None:
    assert quiet_house.run("run", "clerks:count", "--priority", "0").exit_code == 2
    assert quiet_house.run("run", "clerk/count", "--resume", "x").exit_code == 2


LEAVING = """
import atexit, sys
atexit.register(print, "the interpreter was ended")
from relit.cli.main import main
sys.argv[1:] = {words!r}
main()
"""


@pytest.mark.parametrize(("words", "code"), [(["volume", "ls"], 0), (["recover"], 6), (["config", "path"], 0)])
def test_where_the_s3_client_was_loaded_the_interpreter_is_not_ended(
    quiet_house: House, words: list[str], code: int
) -> None:
    """A thread of it may let go of an object by then, which aborts the process."""
    quiet_house.run("volume", "ls")
    done = subprocess.run(
        [sys.executable, "-c", LEAVING.format(words=words)],
        env=quiet_house.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stdout + done.stderr != ""
    assert ("the interpreter was ended" in done.stdout) == (words[0] == "config")
