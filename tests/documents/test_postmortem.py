"""The post-mortem: what a person reads at 3 a.m., whatever the agent wrote into it."""

from __future__ import annotations

import re
from datetime import timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relit.documents import IncidentDetail, IncidentEffect, IncidentEntry, IncidentRun
from relit.documents.postmortem import BARS, postmortem, sparkline

T0 = 1_800_000_000_000  # 2027-01-15 08:00:00 UTC


def trouble(**fields: Any) -> IncidentDetail:
    given = {
        "id": "01jtrouble01",
        "agent": "ada",
        "instance": "ada",
        "opened_at": T0,
        "severity": "critical",
        "rung": 4,
        "title": "ada: its configuration is not valid",
    }
    return IncidentDetail(**(given | fields))


FULL = trouble(
    cause="gateway.port is not a number",
    impact="does not answer",
    exit="exit code 78",
    timeline=[
        IncidentEntry(at=T0, what="its configuration is not valid (exit code 78)"),
        IncidentEntry(at=T0 + 61_000, what="put its configuration back", outcome="a.json as in 41", took_ms=2100),
        IncidentEntry(at=T0 + 65_000, what="ready again"),
    ],
    memory=[(T0 - 2000, 100 << 20), (T0 - 1000, 300 << 20), (T0, 200 << 20)],
    log=["starting", "Error: gateway.port"],
    config={"config.json": '-"port": 1\n+"port": "x"'},
    next="relit agent edit ada",
    effects=[IncidentEffect(run="01jrun0000000000000000abcd", pos="3", name="send_mail")],
    runs=[IncidentRun(id="01jrun0000000000000000abcd", target="ada/message", state="parked", reason="doubt")],
)


def test_a_page_says_everything_in_the_order_in_which_it_is_needed() -> None:
    assert (
        postmortem(FULL, T0 + 600_000)
        == """# ada: its configuration is not valid

**Open** since 2027-01-15 08:00:00 UTC (10m 00s) · critical · rung 4 of 4 (a person) · incident 01jtrouble01

ada: gateway.port is not a number.

**Next:** `relit agent edit ada`

## Impact

does not answer

## Exit

exit code 78

## Timeline (UTC)

| time | what | outcome | took |
| --- | --- | --- | --- |
| 08:00:00 | its configuration is not valid (exit code 78) |  |  |
| 08:01:01 | put its configuration back | a.json as in 41 | 2.1s |
| 08:01:05 | ready again |  |  |

## What relit did

| action | outcome | took |
| --- | --- | --- |
| put its configuration back | a.json as in 41 | 2.1s |

## Effects in doubt

Nobody knows whether these happened:

- send_mail: `relit effects resolve 0000abcd 3 --done|--not-done`

## Unfinished runs

| run | workflow | state | reason |
| --- | --- | --- | --- |
| 0000abcd | ada/message | parked | doubt |

## Memory

`▁█▅` 100M to 300M (at 07:59:59), last 200M; 07:59:58 to 08:00:00

## What was changed in its configuration

`config.json`

```diff
-"port": 1
+"port": "x"
```

## Last log lines

```text
starting
Error: gateway.port
```
"""
    )


def test_what_nobody_knows_takes_no_room() -> None:
    page = postmortem(trouble(title="", rung=1, severity="info"), T0 + 1000)
    assert page == (
        "# ada\n\n**Open** since 2027-01-15 08:00:00 UTC (1.0s) · info · rung 1 of 4 (restart)"
        " · incident 01jtrouble01\n\nada: nobody knows why.\n"
    )


def test_what_is_over_says_how_long_it_took() -> None:
    page = postmortem(trouble(resolved_at=T0 + 90_000), T0 + 10**9)
    assert "**Resolved** after 1m 30s; it began 2027-01-15 08:00:00 UTC" in page
    assert "It is over." in page


def test_times_are_the_readers() -> None:
    page = postmortem(FULL, T0, timezone(timedelta(hours=1), "CET"))
    assert "since 2027-01-15 09:00:00 CET" in page
    assert "| 09:01:01 | put" in page


def test_a_trouble_of_several_days_shows_the_date() -> None:
    later = [IncidentEntry(at=T0 + 86_400_000, what="still")]
    assert "| 01-16 08:00:00 | still |" in postmortem(trouble(timeline=later), T0)


def test_a_curve_has_its_lowest_and_its_highest() -> None:
    assert sparkline([]) == ""
    assert sparkline([5, 5]) == "▁▁"
    assert sparkline([0, 7, 3.5, 0]) == "▁█▅▁"


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=300), st.integers(1, 60))
def test_a_curve_fits_and_keeps_its_peak(values: list[int], width: int) -> None:
    curve = sparkline(values, width)
    assert len(curve) == min(width, len(values))
    assert set(curve) <= set(BARS)
    assert len(set(curve)) == 1 or BARS[-1] in curve


words = st.text(max_size=40) | st.sampled_from(["```", "a|b", "\x1b[31mred", "# not a heading", "\u202etfel", "\ud800"])
entries = st.builds(
    IncidentEntry,
    at=st.integers(-(2**60), 2**60),
    what=words,
    outcome=words,
    took_ms=st.none() | st.integers(-5, 2**50),
)
troubles = st.builds(
    IncidentDetail,
    id=words,
    agent=words,
    instance=words,
    opened_at=st.integers(-(2**60), 2**60),
    resolved_at=st.none() | st.integers(-(2**60), 2**60),
    severity=st.sampled_from(["info", "warning", "critical"]),
    rung=st.integers(0, 9),
    title=words,
    cause=words,
    impact=words,
    exit=words,
    timeline=st.lists(entries, max_size=4),
    memory=st.lists(st.tuples(st.integers(-(2**60), 2**60), st.integers(0, 2**50)), max_size=9),
    log=st.lists(words, max_size=4),
    config=st.dictionaries(words, words, max_size=2),
    next=words,
    effects=st.lists(st.builds(IncidentEffect, run=words, pos=words, name=words), max_size=2),
    runs=st.lists(st.builds(IncidentRun, id=words, target=words, state=st.just("parked"), reason=words), max_size=2),
)


@given(troubles, st.integers(0, 2**42))
def test_whatever_an_agent_writes_the_page_stays_a_page(incident: IncidentDetail, now: int) -> None:
    page = postmortem(incident, now)
    page.encode()
    lines = page.splitlines()
    assert all(line.isprintable() for line in page.split("\n"))
    headings = [line for line in _outside(lines) if line.startswith("#")]
    assert [line for line in headings if line.startswith("## ")] == headings[1:]
    for table in _tables(_outside(lines)):
        assert len({_cells(row) for row in table}) == 1


def _outside(lines: list[str]) -> list[str]:
    """Lines outside of fences; fails when one is never closed."""
    found: list[str] = []
    fence = ""
    for line in lines:
        if fence:
            fence = "" if line == fence else fence
        elif match := re.fullmatch(r"(`{3,})(text|diff)", line):
            fence = match[1]
        else:
            found.append(line)
    assert not fence
    return found


def _tables(lines: list[str]) -> list[list[str]]:
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("| ") and line.endswith(" |"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    return [table for table in tables if table]


def _cells(row: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", row))
