"""``[tools]``: what contradicts itself is told before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from relit import settings
from relit.app import house_tools, strict
from relit.errors import ConfigError
from relit.gateway.tools import own
from relit.settings.tools import OWN

GOOD = """
[tools.mail]
description = "Send a mail."
url = "https://api.example/v1/{box}/messages?v=1"
arguments = { box = { type = "string" }, text = { type = "string" } }
"""


def load(folder: Path, text: str) -> settings.Settings:
    (folder / "relit.toml").write_text(text)
    return settings.load(folder / "relit.toml", data=folder / "data")


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return caught.value.why


def test_a_tool_is_read(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD + '[agents.a]\nkind = "command"\ncommand = ["true"]\ngrants = ["tool:ma*"]\n')
    assert found.tools["mail"].method == "POST"
    assert found.granted == ["a"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("https://api.example", "https://{box}.example"), "a host that stands there"),
        (("https://api.example", "https://user@api.example"), "no key in it"),
        (("{box}", "{bax}"), "names {bax}"),
        (('{ type = "string" }', '{ type = "nope" }'), "is not a JSON Schema"),
        (("description", 'effect = "native-key"\ndescription'), "idempotency"),
        (("description", 'effect = "lookup"\ndescription'), "go together"),
        (("description", 'optional = ["box"]\ndescription'), "stands in the url"),
        (("description", 'query = ["nothing"]\ndescription'), "none of its arguments"),
        (("description", 'function = "a:b"\ndescription'), "exactly one of url and function"),
        (('description = "Send a mail."', ""), "a model must know"),
        (("tools.mail", "tools.shell"), "relit's own"),
    ],
)
def test_what_contradicts_itself_is_told(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert said in refused(tmp_path, GOOD.replace(*change))


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        (
            'kind = "command"\ncommand = ["true"]\ngrants = ["tool:mial"]',
            'there is no tool "mial"; did you mean tool:mail',
        ),
        ('kind = "command"\ncommand = ["true"]\ngrants = ["mail"]', "is not allowed"),
        ('kind = "command"\ncommand = ["true"]\ntools = "strict"', "has tools of its own"),
        ('entry = "a"\ngrants = ["tool:mail"]', "code written with the SDK"),
        ('kind = "command"\ncommand = ["true"]\npolicies = { mail = "perhaps" }', "allow | ask | deny"),
    ],
)
def test_what_an_agent_cannot_be_granted_is_told(tmp_path: Path, agent: str, said: str) -> None:
    assert said in refused(tmp_path, f"{GOOD}[agents.a]\n{agent}\n")


def test_relits_own_names_are_those_of_its_tools() -> None:
    made = [*house_tools._TOOLS, *strict._TOOLS, own._READ_RESULT]
    assert {each.name for each in made} == {*OWN}
