"""Secrets are sealed, bound to their names, and every use is written down."""

from __future__ import annotations

import secrets as random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relit.errors import Invalid, NotFound, SecretDamaged, WrongKey
from relit.store.sql.sqlite.store import SqliteStore
from relit.store.values import Secret
from relit.vault import sealing
from relit.vault.vault import VALUE_MOST, Revealed, Vault

MASTER = sealing.from_key(bytes(range(32)))


@pytest.fixture
async def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "relit.db")


class Opened:
    """A vault on a store that is open inside the block."""

    def __init__(self, store: SqliteStore, master: sealing.Master = MASTER) -> None:
        self.store = store
        self.vault = Vault(store.secrets, master, "me")

    async def __aenter__(self) -> Vault:
        await self.store.start()
        return self.vault

    async def __aexit__(self, *_: object) -> None:
        await self.store.stop()


# --- sealing --------------------------------------------------------------------------------------------------------


@given(name=st.text(min_size=1), version=st.integers(1, 2**60), value=st.text())
def test_what_is_sealed_opens(name: str, version: int, value: str) -> None:
    assert sealing.open(MASTER, sealing.seal(MASTER, name, version, value)) == value


@given(flip=st.integers(0, 10_000), of=st.sampled_from(["wrapped", "sealed"]), value=st.text(min_size=1, max_size=40))
def test_one_flipped_bit_is_found(flip: int, of: str, value: str) -> None:
    made = sealing.seal(MASTER, "openai", 1, value)
    data = bytearray(getattr(made, of))
    data[flip // 8 % len(data)] ^= 1 << flip % 8
    with pytest.raises(SecretDamaged, match="openai"):
        sealing.open(MASTER, msgspec.structs.replace(made, **{of: bytes(data)}))


@pytest.mark.parametrize("moved", [{"name": "other"}, {"version": 2}])
def test_a_row_opens_under_its_own_name_and_version_alone(moved: dict[str, object]) -> None:
    made = sealing.seal(MASTER, "openai", 1, "sk-1")
    with pytest.raises(SecretDamaged):
        sealing.open(MASTER, msgspec.structs.replace(made, **moved))


def test_a_value_of_another_row_does_not_open_with_this_key() -> None:
    one, two = sealing.seal(MASTER, "a", 1, "1"), sealing.seal(MASTER, "a", 1, "2")
    with pytest.raises(SecretDamaged):
        sealing.open(MASTER, msgspec.structs.replace(one, sealed=two.sealed))


def test_neither_rows_nor_keys_tell_the_value() -> None:
    made = sealing.seal(MASTER, "openai", 1, "sk-very-secret")
    assert b"sk-very-secret" not in msgspec.json.encode(made) + made.sealed + made.wrapped
    assert MASTER.key.hex() not in repr(MASTER) + MASTER.lock.key
    assert "sk" not in repr(Revealed("sk", 1))


def test_a_passphrase_is_the_same_key_with_the_same_salt_alone() -> None:
    one = sealing.from_passphrase("horse")
    assert sealing.from_passphrase("horse", one.lock) == one
    assert sealing.from_passphrase("horse") != one
    assert sealing.from_passphrase("house", one.lock).lock != one.lock


# --- the vault ------------------------------------------------------------------------------------------------------


async def test_what_is_set_is_revealed_and_both_are_written_down(store: SqliteStore) -> None:
    async with Opened(store) as vault:
        assert await vault.set("openai", "sk-1") == 1
        assert await vault.set("openai", "sk-2") == 2
        found = await vault.reveal(["openai", "unknown"], {"openai": "models.default"})
        assert {name: each.value for name, each in found.items()} == {"openai": "sk-2"}
        trail = [(each.what, each.name, each.who, each.whom) for each in await store.secrets.audited()]
    assert trail == [
        ("read", "openai", "me", "models.default"), ("set", "openai", "me", ""), ("set", "openai", "me", ""),
    ]  # fmt: skip


async def test_nothing_is_revealed_with_another_key(store: SqliteStore) -> None:
    async with Opened(store) as vault:
        await vault.set("openai", "sk-1")
        other = Vault(store.secrets, sealing.from_key(random.token_bytes(32)), "you")
        with pytest.raises(WrongKey, match="does not open the vault"):
            await other.reveal(["openai"], {})
        with pytest.raises(WrongKey):
            await other.set("openai", "sk-2")
        assert [each.what for each in await store.secrets.audited()] == ["set"]


async def test_a_rotation_changes_every_key_and_no_value(store: SqliteStore) -> None:
    async with Opened(store) as vault:
        for name in ("a", "b"):
            await vault.set(name, f"value of {name}")
        before = {each.name: each for each in await store.secrets.secrets()}
        new = sealing.from_passphrase("horse")
        assert await vault.rotate(new) == 2
        for each in await store.secrets.secrets():
            old = before[each.name]
            assert each.wrapped != old.wrapped
            assert (each.version, each.set_at) == (old.version, old.set_at)
        found = await Vault(store.secrets, new, "you").reveal(["a", "b"], {})
        assert [each.value for each in found.values()] == ["value of a", "value of b"]
        with pytest.raises(WrongKey):
            await Vault(store.secrets, MASTER, "you").reveal(["a"], {})


async def test_a_secret_that_is_not_there_cannot_be_removed(store: SqliteStore) -> None:
    async with Opened(store) as vault:
        await vault.set("a", "1")
        await vault.remove("a")
        with pytest.raises(NotFound):
            await vault.remove("a")


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a b", "x"), ("-a", "x"), ("a" * 129, "x"), ("a", ""), ("a", "x" * (VALUE_MOST + 1))],
)
async def test_what_cannot_be_a_secret_is_refused(store: SqliteStore, name: str, value: str) -> None:
    async with Opened(store) as vault:
        with pytest.raises(Invalid):
            await vault.set(name, value)
        assert await store.secrets.secrets() == []


async def test_one_damaged_row_is_named(store: SqliteStore) -> None:
    async with Opened(store) as vault:
        await vault.set("a", "1")
        [row] = await store.secrets.secrets()
        broken = Secret(name="a", version=2, wrapped=row.wrapped, sealed=row.sealed)
        await store.secrets.put(MASTER.lock, broken, (await store.secrets.audited())[0])
        with pytest.raises(SecretDamaged, match="the secret a"):
            await vault.reveal(["a"], {})
