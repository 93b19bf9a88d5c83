"""Draw the cost per step over a growing history: ``python bench/durable/curve.py RESULT.json FOLDER``.

Writes ``growth.md`` and ``growth.svg`` into FOLDER from the JSON that ``main.py`` left (``.bench/durable.json``).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 720, 300, 60, 40, 40, 20
LINES = (("cpu_us_per_step", "CPU", "#2563eb"), ("wall_us_per_step", "wall clock", "#d97706"))


def highest(points: Sequence[dict[str, float]]) -> float:
    """The top of the scale: the next 20 µs above every value."""
    most = max(point[key] for point in points for key, _, _ in LINES)
    return (most // 20 + 1) * 20


def place(point: dict[str, float], key: str, widest: float, top: float) -> tuple[float, float]:
    """A point's place in the picture."""
    across = LEFT + point["steps"] / widest * (WIDTH - LEFT - RIGHT)
    return round(across, 1), round(HEIGHT - BOTTOM - point[key] / top * (HEIGHT - BOTTOM - TOP), 1)


def grid(top: float, widest: float) -> list[str]:
    """Axis lines with their numbers."""
    parts = []
    for part in range(5):
        value, share = top * part / 4, part / 4
        y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
        x = LEFT + share * (WIDTH - LEFT - RIGHT)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#d4d4d8"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.0f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{widest * share:,.0f}</text>')
    return parts


def picture(points: Sequence[dict[str, float]]) -> str:
    """The SVG."""
    top, widest = highest(points), points[-1]["steps"]
    parts = grid(top, widest)
    for number, (key, name, colour) in enumerate(LINES):
        path = " ".join(f"{x},{y}" for x, y in (place(point, key, widest, top) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 10 + number * 110}" y="14" fill="{colour}">{name}, µs a step</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="#52525b">\n'
        f"<title>Cost per step while one run's history grows</title>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def page(result: dict[str, Any]) -> str:
    """The markdown: what was done, the picture, the numbers."""
    points, machine = result["growth"], result["machine"]
    lines = [f"| {point['steps']:,} | {point['cpu_us_per_step']} | {point['wall_us_per_step']} |" for point in points]
    return "\n".join(
        [
            "# Cost per step as history grows",
            "",
            f"One run of {points[-1]['steps']:,} steps with 1 KB results, a hundred at once, on SQLite. Each line is "
            "the mean over the steps since the line before; CPU is that of the whole worker process.",
            "",
            "![CPU and wall clock per step](growth.svg)",
            "",
            "| steps so far | CPU, µs a step | wall clock, µs a step |",
            "|---:|---:|---:|",
            *lines,
            "",
            f"Measured by `make bench-durable` on {machine['cores']} cores, Python {machine['python']}, one fsync "
            f"{machine['fsync_p50_ms']} ms.",
            "",
        ]
    )


def main() -> None:
    """Read the result, write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    result = json.loads(asked.result.read_text())
    if not result.get("growth"):
        raise SystemExit(f"{asked.result} has no curve: it comes from a full run, without QUICK and --only")
    (asked.folder / "growth.svg").write_text(picture(result["growth"]))
    (asked.folder / "growth.md").write_text(page(result))


if __name__ == "__main__":
    main()
