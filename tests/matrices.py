"""The long matrices in parts, and again from where they stopped: ``--shard 2/3``, ``--resume``.

What has passed is noted below ``.bench``, by a hash of the product and its tests: with ``--resume`` it is not run again
as long as neither has changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTES = ROOT / ".bench" / "passed"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("matrices")
    group.addoption("--shard", metavar="N/OF", help="run only this part of the tests")
    group.addoption("--resume", action="store_true", help="leave out what has passed on this very tree")


def part(name: str, of: int) -> int:
    """Which part a test belongs to, from 1: the same one on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % of + 1


def tree() -> str:
    """The same as long as nothing has changed that a test could depend on."""
    files = [each for top in ("src", "tests") for each in sorted((ROOT / top).rglob("*")) if each.is_file()]
    made = hashlib.blake2b(digest_size=12)
    for each in [*files, ROOT / "pyproject.toml", ROOT / "constraints.txt"]:
        if "__pycache__" not in each.parts:
            made.update(str(each.relative_to(ROOT)).encode() + b"\0" + each.read_bytes())
    return made.hexdigest()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    shard, left_out = config.getoption("shard"), set[str]()
    if config.getoption("resume") and (NOTES / tree()).exists():
        left_out = set((NOTES / tree()).read_text().splitlines())
    number, of = (int(each) for each in shard.split("/")) if shard else (1, 1)
    kept = [each for each in items if part(each.nodeid, of) == number and each.nodeid not in left_out]
    config.hook.pytest_deselected(items=[each for each in items if each not in set(kept)])
    items[:] = kept


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("resume"):
        session.exitstatus = pytest.ExitCode.OK  # all have passed already


class Notes:
    """Writes down what has passed: in the process that hears of all tests."""

    def __init__(self) -> None:
        NOTES.mkdir(parents=True, exist_ok=True)
        self._path = NOTES / tree()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            with self._path.open("a") as file:
                file.write(report.nodeid + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Notes(), "relit-notes")
