"""Opening the places where contents lie, and what their errors mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from relit.errors import ConfigError, StoreError, StoreFull, StoreUnavailable
from relit.lib.durations import to_ms
from relit.lib.space import is_full

_FULL = re.compile(r"InsufficientStorage|QuotaExceeded|os error 28\b|os error 122\b|\b507\b", re.IGNORECASE)
_CONFIG_KEYS = frozenset({"endpoint", "region", "access_key_id", "secret_access_key", "session_token"})
_CLIENT_KEYS = frozenset({"allow_http", "virtual_hosted_style_request", "timeout"})


def open_bucket(url: str, options: Mapping[str, str]) -> ObjectStore:
    """A client for ``s3://bucket/prefix``. ConfigError when it makes no sense; the server is not asked."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if unknown := options.keys() - _CONFIG_KEYS - _CLIENT_KEYS:
        raise ConfigError(
            f"unknown option for {url}: {', '.join(sorted(unknown))}",
            fix=f"known are {', '.join(sorted(_CONFIG_KEYS | _CLIENT_KEYS))}",
        )
    config: dict[str, Any] = {key: options[key] for key in _CONFIG_KEYS & options.keys()}
    if "virtual_hosted_style_request" in options:
        config["virtual_hosted_style_request"] = _is_true(options["virtual_hosted_style_request"])
    try:
        if not bucket:
            raise ValueError("no bucket is named")
        timeout = timedelta(milliseconds=to_ms(options.get("timeout", "30s")))
        return S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            **config,
            # Whoever names an http:// endpoint means it; a name without a scheme is https.
            client_options={"allow_http": _is_true(options.get("allow_http", "true")), "timeout": timeout},
            # obstore's default goes on for three minutes: a worker would rather let go of the run and try later.
            retry_config={"max_retries": 4, "retry_timeout": timeout},
        )
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"cannot use {url} as a blob store",
            why=str(error).split("\n\nDebug source", maxsplit=1)[0],
            fix='write s3://bucket/prefix; see "blobs" in the settings',
        ) from error


def _is_true(text: str) -> bool:
    if text.lower() in ("true", "1", "yes"):
        return True
    if text.lower() in ("false", "0", "no"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def open_folder(path: Path) -> ObjectStore:
    """A folder as a store, made when it is not there. ConfigError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(path)
    except (OSError, BaseError) as error:
        raise ConfigError(
            f"cannot use {path} as a blob store",
            why=str(error).split("\n\nDebug source", maxsplit=1)[0],
            fix="choose a folder you may write to (volumes.store or server.blobs in relit.toml)",
        ) from error


def explained(url: str, what: str, error: Exception) -> StoreError:
    """What an error of the store at ``url`` means to a reader at 3 a.m. ``what``: what was attempted."""
    # Below its first lines obstore's text is a dump of structures for its own developers.
    why = str(error).split("\n\nDebug source", maxsplit=1)[0]
    what = f"{what} in {url}"
    if is_full(error) or _FULL.search(why):
        return StoreFull(what, why=why, fix="free some space there; work goes on by itself")
    if isinstance(error, (PermissionError, PermissionDeniedError, UnauthenticatedError)):
        return StoreUnavailable(what, why=why, fix="check its permissions or keys, then relit doctor")
    if "NoSuchBucket" in why:
        return StoreUnavailable(
            what,
            why=why,
            fix="make the bucket, or correct volumes.store or server.blobs in relit.toml, whichever names it",
        )
    return StoreUnavailable(what, why=why, fix="relit doctor")
