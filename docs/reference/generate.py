"""Write the reference pages that come from the code: `python docs/reference/generate.py` (or `make docs`)."""

from __future__ import annotations

from pathlib import Path

from relit import errors, events

HERE = Path(__file__).parent

EVENTS = """# Events

Everything that happens has a name, `noun.verb`. The log, the live stream (`GET /v1/events`, `relit tail`), outgoing
webhooks and the metrics are views of these events; a store writes an event in the transaction that makes it true.

Each event has an `id` (it grows; pass the last one you saw to go on after it), `at` (milliseconds since 1970), `name`,
and where they apply `agent`, `run` and `data`.

| event | when, and what `data` holds |
|---|---|
"""

ERRORS = """# Errors

Every error says what was attempted, why it failed and what to do next, and carries a stable code. `relit explain CODE`
prints the line below. **Retry** says whether doing the same thing again can help.

| code | class | retry | meaning |
|---|---|---|---|
"""

FOOT = "\n_This page is written from the code by `make docs`; a test compares them._\n"


def events_page() -> str:
    """The page of all events."""
    lines = [f"| `{name}` | {text} |" for name, text in events.CATALOGUE.items()]
    return EVENTS + "\n".join(lines) + "\n" + FOOT


def errors_page() -> str:
    """The page of all errors."""
    lines = []
    for code, cls in sorted(errors.by_code().items()):
        if cls.__name__.startswith("_"):
            continue
        meaning = (cls.__doc__ or "").strip().splitlines()[0].replace("``", "`")
        lines.append(f"| `{code}` | `{cls.__name__}` | {'yes' if cls.retry else 'no'} | {meaning} |")
    return ERRORS + "\n".join(lines) + "\n" + FOOT


PAGES = {"events.md": events_page, "errors.md": errors_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
