"""Whose memory is whose: a process, its session, and all that is in its sandbox."""

from __future__ import annotations

from relit.lib.footprint import Forest, Seen


def test_a_tree_has_its_children_and_its_session() -> None:
    forest = Forest({10: Seen(1, 10, 5), 11: Seen(10, 10, 3), 12: Seen(1, 10, 2), 20: Seen(1, 20, 100)})
    assert forest.tree(10) == 10
    assert forest.members(20) == {20}


def test_orphans_of_a_program_in_a_sandbox_are_its_own() -> None:
    processes = {
        1: Seen(0, 1, 7),
        10: Seen(1, 10, 1, box=True),  # bubblewrap, and its init
        11: Seen(10, 10, 1, box=True),
        12: Seen(11, 12, 100),  # the program
        13: Seen(12, 12, 20),
        14: Seen(11, 14, 900),  # a child of it that went into a session of its own, and lost its parent
        30: Seen(1, 30, 50),
    }
    forest = Forest(processes)
    assert forest.tree(12) == forest.tree(10) == 1022
    assert forest.tree(30) == 50
    assert forest.members(99) == {99}
