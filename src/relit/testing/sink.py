"""A webhook sink for tests; the demo's own."""

from relit.demo.serving import Served
from relit.demo.sink import Delivery, Sink

__all__ = ["Delivery", "Served", "Sink"]
