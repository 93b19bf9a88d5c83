"""``doctor``: looks at everything, and says what mends it."""

from __future__ import annotations

import click

from relit.cli.exits import CONFIG, DEGRADED, OK
from relit.cli.session import Session, pass_session


@click.command()
@click.option("--deep", is_flag=True, help="Read the whole database, too (slow when it is large).")
@pass_session
def doctor(session: Session, deep: bool) -> int:
    """Check everything, and say what mends it. Exit code 3 when something is wrong, 78 for the configuration;
    what is only to be known (`info`) is no trouble."""
    from relit.cli.checks import examine

    report = examine(session, deep)
    screen = session.screen
    if screen.as_json:
        screen.json(report)
    else:
        for finding in report.findings:
            screen.line(f"{screen.state(finding.severity)}  {finding.message}")
            if finding.path:
                screen.line(f"    where: {finding.path}")
            screen.line(f"    fix: {finding.fixHint}")
        skipped = f", {len(report.checksSkipped)} skipped" if report.checksSkipped else ""
        screen.line(f"{len(report.checksRun)} checks, {len(report.findings)} findings{skipped}")
    if any(finding.checkId == "config" for finding in report.findings):
        return CONFIG
    return OK if report.ok else DEGRADED
