"""Configuration files of agents: read, checked, and made to say what relit relies on. The rest of them is not ours."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from relit.agents import place
from relit.agents.checks import CHECKS
from relit.control.care import ConfigFile, Format

if TYPE_CHECKING:
    from ruamel.yaml import YAML

LARGEST = 4 << 20


class Unreadable(ValueError):
    """A file that its agent could not read either."""


def fit(home: Path, files: Sequence[ConfigFile]) -> str:
    """Before a start: make each file say what it must. Answers what is wrong, a line for each file; empty for nothing.
    A file that is wrong is left as it is."""
    return "\n".join(said for file in files if (said := _fit(home, file)))


def check(home: Path, file: ConfigFile) -> str:
    """What is wrong with a file as it is; empty for nothing."""
    try:
        return wrong(file, read(home, file))
    except (OSError, ValueError) as error:
        return _told(file, error)


def _fit(home: Path, file: ConfigFile) -> str:
    try:
        tree = read(home, file)
        if faults := wrong(file, tree):
            return faults
        if keep(tree, file.keep):
            place.write(home, file.path, dump(tree, file.format))
        settle(home, file)
    except (OSError, ValueError) as error:
        return _told(file, error)
    return ""


def essence(file: ConfigFile, data: bytes) -> bytes | None:
    """What a file with this content makes an agent do, for comparing: with what relit sees to. ``None``: it is wrong,
    for all that can be said without the agent."""
    try:
        tree = load(data, file.format)
        if wrong(file, tree):
            return None
        keep(tree, file.keep)
    except ValueError:
        return None
    try:  # neither comments nor the order of keys count
        return json.dumps(tree, sort_keys=True, default=str).encode()
    except (TypeError, ValueError):  # keys that cannot be compared; a table within itself
        return dump(tree, file.format)


def settle(home: Path, file: ConfigFile) -> None:
    """See to what lies beside it. OSError."""
    for path in file.without:
        place.remove(home, path)
    for path, text in file.beside.items():
        if not place.says(home, path, text.encode()):
            place.write(home, path, text.encode())


def make(home: Path, file: ConfigFile) -> None:
    """Write a first one, of what relit relies on alone. OSError."""
    tree: dict[str, Any] = {}
    keep(tree, file.keep)
    place.write(home, file.path, dump(tree, file.format))
    settle(home, file)


def read(home: Path, file: ConfigFile) -> dict[str, Any]:
    """A file's content. OSError; ``Unreadable``."""
    return load(place.read(home, file.path, LARGEST), file.format)


def load(data: bytes, form: Format) -> dict[str, Any]:
    """Text in one of the formats as a tree. ``Unreadable``."""
    try:
        tree = _LOAD[form](data.decode())
    except Unreadable:
        raise
    except Exception as error:  # parsers of agents' texts raise whatever they like
        raise Unreadable(f"it is not {form.upper()}: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(tree, dict):
        raise Unreadable(f"it is not a table of settings but {'empty' if tree is None else type(tree).__name__}")
    return tree


def dump(tree: Mapping[str, Any], form: Format) -> bytes:
    """The tree as text. Comments in YAML stay; those in JSON5 do not."""
    if form == "yaml":
        text = io.BytesIO()
        _yaml().dump(tree, text)
        return text.getvalue()
    return json.dumps(tree, indent=2, ensure_ascii=False).encode() + b"\n"


def keep(tree: dict[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Make the tree say what is wanted, by dotted keys (in a list: the place of an entry that is there). Answers
    whether it did not yet."""
    changed = False
    for key, value in expanded(tree, wanted).items():
        parts = key.split(".")
        last, table = parts[-1], cast("Any", tree)
        for part, next in pairwise(parts):
            below = at(table, part)
            if not isinstance(below, dict) and not (isinstance(below, list) and next.isdecimal()):
                below = {}
                _put(table, part, below)
                changed = True
            table = below
        if at(table, last, _ABSENT) != value:
            _put(table, last, value)
            changed = True
    return changed


_ABSENT = object()


def expanded(tree: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """With a key of its own for each that one with ``*`` in it stands for: where the table that it is in is there."""
    found: dict[str, Any] = {}
    for key, value in wanted.items():
        above, _, last = key.rpartition(".")
        if "*" in above:
            tables = [made for made, _ in matching(tree, above) if isinstance(said(tree, made), dict)]
            found |= {f"{made}.{last}": value for made in tables}
        else:
            found[key] = value
    return found


def said(tree: Any, key: str) -> Any:
    """The value at a dotted key; ``None`` when it is not there."""
    for part in key.split("."):
        tree = at(tree, part)
    return tree


def at(table: Any, part: str, otherwise: Any = None) -> Any:
    """What a table has under that name, or a list in that place."""
    if isinstance(table, Mapping):
        return table.get(part, otherwise)
    if isinstance(table, list) and part.isdecimal() and int(part) < len(table):
        return table[int(part)]
    return otherwise


def _put(table: Any, part: str, value: Any) -> None:
    """Nothing is put into a list where no entry is."""
    if not isinstance(table, list):
        table[part] = value
    elif int(part) < len(table):
        table[int(part)] = value


def texts(tree: Any, above: str = "") -> list[tuple[str, str]]:
    """Every text in its tables and lists, by dotted key; keys that hold a dot are passed over."""
    found: list[tuple[str, str]] = []
    entries = enumerate(tree) if isinstance(tree, list) else tree.items()
    for key, value in entries:
        if "." in str(key):
            continue
        if isinstance(value, str):
            found.append((f"{above}{key}", value))
        elif isinstance(value, Mapping | list):
            found += texts(value, f"{above}{key}.")
    return found


def matching(tree: Any, key: str) -> list[tuple[str, Any]]:
    """The keys that a dotted one with ``*`` in it stands for, each with the innermost entry that a ``*`` is; the last
    part need not be there. Without a ``*`` it stands for itself."""
    found: list[tuple[str, Any]] = [("", tree)]
    entry: dict[str, Any] = {"": None}
    for part in key.split("."):
        below = []
        for above, table in found:
            names = [part]
            if part == "*":
                names = _entries(table)
            for name in (each for each in names if "." not in each):
                made = f"{above}.{name}" if above else name
                below.append((made, at(table, name)))
                entry[made] = below[-1][1] if part == "*" else entry[above]
        found = below
    return [(made, entry[made]) for made, _ in found]


def _entries(table: Any) -> list[str]:
    """What may stand for a ``*`` in it; an agent may have written anything there."""
    if isinstance(table, list):
        return [str(number) for number in range(len(table))]
    return [*map(str, table)] if isinstance(table, Mapping) else []


def wrong(file: ConfigFile, tree: dict[str, Any]) -> str:
    """What our own rules say against its content; empty for nothing."""
    faults = CHECKS[file.checker](tree) if file.checker else []
    return f"{file.path}: {'; '.join(faults)}" if faults else ""


def _told(file: ConfigFile, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{file.path} is gone"
    return f"{file.path}: {error.strerror if isinstance(error, OSError) else error}"


def _yaml() -> YAML:
    from ruamel.yaml import YAML  # most processes of relit's read no agent's file, and it is large

    made = YAML()
    made.preserve_quotes = True
    made.width = 4096
    return made


def _json(text: str) -> Any:
    return json.loads(text)


def _json5(text: str) -> Any:
    import pyjson5  # as above

    try:
        return pyjson5.loads(text)
    except pyjson5.Json5Exception as error:
        raise Unreadable(f"it is not JSON5: {error.args[0]}") from error


_LOAD: Mapping[Format, Callable[[str], Any]] = {
    "json": _json,
    "json5": _json5,
    "yaml": lambda text: _yaml().load(text),
}
