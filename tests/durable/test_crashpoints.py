"""The catalogue of crash points is complete, and a point costs nothing when it is off."""

from __future__ import annotations

import re
from pathlib import Path

import relit
from relit.lib import crashpoints

SOURCE = Path(relit.__file__).parent
CALL = re.compile(r'\bpoint\("([a-z.]+)"\)')


def test_every_point_in_the_code_is_in_the_catalogue_and_back() -> None:
    used = {name for path in SOURCE.rglob("*.py") for name in CALL.findall(path.read_text())}
    assert used == set(crashpoints.POINTS)


def test_an_installed_callback_hears_each_point() -> None:
    heard: list[str] = []
    crashpoints.install(heard.append)
    try:
        crashpoints.point("append.before")
    finally:
        crashpoints.install(None)
    crashpoints.point("append.after")
    assert heard == ["append.before"]
