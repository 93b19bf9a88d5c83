"""What holds for every file of the house."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent
SOURCES = sorted((HOME / "src").rglob("*.py"))
# Put together here so that this file does not hold what it looks for.
HOSTS = ["pypi" + ".org", "python" + "hosted", "npm" + "js", "deb." + "debian", "archive." + "ubuntu"]
UNFINISHED = ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"]


def _texts() -> list[tuple[Path, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOME, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        try:
            found.append((HOME / name, (HOME / name).read_text(encoding="utf-8")))
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # an image, or a file removed and not yet committed
    return found


@pytest.fixture(scope="module")
def texts() -> list[tuple[Path, str]]:
    if not (HOME / ".git").exists():
        pytest.skip("not a git clone")
    return _texts()


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(HOME)))
def test_a_module_says_what_it_is_for_and_stays_small(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module begins with a docstring"
    assert text.count("\n") <= 500


def test_tests_and_benchmarks_stay_small_too() -> None:
    files = [*(HOME / "tests").rglob("*.py"), *(HOME / "bench").rglob("*.py")]
    assert [str(file) for file in files if file.read_text(encoding="utf-8").count("\n") > 500] == []


def test_no_file_names_a_package_registry(texts: list[tuple[Path, str]]) -> None:
    assert [(str(file), host) for file, text in texts for host in HOSTS if host in text] == []


def test_nothing_is_left_unfinished() -> None:
    assert [
        (str(file), word) for file in SOURCES for word in UNFINISHED if word in file.read_text(encoding="utf-8")
    ] == []


def test_the_changelog_knows_the_version() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.search(rf"^## {re.escape(project['version'])}\b", (HOME / "CHANGELOG.md").read_text("utf-8"), re.M)


def test_every_dependency_is_pinned_for_the_tests() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[><=\[]", each)[0].lower() for each in wanted}
    pinned = {line.split("==")[0].lower() for line in (HOME / "constraints.txt").read_text("utf-8").splitlines()}
    assert names - pinned == set()


def test_test_files_have_names_of_their_own() -> None:
    names = [file.name for file in (HOME / "tests").rglob("test_*.py")]
    assert [name for name in names if names.count(name) > 1] == []
