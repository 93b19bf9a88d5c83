"""Keys: on disk for their owner alone, as text with a check sum, and what is derived from them."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relit.errors import WrongKey
from relit.volumes.keys import Keys, ids_of, plain_id

PACK = bytes(16)
FAST = (2**4, 8, 1)


def same(a: Keys, b: Keys) -> bool:
    return a.export() == b.export() and a.id_of(b"x") == b.id_of(b"x") and a.check_of(PACK) == b.check_of(PACK)


def test_a_created_key_is_loaded_again(tmp_path: Path) -> None:
    made = Keys.create(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["key"]
    assert same(Keys.load(tmp_path / "key"), made)


def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    made = Keys.create(tmp_path / "key")
    assert same(Keys.create(tmp_path / "key"), made)


def test_of_many_that_create_a_key_at_once_all_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Keys.create(tmp_path / "key").export(), range(24)))
    assert set(made) == {Keys.load(tmp_path / "key").export()}
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    Keys.create(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(WrongKey, match="can be read by others"):
        Keys.load(tmp_path / "key")


def test_a_missing_or_unreadable_key_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(WrongKey) as told:
        Keys.load(tmp_path / "key")
    assert "No such file" in told.value.why
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(WrongKey, match="cannot read the key"):
        Keys.load(tmp_path / "key")


@given(master=st.binary(min_size=32, max_size=32))
def test_export_and_parse_are_inverse(master: bytes) -> None:
    keys = Keys(master)
    assert same(Keys.parse(keys.export()), keys)
    word = keys.export().removeprefix("relit-key-1:")
    grouped = "-".join(word[at : at + 4] for at in range(0, len(word), 4))
    assert same(Keys.parse(f" relit-key-1:{grouped.upper()}\n"), keys)


def test_every_mistyped_or_lost_character_is_found() -> None:
    text = Keys(bytes(range(32))).export()
    for at in range(len(text)):
        for other in ("a", "7", "1", "", "é"):
            wrong = text[:at] + other + text[at + 1 :]
            if wrong != text:
                with pytest.raises(WrongKey):
                    Keys.parse(wrong)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_master_key_has_32_bytes(length: int) -> None:
    with pytest.raises(WrongKey, match="no key"):
        Keys(bytes(length))


def test_a_passphrase_stands_for_one_key_for_each_salt() -> None:
    made = Keys.from_passphrase("grün", b"s" * 16, FAST)
    assert same(made, Keys.from_passphrase("grün", b"s" * 16, FAST))
    others = [("grun", b"s" * 16, FAST), ("grün", b"t" * 16, FAST), ("grün", b"s" * 16, (2**5, 8, 1))]
    assert len({made.export(), *(Keys.from_passphrase(*each).export() for each in others)}) == 4


@given(a=st.binary(max_size=64), b=st.binary(max_size=64))
@settings(max_examples=50)
def test_ids_depend_on_content_and_key(a: bytes, b: bytes) -> None:
    keys, other = Keys(b"1" * 32), Keys(b"2" * 32)
    assert len(keys.id_of(a)) == 16
    assert (keys.id_of(a) == keys.id_of(memoryview(b))) == (a == b)
    assert len({keys.id_of(a), other.id_of(a), plain_id(a)}) == 3
    assert ids_of(keys)(a) == keys.id_of(a)
    assert ids_of(None)(a) == plain_id(a)


def test_each_pack_has_its_own_key_and_check() -> None:
    keys = Keys(b"1" * 32)
    packs = [bytes([at]) * 16 for at in range(5)]
    assert len({keys.cipher(pack).encrypt(bytes(12), b"same", None) for pack in packs}) == 5
    assert len({keys.check_of(pack) for pack in packs} | {Keys(b"2" * 32).check_of(PACK)}) == 6
