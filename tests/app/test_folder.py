"""Where data may be kept, and where not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relit.app import folder
from relit.errors import ConfigError
from relit.lib.clock import SYSTEM_CLOCK, SystemClock

NOBODY = 65534

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw
31 30 8:2 / /home/local rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/my\\040files rw - fuse.sshfs me@there: rw
33 22 0:42 / /over rw - ext4 /dev/sdc1 rw
34 22 0:43 / /over rw - cifs //there/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me/.local/share/relit", "nfs4"),
        ("/home/local/relit", "xfs"),
        ("/mnt/my files/relit", "fuse.sshfs"),
        ("/over", "cifs"),
    ],
)
def test_the_filesystem_of_a_path_is_found(path: str, kind: str) -> None:
    assert folder.filesystem(Path(path), MOUNTS) == kind


def test_network_filesystems_are_refused() -> None:
    with pytest.raises(ConfigError, match="on a network filesystem") as caught:
        folder.check_local(Path("/home/me/relit"), MOUNTS)
    assert "postgresql" in caught.value.fix
    folder.check_local(Path("/var/lib/relit"), MOUNTS)


def test_this_machines_mounts_are_understood(tmp_path: Path) -> None:
    assert folder.filesystem(tmp_path, folder.mounts())


def test_the_folder_is_made_private(tmp_path: Path) -> None:
    made = folder.prepare(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o755)
    folder.prepare(made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        folder.prepare(tmp_path / "file" / "data")
    assert "--data DIR" in caught.value.fix


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything: be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_an_unreadable_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with unprivileged(), pytest.raises(ConfigError, match="cannot be used"):
        folder.prepare(tmp_path)


def test_a_clock_that_was_never_set_is_refused() -> None:
    class Unset(SystemClock):
        """A machine without a battery."""

        def now_ms(self) -> int:
            return 86_400_000

    with pytest.raises(ConfigError, match="clock says 1970-01-02"):
        folder.check_clock(Unset())
    folder.check_clock(SYSTEM_CLOCK)
