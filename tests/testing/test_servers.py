"""The servers that tests run on are real, and as strict as in production."""

from __future__ import annotations

from pathlib import Path

import pytest
from obstore.exceptions import AlreadyExistsError

from relit.testing.postgres import Postgres
from relit.testing.s3 import S3
from relit.testing.servers import free_ports, fresh_folder, reachable


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


def test_a_folder_below_a_closed_one_is_not_reachable(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    assert not reachable(closed / "inner")


def test_a_fresh_folder_belongs_to_its_owner_alone() -> None:
    folder = fresh_folder("relit-test-")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()


@pytest.mark.postgres
def test_postgres_survives_a_crash_with_its_data(own_postgres: Postgres) -> None:
    assert own_postgres.sql("SHOW fsync") == "on"
    own_postgres.create_database()
    own_postgres.sql("CREATE TABLE kept AS SELECT 7 AS x")
    own_postgres.restart("immediate")
    assert own_postgres.sql("SELECT x FROM kept") == "7"
    own_postgres.stop()
    own_postgres.stop()


@pytest.mark.s3
def test_s3_refuses_to_overwrite_when_asked_to(s3: S3) -> None:
    bucket = s3.store(s3.new_bucket())
    bucket.put("key", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        bucket.put("key", b"second", mode="create")
    assert bytes(bucket.get("key").bytes()) == b"first"
