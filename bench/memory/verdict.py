"""What was promised. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AT_MOST: dict[str, float] = {
    "oom_kills": 0,
    "protected_lost": 0,
    "wake_frozen_p50_ms": 300,
    "frozen_mb": 60,
    "meter_cpu_pct": 0.5,
}
AT_LEAST: dict[str, float] = {
    "right_victim": 1.0,
    "ratio_density_stock": 5,
    "ratio_density_stock_swap": 1.5,
    "openclaw_in_4g": 25,
    "start_storm_efficiency": 0.9,
}


def missed(found: Mapping[str, Any]) -> list[str]:
    """The promises that were measured and not kept."""
    over = [name for name, most in AT_MOST.items() if found.get(name) is not None and found[name] > most]
    under = [name for name, least in AT_LEAST.items() if found.get(name) is not None and found[name] < least]
    return over + under


def promises(found: Mapping[str, Any]) -> str:
    """A line for each."""
    lines = ["| figure | value | promise | |", "|---|---:|---:|---|"]
    for sign, bounds in (("≤", AT_MOST), ("≥", AT_LEAST)):
        for name, bound in bounds.items():
            value = found.get(name)
            kept = "" if value is None else "kept" if name not in missed(found) else "**missed**"
            lines.append(f"| {name} | {'–' if value is None else f'{value:.4g}'} | {sign} {bound:g} | {kept} |")
    return "\n".join(lines)
