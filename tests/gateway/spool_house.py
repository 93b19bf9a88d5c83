"""What a gateway that dies leaves beside the database."""

from __future__ import annotations

import shutil

from relit.gateway.spool import Asked, Spool, Track
from relit.lib.ids import new_id
from relit.store.sql.calls import USD
from relit.store.values import ModelCall


def left_by(spool: Spool) -> Spool:
    """What the next gateway would find, if this one died now: the same files, which nobody has locked."""
    made = Spool(spool.folder.with_name(f"left-{new_id()}"))
    shutil.copytree(spool.folder, made.folder)
    return made


def call_of(id: str, gateway: str = "gone") -> ModelCall:
    """One that had a dollar reserved for it."""
    return ModelCall(id=id, agent="scout", route="default", model="m", gateway=gateway, reserved=USD)


def begun(spool: Spool, id: str, sent: int = 4) -> Track:
    """It is about to be sent."""
    return spool.begin(Asked(call_of(id), sent))
