"""The node: keeps instances alive on one machine. ``keeper`` owns processes, ``node`` watches, decides and heals."""
