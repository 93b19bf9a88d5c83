"""Many volumes in one process, one very large one, and a bucket."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import homes
from ours import Relit, cpu_s, memory_mb, until

from relit.testing.s3 import S3

VOLUMES, FILES, EVERY_S = 100, 2_000, 10
SHARE = 0.01  # of the files change in each interval


def made(folder: Path, *, quick: bool) -> Relit:
    """A fleet whose homes are there. The short form has a tenth of it."""
    relit = Relit(folder, FILES, every=f"{EVERY_S}s", agents=VOLUMES // 10 if quick else VOLUMES)
    homes.make(folder / "home", homes.Size(FILES, 8, (0, 0, 0)))
    for name in relit.names():
        shutil.copytree(folder / "home", relit.data / "agents" / name / "home")
    relit.data.chmod(0o700)
    return relit


def run(relit: Relit, say: Callable[[str], None], *, quick: bool) -> dict[str, float]:
    """CPU of the process that keeps a fleet's volumes; that of the short form is scaled up."""
    count, begin = len(relit.names()), time.perf_counter()
    relit.up()
    try:
        _until_all(relit, count)
        say(f"fleet: {count} volumes of {FILES} files, first snapshots in {time.perf_counter() - begin:.1f} s")
        percent = _measure(relit, count, 10.0 if quick else 60.0)
        used = memory_mb(relit.daemon())
        rounds = relit.ask(lambda volumes: volumes.list())
    finally:
        relit.down()
    taken = sum(each.snapshots for each in rounds.volumes)
    percent *= VOLUMES / count
    say(f"fleet: {percent:.1f} % of a core{' (scaled)' if quick else ''}, {taken} snapshots, {used:.0f} MB")
    return {"fleet_cpu_pct": percent, "fleet_rss_mb": used, "fleet_snapshots": float(taken)}


def _until_all(relit: Relit, count: int) -> None:
    def done() -> bool:
        volumes = relit.ask(lambda volumes: volumes.list()).volumes
        return len(volumes) == count and all(each.newest for each in volumes)

    until(done, "the fleet has no first snapshots", every_s=0.5)


def _measure(relit: Relit, count: int, seconds: float, files: int = FILES) -> float:
    """Percent of a core while one in a hundred files changes in each interval, evenly."""
    chance, names, pid = random.Random(5), relit.names(), relit.daemon()
    pause = EVERY_S / (count * files * SHARE)
    began, cpu = time.perf_counter(), cpu_s(pid)
    done = 0
    while (passed := time.perf_counter() - began) < seconds:
        while done * pause < passed:
            home = relit.data / "agents" / chance.choice(names) / "home"
            homes.file_at(home, chance.randrange(files)).write_bytes(homes.text(chance, 2000))
            done += 1
        time.sleep(0.02)
    return (cpu_s(pid) - cpu) / seconds * 100


def huge(folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    """5 GB in 200,000 files."""
    relit = Relit(folder, homes.HUGE.files)
    homes.make(relit.home, homes.HUGE)
    relit.data.chmod(0o700)
    first = relit.command("volume", "snapshot", "bench")
    relit.up()
    try:
        relit.snapshot()
        noop = relit.snapshot()[0] * 1000
        relit.edit("mixed")
        mixed, taken = relit.snapshot()
        relit.edit("small")
        back = relit.timed(lambda volumes: volumes.restore("bench", taken.snapshot.number))[0]
        used = memory_mb(relit.daemon())
    finally:
        relit.down()
    say(
        f"5 GB, 200,000 files: first {first:.1f} s, nothing changed {noop:.1f} ms, mixed {mixed * 1000:.0f} ms, "
        f"back {back * 1000:.0f} ms, {used:.0f} MB"
    )
    return {
        "huge_first_s": first,
        "huge_noop_ms": noop,
        "huge_mixed_ms": mixed * 1000,
        "huge_inplace_ms": back * 1000,
        "huge_rss_mb": used,
    }


def s3(folder: Path, say: Callable[[str], None]) -> dict[str, float]:
    """Requests to a real S3 server for each snapshot, twenty agents at work."""
    with S3() as server:
        options = server.options()
        environment = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": options["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["secret_access_key"],
            "AWS_REGION": options["region"],
        }
        bucket = server.new_bucket()
        server.store(bucket).put("made", b"")  # the server makes a bucket at its first object
        store = f"s3://{bucket}/volumes"
        relit = Relit(folder, 100, every="2s", agents=20, store=store, environment=environment)
        for number, name in enumerate(relit.names()):
            homes.make(relit.data / "agents" / name / "home", homes.Size(100, 1, (0, 0, 0)), seed=number)
        relit.data.chmod(0o700)
        relit.up()
        try:
            _until_all(relit, 20)
            _measure(relit, 20, 25.0, 100)
            stats = relit.ask(lambda volumes: volumes.stats())
        finally:
            relit.down()
    each = stats.requests / max(1, stats.uploaded)
    say(f"S3: {stats.requests} requests for {stats.uploaded} snapshots of 20 agents, {each:.2f} each")
    return {"s3_requests_per_snapshot": each}
