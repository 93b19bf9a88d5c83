"""The process that keeps the volumes of this machine, and answers the server's questions about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from relit.api.auth import ensure_token
from relit.api.build import build
from relit.api.parts import Options, Parts
from relit.api.server import ApiServer
from relit.app import parts as chosen
from relit.app.folder import VOLUMES_SOCKET, run_dir
from relit.app.homes import ships
from relit.app.parts import database
from relit.app.shipping import Shipping
from relit.app.stopping import running, until_signal
from relit.app.volumes import Kept, kept
from relit.lib.service import OnFailure
from relit.settings import Settings
from relit.volumes.watch.opening import open_watcher


async def serve(settings: Settings, began: Callable[[], None] = lambda: None) -> None:
    """Keep the volumes until a signal comes; the server asks over a socket in the run folder."""
    async with (
        until_signal() as stop,
        chosen.engine(settings) as engine,
        kept(settings, engine.store, open_watcher(), stop.fail) as made,
    ):
        await ensure_token(engine.store, settings.data)
        api = Parts(engine, Options(), volumes=made.local)
        server = ApiServer(
            build(api), path=run_dir(settings) / VOLUMES_SOCKET, closing=api.closing.close, on_error=stop.fail
        )
        async with running(
            [made.homes, made.uploader, made.care.caretaker, *_shipping(settings, made, stop.fail), server], began
        ):
            await stop.wait()


def _shipping(settings: Settings, made: Kept, fail: OnFailure) -> list[Shipping]:
    place = database(settings)
    if not ships(settings) or not isinstance(place, Path):
        return []
    return [Shipping(made.homes, place, settings.data / "copies", fail)]
