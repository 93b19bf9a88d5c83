"""On a filesystem that shares extents, large files are cloned while the agent stands still and read when it goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kit import Kit, Still, noise, running

from relit.volumes.clones import LEAST, Clones

_MB = 1 << 20


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """XFS in a file."""
    if os.getuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("XFS needs root and mkfs.xfs (apt-get install xfsprogs)")
    image, place = tmp_path / "image", tmp_path / "xfs"
    with open(image, "wb") as file:
        file.truncate(400 * _MB)
    place.mkdir()
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop mounts here: {done.stderr}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Scribbling(Still):
    """Writes into a file just before it stands still, and again as soon as it goes on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.running = True

    def write(self, text: bytes) -> None:
        with open(self.path, "r+b") as file:
            file.write(text)

    async def freeze(self) -> bool:
        self.write(b"at that moment")
        return await super().freeze()

    async def thaw(self) -> bool:
        if self.frozen:
            self.write(b"later, too late")
        return await super().thaw()


async def test_a_clone_keeps_the_moment_though_it_is_read_later(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloned: list[int] = []
    clone = Clones.clone

    def counted(self: Clones, fd: int, size: int) -> int | None:
        made = clone(self, fd, size)
        cloned.extend([] if made is None else [size])
        return made

    monkeypatch.setattr(Clones, "clone", counted)
    kit = Kit(shared, watch="inotify")
    file = kit.home() / "large.bin"
    kit.still = Scribbling(file)
    async with running(kit):
        kit.home().mkdir(parents=True)
        file.write_bytes(noise(LEAST + 3 * _MB + 17))
        taken = await kit.take()
        laid = await kit.lay(taken.number, shared / "laid")
    assert cloned == [file.stat().st_size]
    assert (laid / "large.bin").read_bytes() == b"at that moment" + noise(LEAST + 3 * _MB + 17)[14:]
    assert file.read_bytes().startswith(b"later, too late")


def test_small_files_and_filesystems_that_refuse_are_read_at_once(tmp_path: Path, shared: Path) -> None:
    for folder, shares in ((shared, True), (Path("/dev/shm"), False)):
        file = folder / f"relit-clone-{os.getpid()}"
        file.write_bytes(bytes(LEAST))
        fd = os.open(file, os.O_RDONLY)
        try:
            clones = Clones(folder)
            assert clones.clone(fd, LEAST - 1) is None
            made = clones.clone(fd, LEAST)
            assert (made is not None) is shares
            if made is not None:
                assert os.fstat(made).st_size == LEAST
                os.close(made)
        finally:
            os.close(fd)
            file.unlink()
