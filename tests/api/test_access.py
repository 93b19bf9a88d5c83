"""Who gets in, and what the refusals say."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from relit.api.auth import Guard, digest, ensure_token, permits
from relit.api.hosts import allows, name_of
from relit.api.server import ApiServer
from relit.errors import ConfigError, Unauthorized
from relit.store.sql.sqlite.store import SqliteStore


async def test_the_first_token_is_made_once_for_its_owner_only(store: SqliteStore, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first, second = await ensure_token(store, folder), await ensure_token(store, folder)
    assert first == second == (folder / "token").read_text().strip()
    assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["token"]
    (token,) = await store.tokens()
    assert (token.hash, token.scopes) == (digest(first), ["admin"])
    assert first not in repr(token)


async def test_two_servers_that_start_together_agree_on_one_token(store: SqliteStore, tmp_path: Path) -> None:
    first, second = await asyncio.gather(ensure_token(store, tmp_path), ensure_token(store, tmp_path))
    assert first == second
    assert len(await store.tokens()) == 1


async def test_servers_with_folders_of_their_own_keep_tokens_of_their_own(store: SqliteStore, tmp_path: Path) -> None:
    one, two = await ensure_token(store, tmp_path / "one"), await ensure_token(store, tmp_path / "two")
    assert {token.hash for token in await store.tokens()} == {digest(one), digest(two)}


async def test_a_token_that_the_store_forgot_is_known_again(store: SqliteStore, tmp_path: Path) -> None:
    secret = await ensure_token(store, tmp_path)
    await store.remove_token((await store.tokens())[0].name)
    assert await ensure_token(store, tmp_path) == secret
    assert len(await store.tokens()) == 1


async def test_a_token_file_that_others_can_read_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    await ensure_token(store, tmp_path)
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        await ensure_token(store, tmp_path)


async def test_an_empty_token_file_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    with pytest.raises(ConfigError, match="is empty"):
        await ensure_token(store, tmp_path)


async def test_a_folder_that_is_none_is_told(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="--data"):
        await ensure_token(store, tmp_path / "file")


@pytest.mark.parametrize(
    ("header", "why"), [("", "no Authorization"), ("Basic eDp5", "no Authorization"), ("Bearer wrong", "removed")]
)
async def test_without_a_good_token_nothing_is_shown(server: ApiServer, header: str, why: str) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        for path in ("/v1/runs", "/v1/events", "/metrics", "/v1/tokens"):
            answer = await http.get(path, headers={"Authorization": header} if header else {})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["code"] == "unauthorized"
            assert why in answer.json()["detail"]


async def test_health_and_the_document_need_no_token(server: ApiServer) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await http.get(path)).status_code == 200


def test_a_scope_includes_those_below() -> None:
    assert permits(["admin"], "read")
    assert permits(["write"], "read")
    assert not permits(["read"], "write")
    assert not permits(["write"], "admin")
    assert not permits([], "read")


async def test_tokens_are_made_used_and_removed(http: httpx.AsyncClient, server: ApiServer) -> None:
    made = (await http.post("/v1/tokens", json={"name": "ci", "scopes": ["read"]})).json()
    assert made["token"].startswith("relit_")
    again = await http.post("/v1/tokens", json={"name": "ci"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    listed = (await http.get("/v1/tokens")).json()["tokens"]
    assert "ci" in {token["name"] for token in listed}
    assert all("token" not in token and "hash" not in token for token in listed)
    headers = {"Authorization": f"Bearer {made['token']}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as reader:
        assert (await reader.get("/v1/runs")).status_code == 200
        refused = await reader.post("/v1/runs", json={"target": "a/b"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "--scope write" in refused.json()["fix"]
        assert (await http.delete("/v1/tokens/ci")).status_code == 204
        assert (await reader.get("/v1/runs")).status_code == 401
    assert (await http.delete("/v1/tokens/ci")).status_code == 404


class Hands:
    """A monotonic clock that is turned by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def now_ms(self) -> int:
        return 0

    def boot_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.at


async def test_a_token_removed_elsewhere_stops_working_soon(store: SqliteStore, tmp_path: Path) -> None:
    clock = Hands()
    guard = Guard(store, 2.0, clock)
    secret = await ensure_token(store, tmp_path)
    await guard.admit(f"Bearer {secret}", "admin")
    await store.remove_token((await store.tokens())[0].name)
    clock.at = 1.9
    await guard.admit(f"Bearer {secret}", "admin")
    clock.at = 2.1
    with pytest.raises(Unauthorized):
        await guard.admit(f"Bearer {secret}", "admin")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost:7717", "localhost"),
        ("LOCALHOST", "localhost"),
        ("[::1]:7717", "::1"),
        ("127.0.0.1:7717", "127.0.0.1"),
        ("relit.example.org", "relit.example.org"),
    ],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert name_of(header) == name


@pytest.mark.parametrize("header", ["localhost", "127.0.0.1:1", "[::1]:1", "10.1.2.3", "relit.local", "RELIT.local."])
def test_addresses_and_known_names_are_answered(header: str) -> None:
    assert allows(header, ["relit.local"])


@pytest.mark.parametrize("header", ["", "evil.example", "relit.local.evil.example", "127.0.0.1.evil.example:7717"])
def test_other_names_are_not(header: str) -> None:
    assert not allows(header, ["relit.local"])
    assert allows(header, ["*"])


async def test_a_page_that_points_its_name_here_gets_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get("/healthz", headers={"Host": "evil.example:7717"})
    assert (answer.status_code, answer.json()["code"]) == (421, "wrong-host")
    assert 'add "evil.example" to server.hosts' in answer.json()["fix"]


async def test_what_is_not_there(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    answer = await http.delete("/v1/runs")
    assert (answer.status_code, answer.json()["code"]) == (405, "invalid")
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused(http: httpx.AsyncClient, declared: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * 65536

    answer = await http.post("/v1/runs", content=b"x" * (100 << 20) if declared else parts())
    assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")
    assert "max_body" in answer.json()["fix"]


async def test_a_body_without_an_end_is_cut_off(server: ApiServer, token: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
    writer.write((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 1 << 28:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536
    assert sent < 64 << 20
    writer.close()


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"[]"])
async def test_a_body_that_is_no_json_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/runs", content=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
