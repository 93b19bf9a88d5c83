"""The documents are true: their examples run, their links lead somewhere, their lists are whole.

In a page, every fenced ``python`` block is part of one module named as the page. A comment before a block says what to
try with it: ``try: TARGET ARGS => RESULT`` starts a workflow, ``try-message: AGENT MESSAGE [signal NAME PAYLOAD] =>
RESULT`` sends a message, each with real engine, worker and database.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import relit
from relit import errors, events
from relit.agents import kind
from relit.app import parts
from relit.cli.main import COMMANDS as ALL_COMMANDS
from relit.cli.main import cli, hoist
from relit.durable.definitions import Agent, Workflow
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.ticker import Ticker
from relit.durable.worker import Worker
from relit.settings import load
from relit.settings.environment import Environment
from relit.store.sql.sqlite.store import SqliteStore

HOME = Path(__file__).parent.parent
PAGES = sorted([*HOME.glob("*.md"), *(HOME / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
TRY = re.compile(r"^<!-- (try|try-message): (\S+) (.*?)(?: signal (\S+) (.*?))? => (.*) -->$", re.M)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _name(page: Path) -> str:
    return str(page.relative_to(HOME))


def _blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


with_python = pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "python")], ids=_name)


@pytest.fixture
def module(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The page's Python blocks as one module."""
    monkeypatch.setenv("PAYLOAD_KEY", "6b" * 32)
    file = tmp_path / f"{page.stem}.py"
    file.write_text("\n\n".join(_blocks(page, "python")), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(page.stem, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[page.stem] = made
    spec.loader.exec_module(made)
    yield made
    del sys.modules[page.stem]


@asynccontextmanager
async def _working(module: ModuleType, folder: Path) -> AsyncIterator[Engine]:
    """An engine on a database of its own, with a worker for all that ``module`` defines."""
    store = SqliteStore(folder / "relit.db")
    await store.start()
    engine = Engine(store, Payloads(None))
    worker = Worker(engine, [each for each in vars(module).values() if isinstance(each, (Agent, Workflow))])
    ticker = Ticker(store)
    await worker.start()
    await ticker.start()
    try:
        yield engine
    finally:
        await worker.stop()
        await ticker.stop()
        await store.stop()


@with_python
async def test_examples_run(page: Path, module: ModuleType, tmp_path: Path) -> None:
    tries = TRY.findall(page.read_text("utf-8"))
    if not tries:
        return  # the blocks were loaded: there is nothing to start
    async with _working(module, tmp_path) as engine:
        for kind, target, given, signal, payload, wanted in tries:
            run = await _start(engine, kind, target, json.loads(given))
            if signal:
                await engine.signal(run, signal, json.loads(payload))
            assert await engine.result(run, "20s") == json.loads(wanted), target


async def _start(engine: Engine, kind: str, target: str, given: Any) -> str:
    if kind == "try":
        return await engine.start(target, given)
    return (await engine.send(target, given)).id


def test_the_codec_of_the_encryption_page_seals_and_opens() -> None:
    space: dict[str, Any] = {}
    exec(_blocks(HOME / "docs/how-to/encrypt-payloads.md", "python")[0], space)
    codec, other = (space["SecretBoxCodec"](key) for key in (b"k" * 32, b"x" * 32))
    sealed = codec.seal(b"a secret" * 9)
    assert b"a secret" not in sealed
    assert codec.open(sealed) == b"a secret" * 9
    with pytest.raises(ValueError, match="another key"):
        other.open(sealed)


async def test_the_codec_of_the_encryption_page_leaves_nothing_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = HOME / "docs/how-to/encrypt-payloads.md"
    monkeypatch.setenv("PAYLOAD_KEY", "6b" * 32)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sealing.py").write_text("\n\n".join(_blocks(page, "python")), encoding="utf-8")
    (tmp_path / "relit.toml").write_text(_blocks(page, "toml")[0], encoding="utf-8")
    settings = load(tmp_path / "relit.toml", environment=Environment({}), data=tmp_path / "data")
    async with parts.engine(settings) as engine:
        run = await engine.start("any/workflow", ["somebody-known"])
        assert await engine.payloads.decode((await engine.store.run(run)).input) == {
            "args": ["somebody-known"],
            "kwargs": {},
        }
    written = b"".join(file.read_bytes() for file in (tmp_path / "data").glob("relit.db*") if file.is_file())
    assert b"any/workflow" in written
    assert b"somebody-known" not in written


def test_the_check_of_the_webhook_page_accepts_a_genuine_request_only() -> None:
    from datetime import UTC, datetime

    from standardwebhooks import Webhook

    space: dict[str, Any] = {}
    exec(_blocks(HOME / "docs/how-to/webhooks.md", "python")[0], space)
    secret, now = "whsec_" + "c2VjcmV0IHNlY3JldCBzZWNyZXQ=", datetime.now(UTC)
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("m1", now, "{}"),
    }
    assert space["verify"](secret, headers, b"{}")
    assert not space["verify"](secret, headers, b"{ }")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8"))]
    relative = [target for target in targets if target and ":" not in target]
    assert [target for target in relative if not (page.parent / target).exists()] == []


COMMANDS = [
    (_name(page), shlex.split(line, comments=True))
    for page in PAGES
    for block in _blocks(page, "sh")
    for line in block.splitlines()
    if line.startswith("relit ")
]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_commands_exist_with_their_options(page: str, words: list[str]) -> None:
    command: click.Command = cli
    context = click.Context(command, info_name="relit")
    rest = hoist(words[1:])
    while rest and rest[0].startswith("--") and isinstance(command, click.Group):
        rest = rest[2:] if rest[0] == "--data" else rest[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found is not None, f"{page}: there is no {rest[0]!r} in {command.name}"
        command, rest = found, rest[1:]
        context = click.Context(command, parent=context, info_name=command.name)
    rest = rest[: rest.index("--")] if "--" in rest else rest  # what follows is another program's
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} - known == set(), page


@pytest.mark.parametrize("page", [page for page in PAGES if _blocks(page, "toml")], ids=_name)
def test_configurations_are_valid(page: Path, tmp_path: Path) -> None:
    for text in _blocks(page, "toml"):
        if text.startswith("# kinds/"):
            kind.load(text, _name(page))
            continue
        (tmp_path / "relit.toml").write_text(text, encoding="utf-8")
        load(tmp_path / "relit.toml", environment=Environment({}), data=tmp_path)


def _generated(name: str) -> str:
    spec = importlib.util.spec_from_file_location("docs_generate", HOME / "docs/reference/generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    text: str = generate.PAGES[name]()
    return text


@pytest.mark.parametrize("name", ["events.md", "errors.md"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    written = (HOME / "docs/reference" / name).read_text("utf-8")
    assert written == _generated(name), "run: make docs"


def test_every_event_and_error_has_its_place() -> None:
    pages = {name: (HOME / "docs/reference" / name).read_text("utf-8") for name in ("events.md", "errors.md")}
    codes = [code for code, cls in errors.by_code().items() if not cls.__name__.startswith("_")]
    assert [name for name in events.CATALOGUE if f"`{name}`" not in pages["events.md"]] == []
    assert [code for code in codes if f"`{code}`" not in pages["errors.md"]] == []


def test_the_sdk_page_names_all_that_is_exported() -> None:
    page = (HOME / "docs/reference/python-sdk.md").read_text("utf-8")
    missing = [name for name in relit.__all__ if f"relit.{name}" not in page]
    calls = [name for name in vars(relit.Context) if not name.startswith("_")]
    assert missing + [name for name in calls if f"ctx.{name}" not in page] == []


def test_every_how_to_and_decision_is_in_its_list() -> None:
    for folder in ("how-to", "decisions"):
        listed = (HOME / "docs" / folder / "README.md").read_text("utf-8")
        pages = [page.name for page in (HOME / "docs" / folder).glob("*.md") if page.name != "README.md"]
        assert [name for name in pages if f"({name})" not in listed] == []


def test_what_errors_tell_people_to_run_exists() -> None:
    told = {
        (path.name, word)
        for path in Path("src/relit").rglob("*.py")
        for text in re.findall(r'fix=\(?\s*f?"([^"]*)"', path.read_text())
        for word in re.findall(r"(?:^|; |or )relit ([a-z]+)", text)
    }
    assert len(told) > 30
    assert {(name, word) for name, word in told if word not in ALL_COMMANDS} == set()
