"""Whom the doctor looks at, and what is found."""

from __future__ import annotations

from typing import Literal

import msgspec

from relit.cli.http import Api
from relit.cli.session import Session
from relit.errors import RelitError
from relit.settings import Settings


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, or (``info``) that one should know. Field names as other doctors' JSON has them."""

    checkId: str
    severity: Literal["error", "warning", "info"]
    message: str
    path: str | None = None
    fixHint: str = ""


class Patient:
    """What the checks look at."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self.session = session
        self.settings = settings
        self.data = settings.data
        self.api = Api(session.url(), self._token())
        self.up = self.api.alive()

    def _token(self) -> str | None:
        """None when it cannot be read: the check of the data folder says why."""
        try:
            return self.session.token()
        except RelitError:
            return None
