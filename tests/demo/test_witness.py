"""Witness lines survive whoever wrote them."""

from __future__ import annotations

import os
from pathlib import Path

from relit.demo import witness


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    file = tmp_path / "witness.jsonl"
    assert witness.read(file) == []
    for name in ("a", "b"):
        witness.mark(file, "read", name)
    lines = witness.read(file)
    assert [line.place for line in lines] == [("read", "a"), ("read", "b")]
    assert {line.pid for line in lines} == {os.getpid()}
    assert lines[0].at <= lines[1].at
