"""Reading what a server says."""

from __future__ import annotations

import socket

import pytest

from relit import documents
from relit.cli.http import Api, Frame, error_of, parse_frames
from relit.cli.screen import clean
from relit.documents import Problem
from relit.errors import MailboxFull, NotFound, ServerUnreachable, Unauthorized


def test_frames_are_read_and_comments_skipped() -> None:
    raw = b": keep-alive\n\nevent: step\nid: r:1:-1\ndata: {}\n\nid: 7\n\n"
    frames = list(parse_frames(raw.splitlines(keepends=True)))
    assert frames == [Frame("step", "r:1:-1", b"{}"), Frame("", "7", b"")]


def test_a_frame_that_was_cut_off_is_not_taken() -> None:
    assert list(parse_frames([b"event: step\n", b"id: 1\n"])) == []


def test_a_problem_becomes_the_error_that_it_was() -> None:
    problem = Problem(type="urn:relit:not-found", title="gone", status=404, code="not-found", detail="why", fix="do")
    error = error_of(problem)
    assert isinstance(error, NotFound)
    assert (error.what, error.why, error.fix) == ("gone", "why", "do")


def test_a_full_mailbox_keeps_its_patience() -> None:
    error = error_of(Problem(type="", title="full", status=429, code="mailbox-full"), "7")
    assert isinstance(error, MailboxFull)
    assert error.retry_after == 7


def test_a_server_that_hangs_is_not_taken_for_one_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match=r"did not answer within 0\.2 s") as told:
            Api(url, None, timeout=0.2).get("/v1/volumes", documents.Volumes)
    assert "relit up" not in told.value.fix
    with pytest.raises(ServerUnreachable, match="no relit server answers"):
        Api(url, None, timeout=5).get("/v1/volumes", documents.Volumes)


def test_codes_of_newer_servers_are_read_by_their_status() -> None:
    assert isinstance(error_of(Problem(type="", title="no", status=403, code="brand-new")), Unauthorized)


def test_text_from_elsewhere_cannot_move_the_cursor() -> None:
    assert "\x1b" not in clean("\x1b[2Jgone")
