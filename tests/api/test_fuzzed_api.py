"""Whatever is sent to the HTTP API: it answers as its own document says, and never with a fault of the server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from relit.api.server import ApiServer
from relit.store.sql.sqlite.store import SqliteStore

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "negative_data_rejection,unsupported_method,ignored_auth"
)
PATIENT = r"/(events|stream|wait)$"  # they answer for ever, or as late as they are asked to


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_fuzzed_requests_are_answered_as_the_document_says(
    server: ApiServer, token: str, store: SqliteStore, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--checks", CHECKS, "--exclude-path-regex", PATIENT,
        "--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--continue-on-failure", "--no-color",
        "--warnings", "off", "--request-timeout", "20", "--generation-database", "none", "--seed", "1",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()[-20_000:]
    assert await store.check() == []
