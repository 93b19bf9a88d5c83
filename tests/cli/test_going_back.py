"""An agent goes back as a whole: its files and its journal, with a real node, worker and command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_house import House

MODULE = '''
from pathlib import Path

import relit

OUTBOX = Path(__file__).with_name("outbox")


def post(text: str) -> str:
    """The world outside: what is posted stays posted."""
    with OUTBOX.open("a") as out:
        out.write(text + "\\n")
    return text


def note(home: str, text: str) -> None:
    with Path(home, "notes").open("a") as out:
        out.write(text + "\\n")


@relit.agent(name="diarist")
async def diarist(ctx: relit.Context, message: str) -> None:
    await ctx.step(note, str(ctx.home), f"heard {message}")
    await ctx.effect(post, f"answer to {message}")
    if message == "slow":
        await ctx.signal("enough")


@relit.workflow(agent="diarist")
async def tour(ctx: relit.Context) -> int:
    for day in range(3):
        await ctx.step(note, str(ctx.home), f"day {day}")
        await ctx.effect(post, f"postcard {day}")
        await ctx.signal("on")
    return day
'''


class Diarist:
    """A house in which the diarist lives."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        self.outbox = folder / "outbox"
        (folder / "diarist.py").write_text(MODULE)

    def notes(self) -> list[str]:
        return sorted((self.house.data / "agents" / "diarist" / "home" / "notes").read_text().splitlines())

    def posted(self) -> list[str]:
        return sorted(self.outbox.read_text().splitlines())

    def ok(self, *words: str) -> str:
        done = self.house.run(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def start(self, *words: str) -> str:
        """The id of what ``relit run`` or ``send`` started."""
        return self.ok(*words).split()[0]

    def until(self, run: str, state: str, effects: int) -> list[dict[str, Any]]:
        """The steps of a run that has come to ``state`` with so many effects."""
        end = time.monotonic() + 40
        while time.monotonic() < end:
            shown = self.house.json("show", run)
            steps: list[dict[str, Any]] = shown["steps"]
            if shown["run"]["state"] == state and len([s for s in steps if s["kind"] == "effect"]) == effects:
                return steps
            time.sleep(0.1)
        raise AssertionError(f"{run} is {shown['run']['state']}, not {state}: {shown}")


@pytest.fixture
def diarist(tmp_path: Path) -> Iterator[Diarist]:
    made = Diarist(tmp_path)
    done = made.house.spawn("up", "diarist")
    assert done.returncode == 0, done.stderr
    try:
        yield made
    finally:
        made.house.down()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "heard", "slow"),
    [("keep", ["slow"], "waiting"), ("redeliver", ["quick", "slow"], "waiting"), ("drop", [], "cancelled")],
)
def test_files_and_journal_go_back_together(diarist: Diarist, choice: str, heard: list[str], slow: str) -> None:
    tour = diarist.start("run", "diarist/tour", "--detach")
    diarist.until(tour, "waiting", 1)
    diarist.ok("volume", "snapshot", "diarist", "--tag", "day-0")
    diarist.ok("signal", tour, "on")
    diarist.until(tour, "waiting", 2)
    quick, later = (diarist.start("send", "diarist", message) for message in ("quick", "slow"))
    diarist.until(quick, "completed", 1)
    diarist.until(later, "waiting", 1)
    posted = diarist.posted()
    assert posted == ["answer to quick", "answer to slow", "postcard 0", "postcard 1"]
    _a_plan_lists_what_came_since(diarist, choice, {tour: 3, quick: 2, later: 2})

    done = diarist.house.json("--yes", "restore", "diarist", "--at", "day-0", "--messages", choice)
    assert (done["written"], done["choice"], len(done["effects"])) == (["notes"], choice, 3)
    steps = diarist.until(tour, "waiting", 2)  # the signal of that day is there again
    assert [step["kind"] for step in steps].count("superseded") == 3
    assert [step["attempts"] for step in steps if step["kind"] == "effect"] == [1, 0]
    diarist.until(quick, "completed", 1)
    diarist.until(later, slow, 1)
    assert diarist.notes() == ["day 0", "day 1", *(f"heard {each}" for each in heard)]
    assert diarist.posted() == posted, "nothing was sent again"
    shown = diarist.ok("show", tour)
    assert "superseded" in shown
    assert "kept" in shown

    for _ in range(2):
        diarist.ok("signal", tour, "on")
    diarist.ok("wait", tour, "--timeout", "30s")
    assert diarist.posted() == sorted([*posted, "postcard 2"])


def _a_plan_lists_what_came_since(diarist: Diarist, choice: str, steps: dict[str, int]) -> None:
    before = diarist.notes()
    words = ("restore", "diarist", "--at", "day-0", "--dry-run", "--messages", choice)
    plan = diarist.house.json(*words)
    assert sorted(effect["name"] for effect in plan["effects"]) == ["post"] * 3
    quick = [*steps][1]
    gone = steps | ({} if choice == "redeliver" else {quick: 0})
    assert {each["run"]: each.get("superseded", 0) for each in plan["messages"]} == gone
    told = diarist.ok(*words)
    assert "3 effects since then stay done" in told
    assert "3 messages since then" in told
    assert diarist.notes() == before
    assert "superseded" not in diarist.ok("show", next(iter(steps)))
