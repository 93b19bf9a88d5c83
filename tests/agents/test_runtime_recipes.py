"""What a kind needs: recipes, ranges of versions, and what failures say."""

from __future__ import annotations

import pytest

from relit.agents.recipes import Recipe, kind_table, kinds, recipe_of
from relit.agents.runtime_failures import SHOWN, is_network, tool_failed
from relit.agents.versions import fits, numbers
from relit.errors import ConfigError, NotFound


def test_each_kind_that_relit_brings_has_a_recipe() -> None:
    found = {kind: recipe_of(kind_table(kind)) for kind in kinds()}
    assert {kind: recipe.kind for kind, recipe in found.items()} == {"hermes": "hermes", "openclaw": "openclaw"}
    assert found["openclaw"].npm_packages == ["openclaw@2026.9.6"]
    assert found["hermes"].pip_packages == ["hermes-agent[mcp,cron]==0.19.0", "aiohttp==3.14.1"]
    assert found["hermes"].pip_pinned == ["hermes-agent"]


def test_another_version_may_be_named() -> None:
    assert recipe_of(kind_table("openclaw"), "2026.10.1").npm_packages == ["openclaw@2026.10.1"]


def test_a_kind_without_recipe_is_not_found() -> None:
    with pytest.raises(NotFound, match="hermes, openclaw"):
        kind_table("../openclaw")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mpn": ["x"]}, "no key mpn"),
        ({"version": "../../etc"}, "is not a version"),
        ({"version": ".hidden"}, "is not a version"),
        ({"kind": "a/b"}, "is not a kind"),
        ({"node": "24"}, "is not a range"),
        ({"pip": "x"}, r"\$.pip"),
        ({"npm": ["x"]}, "npm needs"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe_of({"install": {"kind": "x", "version": "1", **change}})


def test_scoped_packages_are_pinned_by_their_whole_name() -> None:
    recipe = Recipe("x", "1.0", node=">=1", npm=["@a/b@{version}", "c@2"], pip=["D_e.f[g]>={version}", "h"])
    assert recipe.npm_pinned == ["@a/b"]
    assert recipe.pip_pinned == ["d-e-f"]


@pytest.mark.parametrize(
    ("wanted", "version", "fit"),
    [
        ("", "1", True),
        (">=24.16,<25", "24.16.0", True),
        (">=24.16,<25", "24.15.9", False),
        (">=24.16, <25", "25.0.0", False),
        ("==3.11", "3.11.0", True),
        ("!=3.11,>3", "3.11", False),
        (">3.9,<=3.12", "3.12.0.post1", True),
        (">=3.9", "3.13.0rc1", True),
    ],
)
def test_a_range_holds_versions(wanted: str, version: str, fit: bool) -> None:
    assert fits(wanted, version) is fit


def test_versions_count_by_their_numbers() -> None:
    assert max(["24.9.1", "24.19.0", "24.2"], key=numbers) == "24.19.0"
    with pytest.raises(ValueError, match="not a version"):
        numbers("latest")


@pytest.mark.parametrize(
    "line",
    [
        "npm error code ECONNREFUSED",
        "npm error code E503",
        "npm error network request to http://x failed, reason: getaddrinfo EAI_AGAIN x",
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/x/",
        "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x', port=443): Read timed out.",
        "ERROR: HTTP error 502 while getting http://x",
        "ERROR: Could not install packages due to an OSError: Temporary failure in name resolution",
    ],
)
def test_a_network_failure_is_known_by_what_the_tool_says(line: str) -> None:
    assert is_network(["something", line, "something else"])


@pytest.mark.parametrize(
    "line",
    [
        "npm error code ETARGET",
        "npm error notarget No matching version found for openclaw@9.",
        "ERROR: No matching distribution found for hermes-agent==9",
        "npm error code ENOSPC",
        "Downloading E5000-1.0.whl",
    ],
)
def test_other_failures_do_not_ask_for_another_try(line: str) -> None:
    assert not is_network([line])


def test_a_failure_tells_the_tool_its_end_its_last_lines_and_the_next_command() -> None:
    lines = [f"line {number}" for number in range(40)]
    error = tool_failed(Recipe("x", "1"), "npm", 7, lines)
    assert str(error).splitlines() == [
        "could not install x 1: npm ended with 7",
        f"why: line {40 - SHOWN}",
        *lines[41 - SHOWN :],
        "fix: run the same command again once that is mended",
    ]
    assert "ended by signal 9" in tool_failed(Recipe("x", "1"), "npm", -9, []).what
