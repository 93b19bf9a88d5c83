"""The auditor's notes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relit.demo.licences import Finding, Verdict
from relit.demo.notebook import Notebook, text

CLEAN = Verdict("zope.interface", "ZPL-2.1", "permissive")
MARKED = Verdict("tidal", "GPL-3.0-or-later", "copyleft", [Finding("copyleft", "Let a person read it.")])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    for verdict in (CLEAN, MARKED):
        notebook.write(verdict)
        notebook.enter(verdict)
    assert notebook.pages() == {"zope.interface": text(CLEAN), "tidal": text(MARKED)}
    assert notebook.index() == {"zope.interface": CLEAN, "tidal": MARKED}


def test_an_empty_home_has_no_notes(tmp_path: Path) -> None:
    assert (Notebook(tmp_path).pages(), Notebook(tmp_path).index()) == ({}, {})


def test_a_page_says_the_licence_and_every_finding() -> None:
    assert text(MARKED) == "# tidal\n\nLicence: GPL-3.0-or-later (copyleft)\n\n- copyleft: Let a person read it.\n"
    assert "Nothing to remark." in text(CLEAN)


def test_the_same_note_again_changes_nothing(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)
    for _ in range(2):
        notebook.write(MARKED)
        notebook.enter(MARKED)
    assert sorted(path.name for path in notebook.folder.iterdir()) == ["index.db", "tidal.md"]
    assert notebook.index() == {"tidal": MARKED}


def test_several_may_enter_verdicts_at_once(tmp_path: Path) -> None:
    verdicts = [Verdict(f"d{number}", "MIT", "permissive") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda verdict: Notebook(tmp_path).enter(verdict), verdicts))
    assert Notebook(tmp_path).index() == {verdict.distribution: verdict for verdict in verdicts}
