"""The catalogue of crash points is complete, and a point costs nothing when it is off."""

from __future__ import annotations

import re
from pathlib import Path

import relit
from relit.app import recover, unlock
from relit.gateway.tools import carrying
from relit.lib import crashpoints
from relit.volumes import capture, consolidate, homelaying, prune, rebuild, service, spool, upload

SOURCE = Path(relit.__file__).parent
KEEPING = (capture, carrying, consolidate, homelaying, prune, rebuild, recover, service, spool, unlock, upload)
CALL = re.compile(r'\bpoint\("([a-z.]+)"\)')


def test_every_point_in_the_code_is_in_the_catalogue_and_back() -> None:
    used = {name for path in SOURCE.rglob("*.py") for name in CALL.findall(path.read_text())}
    known = {*crashpoints.POINTS, *(point for module in KEEPING for point in module.POINTS)}
    assert used == known


def test_an_installed_callback_hears_each_point() -> None:
    heard: list[str] = []
    crashpoints.install(heard.append)
    try:
        crashpoints.point("append.before")
    finally:
        crashpoints.install(None)
    crashpoints.point("append.after")
    assert heard == ["append.before"]
