"""A scripted model for tests; the demo's own."""

from relit.demo.model import ScriptedModel, fingerprint
from relit.demo.serving import Served

__all__ = ["ScriptedModel", "Served", "fingerprint"]
