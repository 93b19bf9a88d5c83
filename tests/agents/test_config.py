from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.agents import adoption, config
from relit.agents.checks import hermes, openclaw
from relit.agents.config import keep, matching, texts
from relit.agents.kind import Kind, builtin
from relit.control.care import ConfigFile, Format


def file(path: str = "state/c.json", form: Format = "json5", **keep: object) -> ConfigFile:
    return ConfigFile(path=path, format=form, keep=dict(keep))


def put(home: Path, path: str, text: str) -> Path:
    place = home / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def test_only_what_differs_is_written(tmp_path: Path) -> None:
    wanted = ConfigFile(path="c.json", format="json5", keep={"gateway.port": 7})
    place = put(tmp_path, "c.json", "// mine\n{gateway: {port: 7, mode: 'local'},}\n")
    assert config.fit(tmp_path, [wanted]) == ""
    assert place.read_text().startswith("// mine")
    put(tmp_path, "c.json", "{gateway: {port: 8, mode: 'local'},}\n")
    assert config.fit(tmp_path, [wanted]) == ""
    assert json.loads(place.read_text()) == {"gateway": {"port": 7, "mode": "local"}}


def test_comments_of_yaml_stay(tmp_path: Path) -> None:
    place = put(tmp_path, "c.yaml", "# mine\nmodel:\n  default: x  # this one\nother: [1, 2]\n")
    assert config.fit(tmp_path, [ConfigFile(path="c.yaml", format="yaml", keep={"model.base_url": "http://l"})]) == ""
    assert place.read_text() == "# mine\nmodel:\n  default: x  # this one\n  base_url: http://l\nother: [1, 2]\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "it is not JSON5"), ("", "it is not JSON5"), ("[1]", "list"), ("null", "empty"), ("\udcff", "utf-8")],
)
def test_what_cannot_be_read_is_told_and_left(tmp_path: Path, text: str, why: str) -> None:
    place = put(tmp_path, "c.json", "")
    place.write_bytes(text.encode(errors="surrogateescape"))
    assert why in config.fit(tmp_path, [file("c.json", port=1)])
    assert place.read_bytes() == text.encode(errors="surrogateescape")


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    assert config.fit(tmp_path, [file(port=1)]) == "state/c.json is gone"


def test_a_first_one_is_made_of_what_is_relied_on(tmp_path: Path) -> None:
    config.make(tmp_path, ConfigFile(path="state/c.json", format="json5", keep={"gateway.mode": "local", "a.b.c": 1}))
    made = tmp_path / "state" / "c.json"
    assert json.loads(made.read_text()) == {"gateway": {"mode": "local"}, "a": {"b": {"c": 1}}}
    assert made.stat().st_mode & 0o777 == 0o600


def test_mode_stays_when_a_file_is_written(tmp_path: Path) -> None:
    place = put(tmp_path, "c.json", "{}")
    place.chmod(0o640)
    config.fit(tmp_path, [file("c.json", port=1)])
    assert place.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("what", ["file", "folder", "fifo", "big"])
def test_nothing_is_read_or_written_through_what_an_agent_put_there(tmp_path: Path, what: str) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "state").mkdir(parents=True)
    outside.mkdir()
    (outside / "c.json").write_text("{}")
    if what == "file":
        (home / "state" / "c.json").symlink_to(outside / "c.json")
    elif what == "folder":
        (home / "state").rmdir()
        (home / "state").symlink_to(outside)
    elif what == "fifo":
        os.mkfifo(home / "state" / "c.json")
    else:
        (home / "state" / "c.json").write_bytes(b" " * (config.LARGEST + 1))
    assert config.fit(home, [file(port=1)]) != ""
    assert (outside / "c.json").read_text() == "{}"


def test_keys_lead_into_lists_and_stand_for_all_entries() -> None:
    tree: dict[str, Any] = {"rooms": [{"id": "a"}, {"id": "b", "beat": {"every": "1m"}}], "odd": [], "by": {"x": {}}}
    assert texts(tree) == [("rooms.0.id", "a"), ("rooms.1.id", "b"), ("rooms.1.beat.every", "1m")]
    assert keep(tree, {"rooms.0.id": "c", "rooms.*.beat.every": "0m", "by.*.beat.every": "0m", "gone.*.beat.every": 1})
    assert tree["rooms"] == [{"id": "c"}, {"id": "b", "beat": {"every": "0m"}}]
    assert tree["by"] == {"x": {}}
    assert "gone" not in tree
    assert keep(tree, {"odd.mode": "local", "rooms.7.id": "d"}), "a list where a table is wanted is replaced"
    assert (tree["odd"], len(tree["rooms"])) == ({"mode": "local"}, 2), "and nothing is added to one"
    found = matching(tree, "by.*.beat")
    assert [(key, entry) for key, entry in found] == [("by.x.beat", {})]


def test_hermes_must_have_the_types_that_it_uses() -> None:
    assert hermes({"model": "m", "mcp_servers": {"a": {"url": "http://x"}}, "unknown": 1}) == []
    assert hermes({"model": ["m"], "mcp_servers": {"a": 1}}) == [
        "model must be text or a table, not a list",
        "mcp_servers.a must be a table, not a number",
    ]


def test_openclaw_must_have_a_mode() -> None:
    assert openclaw({"gateway": {"mode": "local"}}) == []
    assert openclaw({"gateway": 3}) == openclaw({}) != []


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(tree=st.dictionaries(st.text(), JSON), key=st.lists(st.sampled_from("abc"), min_size=1, max_size=3), value=JSON)
def test_what_was_kept_is_there_and_keeping_it_again_changes_nothing(
    tree: dict[str, object], key: list[str], value: object
) -> None:
    config.keep(tree, {".".join(key): value})
    found: object = tree
    for part in key:
        assert isinstance(found, dict)
        found = found[part]
    assert found == value
    assert not config.keep(tree, {".".join(key): value})


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_never_breaks_anything(data: bytes) -> None:
    for form in ("json", "json5", "yaml"):
        with contextlib.suppress(config.Unreadable):
            assert isinstance(config.load(data, form), dict)


@pytest.mark.parametrize(
    "text", ["a: !!omap 5", "model: &a {<<: *a}", "a: !!timestamp x", "? [1, {b: *c}]", "a: !!set 7"]
)
def test_what_breaks_the_parser_itself_is_refused_as_well(text: str) -> None:
    with pytest.raises(config.Unreadable):
        config.load(text.encode(), "yaml")


# --- whatever an agent has made of its configuration ---------------------------------------------------------------

KINDS = builtin()
USED = sorted(
    {
        part
        for kind in KINDS.values()
        for made in kind.config
        for key in made.file(model=True, silent=True, tools=True, strict=True).keep
        for part in key.split(".")
        if part != "*"
    }
    | {"channels", "workspace", "list", "id", "telegram", "0"}
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(USED), inner))


@given(tree=st.dictionaries(st.sampled_from(USED), TREES), kind=st.sampled_from([*KINDS.values()]))
def test_whatever_it_says_it_can_be_made_to_say_what_relit_relies_on(tree: dict[str, Any], kind: Kind) -> None:
    wanted = kind.config[0].file(model=True, silent=True, tools=True, strict=True).keep
    keep(tree, wanted)
    assert not keep(tree, wanted)
    texts(tree)
    assert kind.adopt is not None
    adoption.named(tree, kind.adopt.folders)
    for each in kind.channels:
        matching(tree, each)


@pytest.mark.parametrize("said", ["3", '"text"', "true", "null", "[3]", '{"a": 3}'])
def test_it_starts_though_where_tables_of_agents_belong_is_rubbish(tmp_path: Path, said: str) -> None:
    made = KINDS["openclaw"].config[0].file(model=False, silent=False)
    for table in ("entries", "list"):
        put(tmp_path, made.path, f'{{"gateway": {{"mode": "local"}}, "agents": {{"{table}": {said}}}}}')
        assert config.fit(tmp_path, [made]) == ""
