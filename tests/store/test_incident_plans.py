"""How SQLite finds incidents and alerts: by what is open, however long the past is."""

from __future__ import annotations

import pytest
from test_catalog_plans import plans


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("incidents_all", "SCAN incidents USING INDEX incidents_opened"),
        ("incidents_open", "SCAN incidents USING INDEX incidents_open"),
        ("incidents_of_agent", "SEARCH incidents USING INDEX incidents_agent (agent=?)"),
        ("forget_incidents", "SEARCH incidents USING INDEX incidents_resolved (resolved_at<?)"),
        ("alerts_live", "SCAN alerts USING INDEX alerts_live"),
        ("alert_close", "SEARCH alerts USING INDEX alerts_incident (incident=? AND channel=?)"),
        ("effects_of_agent", "SEARCH e USING INDEX effects_open (state=?)"),
    ],
)
def test_rows_are_found_by_the_index_made_for_them(name: str, step: str) -> None:
    assert step in plans()[name]


def test_lists_of_incidents_need_no_sorting() -> None:
    for name in ("incidents_all", "incidents_open", "incidents_of_agent"):
        assert not [step for step in plans()[name] if "ORDER BY" in step], name
