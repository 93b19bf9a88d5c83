"""``chat``: talk with an agent."""

from __future__ import annotations

import re
import sys
from typing import Any

import click
import msgspec

from relit import documents
from relit.cli import exits
from relit.cli.answer import Answer, Said
from relit.cli.exits import FAILED, INTERRUPTED, OK
from relit.cli.http import Api, segment
from relit.cli.screen import Screen, ago, brief, short
from relit.cli.session import Session, pass_session
from relit.cli.typed import Typed
from relit.errors import Conflict, NotFound, RelitError
from relit.lib.ids import new_id

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,100}")
_HELP = """\
/runs           the last runs of this agent
/session NAME   go on in another session (a conversation that the agent keeps apart); /session alone: the usual one
/quit           end; Ctrl-D does, too
/help           this
A line that ends with \\ goes on in the next one; pasted lines are one message. //word sends /word.
Ctrl-C while an answer comes: cancel the message, or leave it running."""


@click.command()
@click.argument("agent")
@click.option("--session", "name", metavar="NAME", help="A conversation that the agent keeps apart from others.")
@pass_session
def chat(session: Session, agent: str, name: str | None) -> int:
    """Talk with an agent: each line is a message, its answer is shown as it comes.

    A message is on disk before anything is done with it. When the agent crashes in the middle of an answer it is
    delivered again, which is told; the server's restart is not noticed. Without a terminal, messages are read from
    standard input, one a line; exit code 1 when one of them was not answered.
    """
    if name is not None:
        _check(name)
    api = session.patient_api()
    known = api.get("/v1/agents", documents.Agents).agents
    if agent not in {each.name for each in known}:
        raise NotFound(
            f"nobody takes messages for {agent!r}",
            why=f"there are {', '.join(each.name for each in known) or 'no agents yet'}; a program without a way in "
            "takes none",
            fix="relit ps",
        )
    return Chat(session, api, agent, name).run()


def _check(name: str) -> None:
    if not _SESSION.fullmatch(name):
        raise click.UsageError(f"{name!r} is no name of a session: letters, digits, - and _")


class Chat:
    """One conversation."""

    def __init__(self, session: Session, api: Api, agent: str, name: str | None) -> None:
        self._screen = session.screen
        self._api = api
        self._agent = agent
        self._name = name
        self._typed = Typed(session.screen)
        self._code = OK

    def run(self) -> int:
        """Until standard input ends, or somebody has had enough."""
        if self._typed.live:
            self._screen.note(self._screen.dim(f"talking with {self._agent}; /help, Ctrl-D ends"))
        while (text := self._next()) is not None:
            if not text:
                continue
            if (command := _COMMAND.fullmatch(text)) is not None:
                if not self._do(command[1], (command[2] or "").strip()):
                    break
                continue
            code = self._say(text.removeprefix("/") if text.startswith("//") else text)
            if code == INTERRUPTED:
                return code
            self._code = self._code or code
        return OK if self._typed.live else self._code

    def _next(self) -> str | None:
        while True:
            try:
                text = self._typed.message(f"{self._name or 'you'}> ")
            except KeyboardInterrupt:
                if not self._typed.live:
                    raise
                self._screen.note("")
                continue
            if text is None and self._typed.live:
                self._screen.note("")
            return text

    # --- commands ----------------------------------------------------------------------------------------------

    def _do(self, command: str, rest: str) -> bool:
        """Whether the conversation goes on."""
        match command:
            case "quit" | "exit":
                return False
            case "help":
                self._screen.note(_HELP)
            case "runs":
                self._guarded(self._runs)
            case "session" if not rest or _SESSION.fullmatch(rest):
                self._name = rest or None
                self._screen.note(self._screen.dim(f"session: {rest or 'the usual one'}"))
            case "session":
                self._screen.note(f"{rest!r} is no name of a session: letters, digits, - and _")
            case _:
                self._screen.note(f"there is no /{command}: /help; //{command} sends it")
        return True

    def _runs(self) -> None:
        found = self._api.get("/v1/runs", documents.Runs, agent=self._agent, limit=10, payloads="short").runs
        rows = [[short(run.id), run.state, ago(run.created_at), brief(_asked(run), 50)] for run in found]
        self._screen.table(["ID", "STATE", "MADE", "MESSAGE"], rows, "no runs")

    def _guarded(self, what: Any) -> int:
        """A person's conversation goes on after an error; a script's does not."""
        try:
            code: int = what() or OK
            return code
        except RelitError as error:
            if not self._typed.live:
                raise
            for line in exits.lines_of(error):
                self._screen.note(self._screen.style(line, fg="red") if line.startswith("error:") else line)
            return FAILED

    # --- messages ----------------------------------------------------------------------------------------------

    def _say(self, text: str) -> int:
        return self._guarded(lambda: self._sent(text))

    def _sent(self, text: str) -> int:
        body = {"message": text if self._name is None else {"text": text, "session": self._name}}
        made = self._api.post(f"/v1/agents/{segment(self._agent)}/messages", documents.Accepted, body, key=new_id())
        if self._screen.as_json:
            self._screen.row({"event": "sent", "id": made.id})
        if made.note:
            self._screen.note(self._screen.dim(made.note))
        answer, paper = Answer(self._agent), Paper(self._screen, self._agent if self._typed.live else "")
        while True:
            try:
                self._follow(made.id, answer, paper)
                break
            except KeyboardInterrupt:
                paper.end()
                if not self._typed.live:
                    self._screen.note(f"it goes on: relit tail {short(made.id)}")
                    return INTERRUPTED
                if not self._interrupted(made.id):
                    return OK
        paper.end()
        return OK if answer.run is not None and answer.run.state == "completed" else FAILED

    def _follow(self, run: str, answer: Answer, paper: Paper) -> None:
        """Print what comes, from where ``answer`` is, until it has ended or a person must do something."""
        path = f"/v1/runs/{segment(run)}/stream"
        looked = answer.run is not None
        for frame in self._api.stream(path, until=lambda frame: frame.event == "end", after=answer.at, payloads="full"):
            if self._screen.as_json:
                self._screen.row({"event": frame.event, "id": frame.id, "data": msgspec.json.decode(frame.data)})
            for said in answer.frame(frame):
                paper.say(said)
            if not looked and answer.run is not None and answer.run.state == "available":
                looked = True
                self._queue(run, paper)
            if answer.stuck:
                return

    def _queue(self, run: str, paper: Paper) -> None:
        """Why it is not worked on at once."""
        agent = self._api.get(f"/v1/agents/{segment(self._agent)}", documents.Agent)
        box = agent.mailbox
        if not agent.workers:
            paper.say(Said("note", "no worker takes its messages now; it waits until one does"))
        elif box is not None and box.paused:
            paper.say(Said("note", f"its mailbox is paused: relit mailbox resume {self._agent}"))
        elif others := self._before(run):
            paper.say(Said("note", f"waiting: {others} other {'message' if others == 1 else 'messages'} before it"))

    def _before(self, run: str) -> int:
        found = self._api.get("/v1/runs", documents.Runs, agent=self._agent, state=["running", "available"], limit=100)
        return sum(each.id < run and each.mailbox is not None for each in found.runs)

    def _interrupted(self, run: str) -> bool:
        """Whether to go on waiting for the answer."""
        try:
            said = input("[c]ancel the message, [l]eave it running, or Enter to go on waiting? ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            said = "l"
            self._screen.note("")
        if said.startswith("c"):
            try:
                self._api.post(f"/v1/runs/{segment(run)}/cancel", documents.Run, {"reason": "cancelled in a chat"})
            except Conflict:
                self._screen.note(self._screen.dim("  · it had ended meanwhile"))
            return True
        if said.startswith("l"):
            self._screen.note(self._screen.dim(f"it goes on: relit tail {short(run)}"))
            return False
        return True


def _asked(run: documents.Run) -> Any:
    given = run.input if isinstance(run.input, dict) else {}
    arguments = given.get("args") or [run.input]
    asked = arguments[0] if isinstance(arguments, list) else arguments
    if isinstance(asked, dict) and asked.keys() == {"text", "session"}:
        return f"[{asked['session']}] {asked['text']}"
    return asked


class Paper:
    """Prints an answer. ``name`` stands before it at a terminal. Where nobody looks on, notes on standard error leave
    the answer's line open on standard output: a script gets the answer as it is."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._name = name
        self._open = False  # a line that has not ended

    def say(self, said: Said) -> None:
        """Print it, on a line of its own unless it is a piece of text."""
        if self._screen.as_json:
            return
        match said.how:
            case "text":
                self._text(said.text)
            case "line":
                self.end()
                self._text(said.text)
                self.end()
            case "item":
                self.end()
                self._screen.line(self._screen.dim(f"  · {said.text}") if self._name else said.text)
            case "note" | "anew":
                if said.how == "anew" or sys.stdout.isatty():
                    self.end()
                self._screen.note(self._screen.dim(f"  · {said.text}"))
            case "error":
                self.end()
                self._screen.note(self._screen.style(said.text, fg="red"))

    def end(self) -> None:
        """End the line that is open."""
        if self._open:
            click.echo()
            self._open = False

    def _text(self, text: str) -> None:
        if not self._open and self._name:
            click.echo(self._screen.style(f"{self._name}: ", fg="cyan", bold=True), nl=False, color=self._screen.colour)
        click.echo(text, nl=False, color=self._screen.colour)
        self._open = True
