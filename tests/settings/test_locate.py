"""Lines of keys in TOML text."""

from __future__ import annotations

import pytest

from relit.settings.locate import line_of

TEXT = '''top = 1
[server]
# listen = "no"
listen = "a"
text = """
[agents.a]
blobs = 3
"""
"quoted key" = 2
[agents.a]
mailbox = { depth = 3 }
mailbox.rate = 2
[agents.a.schedules."x y"]
every = "1m"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("top", 1),
        ("server", 2),
        ("server/listen", 4),
        ("server/blobs", 2),
        ("server/quoted key", 9),
        ("agents/a/mailbox/depth", 11),
        ("agents/a/mailbox/rate", 12),
        ("agents/a/schedules/x y/every", 14),
        ("agents/a/entry", 10),
        ("nothing", None),
    ],
)
def test_a_key_or_what_is_around_it_is_found(path: str, line: int | None) -> None:
    assert line_of(TEXT, path.split("/")) == line
