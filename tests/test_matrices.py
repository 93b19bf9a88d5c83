from __future__ import annotations

import matrices


def test_every_test_belongs_to_one_part() -> None:
    names = [f"tests/a.py::test_{number}" for number in range(300)]
    parts = [{name for name in names if matrices.part(name, 3) == number} for number in (1, 2, 3)]
    assert sorted(set().union(*parts)) == sorted(names)
    assert sum(len(each) for each in parts) == len(names)
    assert all(len(each) > 60 for each in parts)


def test_the_tree_is_the_same_as_long_as_nothing_changes() -> None:
    assert matrices.tree() == matrices.tree()
