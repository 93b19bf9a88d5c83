"""Files of variables: read as their agents read them, made to say what relit says, and nothing else in them touched."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import string
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.agents import adoption, env_file
from relit.agents.adapter import Place, env_file_of
from relit.agents.adapter import fit as fitted
from relit.agents.door import Door
from relit.agents.env_file import assigned, kept, restored, spelled
from relit.agents.kind import builtin
from relit.control.care import EnvFile, Ladder

PACKAGES = [*(Path(__file__).parents[2] / ".bench/runtimes/hermes").glob("*/venv/lib/python*/site-packages")]
with_hermes = pytest.mark.skipif(not PACKAGES, reason="no Hermes is installed: make test-agents")
HERMES = builtin()["hermes"]
WANTED = {"API_SERVER_PORT": "20001", "API_SERVER_KEY": "of-relit", "API_SERVER_HOST": "127.0.0.1"}
FILE = EnvFile(path="home/.env", keep=WANTED)
MINE = """# what I pay for
OPENROUTER_API_KEY=sk-or-1   # not yours
export API_SERVER_PORT=8642  # the API

API_SERVER_KEY="k" # mine
 API_SERVER_HOST = 0.0.0.0
# API_SERVER_PORT=1
TEXT='a
API_SERVER_PORT=2'
API_SERVER_PORT_OLD=3\r
API_SERVER_KEY
"""
OURS = """# what I pay for
OPENROUTER_API_KEY=sk-or-1   # not yours
export API_SERVER_PORT=20001  # the API

API_SERVER_KEY=of-relit # mine
 API_SERVER_HOST = 127.0.0.1
# API_SERVER_PORT=1
TEXT='a
API_SERVER_PORT=2'
API_SERVER_PORT_OLD=3\r
API_SERVER_KEY
"""


def put(home: Path, text: str | bytes) -> Path:
    file = home / "home" / ".env"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def pairs(text: str) -> list[tuple[str, str]]:
    return [(each.name, each.value) for each in assigned(text)]


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=8642  # the API", "8642"),
        ('X="k" # mine', "k"),
        ("export X='a # b'# c", "a # b"),
        ("X=a#b", "a#b"),
        ("  X  =  a b  ", "a b"),
        (r'X="a\"b\n"', 'a"b\n'),
        (r"X='a\'b\n'", r"a'b\n"),
        ("'X'=1", "1"),
        ("X=", ""),
        ("\ufeffX=1", "1"),
        ("X='a\nb'", "a\nb"),
        ("X=1\nX=2", "2"),
        ('X=1\nX="2', "1"),
        ("X=caf\xe9", "caf\xe9"),
    ],
)
def test_values_are_read_without_quotes_and_remarks(tmp_path: Path, line: str, value: str) -> None:
    put(tmp_path, f"{line}\nY=other\n")
    assert env_file.said(tmp_path, "home/.env") == {"X": value, "Y": "other"}


@pytest.mark.parametrize("line", ["# X=1", "X", "X 1", "X='1", "X='1' 2", "=1", "", "#X=1\n'X\n=1"])
def test_lines_that_give_no_value_are_passed_over(line: str) -> None:
    assert dict(pairs(f"{line}\nY=other")).keys() - {"Y"} == set()


def test_the_door_of_an_installation_is_read_despite_its_remarks(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(MINE)
    assert HERMES.adopt is not None
    assert adoption.port_of(tmp_path, HERMES.adopt, {}, "api") == 8642
    assert adoption.door_said(tmp_path, {}, ".env:API_SERVER_KEY") == "k"


@pytest.mark.parametrize("port", ["²", "0" * 5000 + "1", "-1", "70000", "1.5", "# none"])
def test_what_is_no_port_counts_as_none(tmp_path: Path, port: str) -> None:
    (tmp_path / ".env").write_text(f"API_SERVER_PORT={port}\n")
    assert HERMES.adopt is not None
    assert adoption.port_of(tmp_path, HERMES.adopt, {}, "api") is None


# --- writing ------------------------------------------------------------------------------------------------------


def test_it_says_what_relit_says_and_all_else_stays(tmp_path: Path) -> None:
    file = put(tmp_path, MINE)
    file.chmod(0o600)
    assert env_file.fit(tmp_path, FILE) == ""
    assert file.read_bytes() == OURS.encode()
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(file.parent) == [".env"]


def test_what_says_it_already_is_not_written(tmp_path: Path) -> None:
    file = put(tmp_path, "API_SERVER_PORT='20001' # so it was\n")
    before = file.stat()
    assert env_file.fit(tmp_path, FILE) == ""
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_none_is_made_where_there_is_none(tmp_path: Path) -> None:
    assert env_file.fit(tmp_path, FILE) == ""
    (tmp_path / "home").mkdir()
    assert env_file.fit(tmp_path, FILE) == ""
    assert [*tmp_path.rglob("*")] == [tmp_path / "home"]


@pytest.mark.parametrize("what", ["link", "folder", "pipe", "big", "directory"])
def test_what_an_agent_put_in_its_place_is_left_and_told_where_it_says_otherwise(tmp_path: Path, what: str) -> None:
    home, outside = tmp_path / "agent", tmp_path / "outside"
    (home / "home").mkdir(parents=True)
    outside.mkdir()
    (outside / ".env").write_bytes(MINE.encode())
    place = home / "home" / ".env"
    match what:
        case "link":
            place.symlink_to(outside / ".env")
        case "folder":
            place.parent.rmdir()
            place.parent.symlink_to(outside)
        case "pipe":
            os.mkfifo(place)
        case "big":
            place.write_text("API_SERVER_PORT=1\n" + " " * env_file.LARGEST)
        case _:
            place.mkdir()
    before = place.lstat()
    linked = what in ("link", "folder")
    assert env_file.said(home, "home/.env") == (env_file.said(outside, ".env") if linked else {})
    assert (adoption.door_said(home, {}, "home/.env:API_SERVER_PORT") is not None) == linked
    assert ("a link leads to it, and API_SERVER_PORT" in env_file.fit(home, FILE)) == linked
    assert (outside / ".env").read_bytes() == MINE.encode()
    assert (place.lstat().st_ino, place.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_what_an_agent_put_in_the_way_of_a_draft_is_replaced(tmp_path: Path, what: str) -> None:
    file, outside = put(tmp_path, MINE), tmp_path / "outside"
    outside.write_text("mine")
    draft = file.with_name("..env.relit-new")
    os.mkfifo(draft) if what == "pipe" else os.link(outside, draft)
    assert env_file.fit(tmp_path, FILE) == ""
    assert file.read_bytes() == OURS.encode()
    assert outside.read_text() == "mine"


def test_why_it_could_not_be_written_is_told(tmp_path: Path) -> None:
    put(tmp_path, MINE).with_name("..env.relit-new").mkdir()
    assert env_file.fit(tmp_path, FILE).startswith("home/.env: ")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", [" ", "A=" + " ", "A='\\'", 'A="\n', "'\n", "A='\n'", "export ", "A", "\\"])
def test_no_text_takes_long(text: str) -> None:
    data = (text * env_file.LARGEST)[: env_file.LARGEST].encode()
    assert kept(data + b"#", WANTED) == data + b"#"
    assert kept(b"A=" + data, WANTED) == b"A=" + data


NAMES = [*WANTED, "OTHER", "API_SERVER_PORT_OLD"]
VALUES = st.text("ab/ #'\"\\$é", max_size=5)
LINES = st.one_of(
    st.text("ab =#'\"\\\n\r\t", max_size=12),
    st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", " ", "export ", "\n"]),
        st.sampled_from([*NAMES, *(f"'{each}'" for each in NAMES)]),
        st.sampled_from(["=", " = ", "", "=\t"]),
        st.one_of(VALUES, VALUES.map(lambda each: f"'{each}'"), VALUES.map(lambda each: f'"{each}"')),
        st.sampled_from(["", " # a remark", "# a remark", "  ", " 'x'"]),
    ),
)
TEXTS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\n\n"]))).map(
    lambda lines: "".join(line + end for line, end in lines)
)


def rest(text: str) -> list[str]:
    """All of it but the values of what is wanted."""
    pieces, done = [], 0
    for each in assigned(text):
        if each.name in WANTED:
            pieces.append(text[done : each.start])
            done = each.end
    return [*pieces, text[done:]]


@given(text=TEXTS, codec=st.sampled_from(["utf-8", "latin-1"]))
def test_every_variable_of_relits_says_so_and_everything_else_stays_byte_by_byte(text: str, codec: str) -> None:
    made = kept(text.encode(codec), WANTED).decode(codec)
    assert pairs(made) == [(name, WANTED.get(name, value)) for name, value in pairs(text)]
    assert rest(made) == rest(text)
    assert kept(made.encode(codec), WANTED).decode(codec) == made


@given(text=TEXTS, value=st.text(string.printable + "é\u2028", max_size=6))
def test_whatever_the_value_no_other_variable_changes(text: str, value: str) -> None:
    wanted = WANTED | {"API_SERVER_KEY": value}
    made = kept(text.encode(), wanted).decode()
    others = [(name, said) for name, said in pairs(text) if name not in WANTED]
    assert [(name, said) for name, said in pairs(made) if name not in WANTED] == others
    assert "".join(rest(made)) == "".join(rest(text))


@given(st.binary(max_size=200))
def test_rubbish_breaks_nothing(data: bytes) -> None:
    kept(data, WANTED)


@given(st.text(max_size=8))
def test_a_value_is_spelled_so_that_it_is_read_as_itself(value: str) -> None:
    text = spelled(value)
    assert text is None or pairs(f"X={text}") == [("X", value)]


@pytest.mark.parametrize("value", ["${HOME}", "a\nb"])
def test_what_such_a_file_cannot_say_is_not_said(value: str) -> None:
    assert spelled(value) is None
    assert kept(b"API_SERVER_KEY=old\n", {"API_SERVER_KEY": value}) == b"API_SERVER_KEY=old\n"


def test_a_quote_never_closes_one_that_an_earlier_line_left_open() -> None:
    text = b"A='open\nB=1\nexport API_SERVER_KEY=old\n"
    assert kept(text, {"API_SERVER_KEY": " # x"}) == text
    assert kept(text, WANTED) == text.replace(b"old", b"of-relit")


# --- and back -----------------------------------------------------------------------------------------------------


@given(TEXTS)
def test_what_was_written_comes_back(text: str) -> None:
    was: dict[str, list[str]] = {}
    for each in assigned(text):
        was.setdefault(each.name, []).append(text[each.start : each.end])
    made = restored(kept(text.encode(), WANTED), WANTED, was).decode()
    assert pairs(made) == pairs(text)
    assert rest(made) == rest(text)


def test_what_was_there_is_written_again_but_not_over_what_came_since(tmp_path: Path) -> None:
    file = put(tmp_path, MINE)
    was = env_file.written(tmp_path, "home/.env", WANTED)
    assert was == {"API_SERVER_PORT": ["8642"], "API_SERVER_KEY": ['"k"'], "API_SERVER_HOST": ["0.0.0.0"]}
    env_file.fit(tmp_path, FILE)
    put(tmp_path, OURS.replace("127.0.0.1", "::1") + "NEW=1\n")
    assert env_file.undo(tmp_path, "home/.env", WANTED, was) == ["API_SERVER_PORT", "API_SERVER_KEY"]
    assert file.read_bytes().decode() == MINE.replace("0.0.0.0", "::1") + "NEW=1\n"


# --- kinds --------------------------------------------------------------------------------------------------------


def place(**more: str) -> Place:
    made = {"name": "ann", "home": "/srv/ann/home", "tmp": "/srv/ann/tmp", "runtime": "/opt/hermes"} | more
    door = Door(ports={"api": 20001}, tokens={"api": "of-relit", "model": "m"})
    return Place(**made, door=door)


def test_all_variables_of_a_kind_are_kept_in_its_file() -> None:
    care = fitted("hermes", HERMES, place(), ladder=Ladder()).care
    assert care.env_file is not None
    assert care.env_file.path == "home/.env"
    assert care.env_file.keep.keys() == HERMES.env.keys()
    assert {name: care.env_file.keep[name] for name in WANTED} == WANTED
    assert env_file_of(builtin()["openclaw"], place()) is None


# --- against python-dotenv, which Hermes reads it with --------------------------------------------------------------


@pytest.fixture(scope="module")
def parser() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dotenv_parser", PACKAGES[0] / "dotenv" / "parser.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@with_hermes
@given(text=TEXTS)
def test_it_is_read_as_python_dotenv_reads_it(parser: ModuleType, text: str) -> None:
    bindings = [*parser.parse_stream(io.StringIO(text))]
    assert pairs(text) == [(each.key, each.value) for each in bindings if each.key and each.value is not None]


@with_hermes
def test_hermes_own_loader_finds_what_relit_says(tmp_path: Path) -> None:
    made = fitted("hermes", HERMES, place(home=f"{tmp_path}/a home", tmp=f"{tmp_path}/tmp"), ladder=Ladder())
    assert made.care.env_file is not None
    home = Path(made.care.home)
    home.mkdir()
    put(home, MINE + "HOME=/root\nHERMES_HOME='/root/.hermes'# as it was\nTELEGRAM_BOT_TOKEN=t # a channel\n")
    assert env_file.fit(home, made.care.env_file) == ""
    program = (
        "import json, os; from hermes_cli.env_loader import load_hermes_dotenv; load_hermes_dotenv(); "
        "print(json.dumps(dict(os.environ)))"
    )
    python = PACKAGES[0].parents[2] / "bin" / "python"
    done = subprocess.run(
        [python, "-c", program], env={"PATH": os.defpath, **made.env}, capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert {name: told[name] for name in made.env} == made.env
    assert told["TELEGRAM_BOT_TOKEN"] == "t"
