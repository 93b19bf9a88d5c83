"""Whoever has no good token, or wants to go where it may not, is on record, with the agent whose token it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
from gateway_house import CHAT, HELLO, TOKEN
from tools_house import Grant, Scripted, house, mail

from relit.gateway.routes import Caller, Known
from relit.gateway.server import Gateway
from relit.gateway.tools.endpoint import BODY_MOST
from relit.gateway.tools.guard import Forbidden
from relit.lib.clock import SYSTEM_CLOCK
from relit.vault.refusals import Refusal, Refusals


async def test_a_call_that_is_refused_is_on_record_and_says_whose_token_it_was() -> None:
    book: list[Refusal] = []

    async def record(found: Sequence[Refusal]) -> None:
        book.extend(found)

    callers = Known([Caller("scout", TOKEN, ""), Caller("poet", "poets", "")])
    here = Gateway({}, callers, port=0, refusals=Refusals(record, SYSTEM_CLOCK))
    await here.start()
    async with httpx.AsyncClient(base_url=here.url, trust_env=False, verify=False) as http:
        for token in ("stolen", "stolen too", TOKEN):
            await http.post(CHAT, json=HELLO, headers={"Authorization": f"Bearer {token}"})
        await http.post(CHAT, json=HELLO, headers={"Authorization": f"Bearer {TOKEN}", "x-api-key": "poets"})
        await http.get("/openai/v1/../../vault", headers={"Authorization": f"Bearer {TOKEN}"})
    await here.stop()
    found = {(each.who, each.code) for each in book}
    assert found == {("", "unauthorized"), ("scout", "not-found")}
    assert sum(each.times for each in book) == 5


async def test_what_an_agent_may_not_do_with_tools_stands_in_the_audit_trail(tmp_path: Path) -> None:
    source = Scripted([mail(), mail(name="pay", policy="deny")], lambda call, arguments: Forbidden("169.254.169.254"))
    async with house(tmp_path, source, grants={"scout": Grant(("*",), {"pay": "deny"})}) as home:
        for _ in range(2):
            home.refusals.saw("poet", "test", "alike")
        for name in ("mail", "pay", "open_vault"):
            await home.call(name, to="ann")
        await home.mcp("tools/list", token="stolen")
        await home.mcp("tools/call", token="clone", name="mail", arguments={"to": "ann"})
        async with httpx.AsyncClient(base_url=home.gateway.url, trust_env=False, verify=False) as http:
            known = {"Authorization": f"Bearer {TOKEN}"}
            page = await http.post("/mcp", headers=known | {"Origin": "https://evil.example"}, content=b"{}")
            large = await http.post("/mcp", headers=known, content=b" " * (BODY_MOST + 1))
        assert (page.status_code, large.status_code) == (403, 413)
        assert set(await home.refused()) == {
            ("scout", "gateway:forbidden-address", "mail: an address not to be called"),
            ("poet", "gateway:test", "alike (2 times)"),
            ("scout", "gateway:tool-denied", "pay: a policy forbids it"),
            ("scout", "gateway:tool-denied", "a tool: there is no such tool for this agent"),
            ("scout", "gateway:tools-refused", "a call by a clone that is tried"),
            ("scout", "gateway:tools-refused", "a call from a page of another origin"),
            ("scout", "gateway:tools-refused", "a request of more than 4 MB"),
            ("unknown", "gateway:unauthorized", "this token is not one of an agent here"),
        }
