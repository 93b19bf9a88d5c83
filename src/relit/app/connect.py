"""A client of this machine's server, found as the command line finds it."""

from __future__ import annotations

from relit.client import Client
from relit.settings import Environment, load
from relit.settings.noted import noted_token, noted_url


def connect(url: str = "", token: str = "", *, patience: float = 30.0) -> Client:
    """A client. What is not given comes from RELIT_SERVER and RELIT_TOKEN, else from the data folder and relit.toml.

    The data folder's token goes to the data folder's server only: beside a ``url``, give a ``token``.
    Raises ``ConfigError`` when relit.toml is wrong, or the token may be read by others.
    """
    here = Environment()
    own = None if url else noted_token(here.data)
    place = url or here.server or noted_url(here.data) or load(environment=here).url
    return Client(place, token or here.token or own or "", patience=patience)
