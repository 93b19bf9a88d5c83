"""Why an installation failed, and whether trying again can help."""

from __future__ import annotations

import re
from collections.abc import Sequence

from relit.agents.recipes import Recipe
from relit.errors import RelitError

SHOWN = 15  # last lines of a tool in an error
# How npm and pip say that the network, or the other side, was the trouble.
_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENETUNREACH|EHOSTUNREACH|EIDLETIMEOUT"
    r"|FETCH_ERROR|\bE429\b|\bE5\d\d\b|\b5\d\d Server Error|HTTP error (?:429|5\d\d)|too many 5\d\d error responses"
    r"|NewConnectionError|ConnectionError|ConnectTimeout|Read ?[Tt]imed?[ -]?out|ReadTimeout|Connection(?:Reset| reset)"
    r"|Connection refused|Connection aborted|RemoteDisconnected|IncompleteRead|ProtocolError|[Ff]ailed to connect"
    r"|[Nn]ame resolution|Name or service not known|Network is unreachable|No route to host|socket hang up"
)


class _InstallFailed(RelitError):
    """A kind of agent could not be installed. Nothing is left of the attempt."""

    code = "install-failed"


class _DownloadFailed(_InstallFailed):
    """Packages could not be fetched, or not in time. Nothing is left of the attempt; trying again can help."""

    code = "download-failed"
    retry = True


def tool_failed(recipe: Recipe, tool: str, code: int, lines: Sequence[str]) -> RelitError:
    """A tool (npm, pip, …) ended with ``code``, minus the signal's number if one ended it."""
    ended = f"{tool} ended with {code}" if code >= 0 else f"{tool} was ended by signal {-code}"
    said = "\n".join(lines[-SHOWN:]) or f"{tool} said nothing"
    return _error(recipe, f"{_attempt(recipe)}: {ended}", said, is_network(lines))


def tool_late(recipe: Recipe, tool: str, limit: str, lines: Sequence[str]) -> RelitError:
    """A tool was stopped because it took too long."""
    said = "\n".join(lines[-SHOWN:]) or f"{tool} said nothing"
    return _error(recipe, f"{_attempt(recipe)}: {tool} was not done after {limit}", said, True)


def wrong(recipe: Recipe, why: str, fix: str = "") -> RelitError:
    """The tools did their work, but what is there is not what is needed."""
    return _error(recipe, _attempt(recipe), why, False, fix)


def is_network(lines: Sequence[str]) -> bool:
    """Whether what a tool said blames the network, or a server behind it."""
    return any(_NETWORK.search(line) for line in lines)


def _attempt(recipe: Recipe) -> str:
    return f"could not install {recipe.kind} {recipe.version}"


def _error(recipe: Recipe, what: str, why: str, retry: bool, fix: str = "") -> RelitError:
    cls = _DownloadFailed if retry else _InstallFailed
    return cls(what, why=why, fix=fix or "run the same command again once that is mended")
