"""The doctor's look at volumes: is the key kept elsewhere, are snapshots taken, do packs reach the blob store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from relit import documents
from relit.cli.patient import Finding, Patient
from relit.lib.clock import SYSTEM_CLOCK
from relit.lib.durations import human

EXPORTED = "key-exported"  # in the data folder: the id of the key that was exported last
LATE_MS = 15 * 60_000


def key(patient: Patient) -> Iterator[Finding]:
    """Without the key no snapshot can be read: it must be somewhere else, too."""
    place = patient.data / "key"
    if not place.exists():
        return
    from relit.volumes.keys import Keys

    if _noted(patient.data) != Keys.load(place).id:
        yield Finding(
            checkId="key",
            severity="warning",
            message="the key that opens the snapshots was never exported; without it nobody can read them",
            path=str(place),
            fixHint="relit key export FILE, and keep FILE on another machine",
        )


def _noted(data: Path) -> str:
    try:
        return (data / EXPORTED).read_text().strip()
    except OSError:
        return ""


def volumes(patient: Patient) -> Iterator[Finding]:
    """Snapshots that fail, damage that checks found, and packs that do not get away."""
    found = patient.api.get("/v1/volumes", documents.Volumes)
    for each in found.damage:
        files = f" ({each.agent}: {', '.join(each.paths[:3]) or each.pack})" if each.agent else ""
        yield Finding(checkId="volumes", severity="error", message=f"{each.what}{files}", path=each.pack or None,
                      fixHint=each.fix or "relit volume verify")  # fmt: skip
    for volume in found.volumes:
        if volume.error:
            yield Finding(
                checkId="volumes",
                severity="error",
                message=f"the last snapshot of {volume.agent} failed: {volume.error}",
                fixHint=f"relit volume snapshot {volume.agent}",
            )
    stats = patient.api.get("/v1/volumes/stats", documents.VolumeStats)
    since = stats.waiting_since
    if since is not None and SYSTEM_CLOCK.now_ms() - since > LATE_MS:
        waited = human(SYSTEM_CLOCK.now_ms() - since)
        yield Finding(
            checkId="volumes",
            severity="error",
            message=f"packs have waited for the blob store for {waited}: a lost machine would cost that",
            path=stats.store,
            fixHint="relit volume stats; look whether the blob store answers",
        )
