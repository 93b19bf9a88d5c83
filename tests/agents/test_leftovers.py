from __future__ import annotations

from pathlib import Path

from relit.agents import leftovers
from relit.control.care import Care


def test_tmp_is_emptied_and_stale_files_go(tmp_path: Path) -> None:
    home, tmp, outside = tmp_path / "home", tmp_path / "tmp", tmp_path / "outside"
    for folder in (home / "state" / "deep", tmp / "a" / "b", outside):
        folder.mkdir(parents=True)
    for path in ("gateway.pid", "state/x.lock", "state/deep/y.lock", "state/deep/kept", "state/gateway.pid"):
        (home / path).touch()
    (outside / "z.lock").touch()
    (home / "link").symlink_to(outside)
    (tmp / "link").symlink_to(outside)
    care = Care(agent="a", kind="k", home=str(home), tmp=str(tmp), stale=["gateway.pid", "**/*.lock"])
    told = leftovers.clear(care)
    assert told == "2 things in tmp, gateway.pid, state/deep/y.lock, state/x.lock removed"
    assert list(tmp.iterdir()) == []
    assert (outside / "z.lock").exists()
    assert sorted(str(each.relative_to(home)) for each in home.rglob("*") if each.is_file()) == [
        "state/deep/kept", "state/gateway.pid",
    ]  # fmt: skip


def test_nothing_to_clear_is_fine(tmp_path: Path) -> None:
    care = Care(agent="a", kind="k", home=str(tmp_path / "none"), tmp=str(tmp_path / "none"), stale=["*.lock"])
    assert leftovers.clear(care) == "0 things in tmp removed"
