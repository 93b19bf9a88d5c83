"""relit.toml and the environment: what can be set, how it is found, checked and shown."""

from relit.settings.environment import Environment
from relit.settings.load import Settings, load
from relit.settings.secrets import Secrets

__all__ = ["Environment", "Secrets", "Settings", "load"]
