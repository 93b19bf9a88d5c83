"""The root of the command line: global flags, lazy commands, errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any, NoReturn

import click

from relit.cli import exits
from relit.cli.exits import INTERRUPTED, USAGE
from relit.cli.session import Session
from relit.errors import RelitError

# name → module below relit.cli.commands, and the line of help (so that --help imports nothing)
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("house", "Start everything on this machine, in the background."),
    "down": ("house", "Stop everything that `relit up` started."),
    "demo": ("house", "Watch real work survive ten kills."),
    "ps": ("ps", "Agents: what they do now."),
    "top": ("top", "Agents, live: what they do, what they hold, what happens."),
    "run": ("work", "Start a workflow and follow it."),
    "send": ("work", "Send a message to an agent."),
    "chat": ("chat", "Talk with an agent."),
    "usage": ("usage", "What agents used of models, and what it cost."),
    "turn": ("usage", "The calls of a turn: relit turn show AGENT RUN."),
    "runs": ("overview", "Runs, newest first."),
    "show": ("overview", "A run: state, journal, what it waits for."),
    "tail": ("follow", "Follow a run, or everything that happens."),
    "wait": ("follow", "Wait until a run has ended."),
    "logs": ("logs", "What agents have written."),
    "why": ("incidents", "What is wrong with an agent, and what to do."),
    "incidents": ("incidents", "Troubles of agents, those that go on first."),
    "signal": ("change", "Deliver a signal to a run."),
    "cancel": ("change", "Cancel runs and their children."),
    "pause": ("change", "Park runs until they are resumed."),
    "resume": ("change", "Let parked runs go on."),
    "retry": ("change", "Go on from the step that failed."),
    "fork": ("change", "Make a new run from the first steps of another."),
    "requeue": ("change", "Put dead letters back into their mailbox."),
    "approvals": ("approvals", "Calls to tools that wait for your word."),
    "effects": ("effects", "Effects in doubt, and a person's word on them."),
    "schedule": ("schedule", "Schedules: list, add, pause, trigger, remove."),
    "mailbox": ("mailbox", "Mailboxes: list, limit, pause."),
    "restore": ("restore", "Put an agent back to a moment: files and journal."),
    "volume": ("volume", "Versions of agents' homes: look, compare, go back."),
    "agent": ("agent", "Agents: add, adopt, edit, start, stop, upgrade."),
    "recover": ("recover", "Bring a lost server back out of its blob store."),
    "secret": ("secret", "Secrets: set, list, remove, seal anew; who used them."),
    "key": ("key", "The key that opens the packs: export, import."),
    "service": ("service", "relit as a systemd service: install, uninstall, status."),
    "doctor": ("doctor", "Check everything, and say what mends it."),
    "config": ("config", "The configuration: check, show, schema, path."),
    "token": ("token", "API tokens: make, list, remove."),
    "explain": ("explain", "What an error means and what to do."),
    "server": ("services", "Run the server in the foreground."),
    "worker": ("services", "Run a worker in the foreground."),
    "volumes": ("services", "Keep versions of this machine's homes, in the foreground."),
    "turns": ("services", "Bring messages into agents, in the foreground."),
    "functions": ("services", "Carry out calls of tools that are functions, in the foreground."),
    "front": ("services", "Pass connections on to agents' own ports, in the foreground."),
    "gateway": ("services", "Let agents call their models, in the foreground."),
    "node": ("node", "This machine: its memory, who waits, who makes room."),
}
_HIDDEN = frozenset({"front", "functions", "volumes", "gateway", "turns"})
_FLAGS = {"--json": 0, "-q": 0, "--quiet": 0, "-v": 0, "--verbose": 0, "--no-color": 0, "--yes": 0, "-y": 0}
_VALUES = {"--server", "--data", "--config"}


class Root(click.Group):
    """Loads a command when it is called; global flags may stand anywhere before ``--``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if name not in _HIDDEN]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"relit.cli.commands.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise RelitUsage(f"there is no command {args[0]!r}", args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # it always exits
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run, tell errors, exit."""
        given = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        sys.exit(_guarded(self, given, prog_name or "relit", extra))


class RelitUsage(click.UsageError):
    """A word that is none of those known."""

    def __init__(self, message: str, word: str, known: Sequence[str]) -> None:
        super().__init__(message)
        self.word = word
        self.known = known


def hoist(args: Sequence[str]) -> list[str]:
    """Global flags to the front, wherever they stand before ``--``."""
    front: list[str] = []
    rest: list[str] = []
    todo = iter(args)
    for arg in todo:
        if arg == "--":
            return [*front, *rest, arg, *todo]
        if arg in _FLAGS or (arg.partition("=")[0] in _VALUES and "=" in arg):
            front.append(arg)
        elif arg in _VALUES:
            front.extend([arg, *_one(todo)])
        else:
            rest.append(arg)
    return [*front, *rest]


def _one(todo: Any) -> list[str]:
    value = next(todo, None)
    return [] if value is None else [value]


def _guarded(root: Root, args: list[str], name: str, extra: MutableMapping[str, Any]) -> int:
    verbose = any(arg in ("-v", "--verbose") for arg in args)
    try:
        result = click.Group.main(root, args=args, prog_name=name, standalone_mode=False, **extra)
        return result if isinstance(result, int) else 0
    except RelitError as error:
        return _tell(error, args, exits.code_of(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return USAGE
    except click.UsageError as error:
        return _usage(error, args)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: told, never swallowed
        if verbose:
            import traceback

            traceback.print_exc()
        return _tell(exits.unexpected(error, verbose), args, exits.FAILED)


def _tell(error: RelitError, args: Sequence[str], code: int) -> int:
    if "--json" in args:
        import json

        click.echo(
            json.dumps({"error": error.what, "code": error.code, "why": error.why, "fix": error.fix, "exit": code}),
            err=True,
        )
        return code
    label, *rest = exits.lines_of(error)
    click.secho("error:", fg="red", bold=True, nl=False, err=True, color=_colour())
    click.echo(label.removeprefix("error:"), err=True)
    for line in rest:
        click.echo(line, err=True)
    return code


def _colour() -> bool | None:
    from relit.settings.environment import Environment

    return None if Environment().colour else False


def _usage(error: click.UsageError, args: Sequence[str]) -> int:
    why = ""
    if isinstance(error, RelitUsage):
        import difflib

        near = difflib.get_close_matches(error.word, error.known, n=3, cutoff=0.5)
        why = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(error.known)}"
    elif isinstance(error, click.NoSuchOption) and error.possibilities:
        why = f"did you mean {' or '.join(sorted(error.possibilities))}?"
    path = error.ctx.command_path if error.ctx else "relit"
    said = error.format_message().partition(" (Did you mean")[0].partition(" Did you mean")[0]
    return _tell(_Usage(said.rstrip("."), why=why, fix=f"{path} --help"), args, USAGE)


class _Usage(RelitError):
    """The command line itself was wrong."""

    code = "usage"


@click.command(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 degraded, 4 not found, 5 timed out, 6 conflict, 78 configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON (NDJSON when following).")
@click.option("--server", metavar="URL", help="The server; default: the one of this machine.")
@click.option("--data", metavar="DIR", help="The data folder; default: RELIT_DATA or ~/.local/share/relit.")
@click.option("--config", metavar="FILE", help="The configuration; default: ./relit.toml or the user's own.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the answer.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks and logs.")
@click.option("--no-color", is_flag=True, help="No colours (as NO_COLOR does).")
@click.option("-y", "--yes", is_flag=True, help="Answer questions with yes (as CI=true does).")
@click.version_option(package_name="relit", prog_name="relit")
@click.pass_context
def cli(ctx: click.Context, /, **flags: Any) -> None:
    """relit keeps AI agents running for weeks. One that dies is lit again where it was."""
    from relit.settings.environment import Environment

    ctx.obj = Session(flags, Environment())


def main() -> None:
    """The entry point. Every file that relit makes is its owner's alone."""
    os.umask(0o077)
    try:
        cli.main()
    except SystemExit as end:
        _leave(end)


def _leave(end: SystemExit) -> NoReturn:
    """A thread of the S3 client that lets go of an object while the interpreter ends aborts the process (exit code
    134), whatever the command has answered. Where it was loaded, the interpreter is not ended."""
    if "obstore" not in sys.modules or not isinstance(end.code, int):
        raise end
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody reads any more
        os._exit(end.code or exits.FAILED)
    os._exit(end.code)
