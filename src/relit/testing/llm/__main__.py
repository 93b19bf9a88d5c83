"""The scripted model server as a process of its own; its URL is the first line it prints."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click
import msgspec

from relit.testing.llm.script import Rule, parse
from relit.testing.llm.server import ScriptedLLM


@click.command(help=__doc__)
@click.option("--port", default=0, show_default=True, help="0 takes a free one")
@click.option("--script", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="rules, as JSON")
@click.option("--record", type=click.Path(dir_okay=False, path_type=Path), help="a file for all requests")
@click.option("--model", "models", multiple=True, default=["scripted"], show_default=True, help="a name to list")
@click.option("--strict", is_flag=True, help="refuse a tool call without its result")
def main(port: int, script: Path | None, record: Path | None, models: tuple[str, ...], strict: bool) -> None:
    """Serve until SIGTERM or SIGINT."""
    rules = [] if script is None else _rules(script)
    asyncio.run(_serve(ScriptedLLM(rules, port=port, record=record, models=models, strict=strict)))


def _rules(file: Path) -> list[Rule]:
    try:
        return parse(file.read_bytes())
    except msgspec.DecodeError as error:  # a ValidationError too
        raise click.BadParameter(f"{file} is no list of rules: {error}", param_hint="--script") from error


async def _serve(llm: ScriptedLLM) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.set)
    async with llm:
        click.echo(llm.url)
        await end.wait()


if __name__ == "__main__":
    main()
