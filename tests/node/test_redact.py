"""No secret comes through, however it is written and wherever it is cut, and nothing else is lost."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from relit.lib.spellings import LEAST
from relit.node.lines import PIECE, Taken, take
from relit.node.patterns import KEY_MOST
from relit.node.redact import REACH, Redactor, telling

READ = PIECE + REACH + 5000  # more than what may be waited for

# Few letters, so that secrets overlap, repeat, and look like marks, lines and escapes.
_LETTERS = st.sampled_from('abcd[]*:=" \t\\xn\u00e9\u20ac')
SECRETS = st.lists(st.text(_LETTERS, min_size=LEAST, max_size=12), min_size=1, max_size=4)
JUNK = st.one_of(st.binary(max_size=20), st.text(_LETTERS, max_size=20).map(str.encode), st.just(b"\n"))


def _through(data: bytes, redactor: Redactor, cuts: list[int]) -> bytes:
    """What becomes of ``data`` when it is read in pieces that end at these places."""
    out, place, inside = b"", 0, 0
    for end in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        while True:
            more = data[place : min(end, place + READ)]
            taken = take(more, redactor, "waits", inside)
            out, place, inside = out + taken.text, place + taken.length, taken.inside
            if not taken.length:
                break
    return out + take(data[place:], redactor, "ended", inside).text


@st.composite
def _logs(draw: st.DrawFn) -> tuple[list[str], bytes, list[int]]:
    secrets = draw(SECRETS)
    parts = draw(st.lists(st.one_of(JUNK, st.sampled_from(secrets).map(str.encode)), max_size=12))
    data = b"".join(parts)
    return secrets, data, draw(st.lists(st.integers(0, max(1, len(data))), max_size=6))


@settings(deadline=None)
@given(_logs())
@example((["aaaaaa"], b"aaaaaaaaaaa\n", [3, 7]))
@example((["redacted"], b"redacted\n", [4]))
@example((["cccccc", "a[redact"], b"acccccc\n", []))
@example((["ab\\xffcd"], b"ab\xffcd\n", [3]))
@example((["      "], b"       \n", []))
def test_no_given_secret_comes_through_wherever_reads_are_cut(log: tuple[list[str], bytes, list[int]]) -> None:
    secrets, data, cuts = log
    out = _through(data, Redactor(secrets), cuts).decode()
    assert [secret for secret in secrets if secret in out] == []


@settings(deadline=None)
@given(_logs())
def test_it_does_not_matter_where_reads_are_cut(log: tuple[list[str], bytes, list[int]]) -> None:
    secrets, data, cuts = log
    assert _through(data, Redactor(secrets), cuts) == _through(data, Redactor(secrets), [])


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50).filter(lambda line: b"\n" not in line), max_size=20), st.data())
def test_what_is_no_secret_comes_through_as_it_was(lines: list[bytes], drawn: st.DataObject) -> None:
    data = b"".join(line + b"\n" for line in lines)
    cuts = drawn.draw(st.lists(st.integers(0, len(data)), max_size=4))
    wanted = data.replace(b"\r\n", b"\n").decode("utf-8", "backslashreplace").encode()
    assume(Redactor().redact(wanted)[0] == wanted)
    assert _through(data, Redactor(), cuts) == wanted


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * PIECE), st.integers(0, 3 * PIECE), st.integers(700, READ))
@example(PIECE - 1, 0, 1000)
@example(0, 0, 70)
def test_no_given_secret_comes_through_where_long_lines_are_cut(before: int, after: int, read: int) -> None:
    secret = "".join(chr(97 + number % 23) for number in range(90))
    data = b"-" * before + secret.encode() + b"-" * after
    out = _through(data, Redactor([secret]), list(range(read, len(data), read)))
    assert b"abc" not in out
    assert b"vwa" not in out
    assert out.replace(b"\n", b"").replace(b"[redacted:secret]", b"").count(b"-") == before + after
    assert max(map(len, out.split(b"\n"))) <= PIECE + REACH


def test_long_lines_are_cut_between_characters() -> None:
    data = ("x" + "\u20ac" * 30_000).encode()
    out = _through(data + b"\n", Redactor(), [PIECE + 7])
    assert out.replace(b"\n", b"") == data
    assert [len(line) for line in out.split(b"\n")[:-1]] == [PIECE - 0, *[PIECE - 1] * 4, len(data) - 5 * PIECE + 4]


@pytest.mark.parametrize("long", [5_000, 131_000])
def test_a_very_long_secret_does_not_come_through_in_parts(long: int) -> None:
    secret = base64.b64encode(bytes(number * 7919 % 251 for number in range(long))).decode()
    data = f"begin {secret} end\n".encode()
    out = _through(data, Redactor([secret]), [PIECE, 3 * PIECE])
    assert not any(secret[at : at + 40].encode() in out for at in range(0, len(secret) - 40))
    assert out.startswith(b"begin [redacted:")
    assert out.endswith(b" end\n")


@pytest.mark.parametrize("secret", ['pa"ss\\word', "p\u00e4ssw\u00f6rd!", "a/b+c d&e=f%"])
def test_a_secret_written_another_way_does_not_come_through(secret: str) -> None:
    redactor = Redactor([secret])
    ways = [secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], quote(secret, safe="")]
    for way in ways:
        assert redactor.redact(f"<{way}>\n".encode()) == (b"<[redacted:secret]>\n", 0), way


@pytest.mark.parametrize("before", [b"", b"u", b"us", b"user:"])
def test_a_secret_inside_base64_does_not_come_through(before: bytes) -> None:
    coded = base64.b64encode(before + b"correct horse battery").rstrip(b"=")
    out, _ = Redactor(["correct horse battery"]).redact(b"Basic? " + coded + b"\n")
    assert b"[redacted:secret]" in out
    assert not any(coded[at : at + 6] in out for at in range(len(before) * 2, len(coded) - 6))


def test_a_secret_of_several_lines_is_taken_out_line_by_line() -> None:
    secret = "first line\r\n  second line  \nno"
    assert Redactor([secret]).redact(b"<first line>\nsecond line\nno\n")[0] == (
        b"<[redacted:secret]>\n[redacted:secret]\nno\n"
    )


def test_short_secrets_take_no_words_with_them() -> None:
    assert Redactor(["", "a", "short"]).redact(b"a short line\n")[0] == b"a short line\n"


def test_a_secret_that_is_no_text_can_be_given() -> None:
    for odd in ("\udcff\udcfe bytes", "\ud800 lone"):
        Redactor([odd]).redact(b"x\n")
    assert Redactor(["\udcff\udcfe bytes"]).redact(b"\xff\xfe bytes\n")[0] == b"[redacted:secret]\n"


def test_a_redactor_shows_nothing() -> None:
    assert "hunter" not in repr(Redactor(["hunter2hunter2"]))


LOOKS = [
    (b"key sk-ant-api03-AbCdEf0123456789_x-y ok", b"key [redacted:api-key] ok"),
    (b"stripe sk_live_abcdefgh12345678", b"stripe [redacted:api-key]"),
    (b"ghp_0123456789abcdefghijABCDEFGHIJ012345!", b"[redacted:github-token]!"),
    (b"github_pat_11ABCDEFG0abcdefghij_klmno", b"[redacted:github-token]"),
    (b"glpat-abcdefghij0123456789", b"[redacted:gitlab-token]"),
    (b"xoxb-123456789012-abcdefABCDEF", b"[redacted:slack-token]"),
    (b"id AKIAIOSFODNN7EXAMPLE.", b"id [redacted:aws-key]."),
    (b"AIzaSyA1234567890abcdefghijklmnopqrstuv", b"[redacted:google-key]"),
    (b"hf_abcdefghijklmnopqrstuvwxyz0123456", b"[redacted:token]"),
    (b"relit_" + b"aB3_-" * 8 + b"abc", b"[redacted:token]"),
    (b"bot12345678:AAabcdefghijklmnopqrstuvwxyz0123456/get", b"bot12345678[redacted:telegram-token]/get"),
    (b"t eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_ e", b"t [redacted:jwt] e"),
    (b"Bearer abc123def456", b"Bearer [redacted:bearer]"),
    (b"'AUTHORIZATION': 'bearer abc-def.ghi_jkl/0'", b"'AUTHORIZATION': 'bearer [redacted:bearer]'"),
    (b'{"Authorization": "Basic dXNlcjpwYXNz"}', b'{"Authorization": "Basic [redacted:authorization]"}'),
    (b"authorization: token abcdefgh", b"authorization: token [redacted:authorization]"),
    (b"password=abc&x=1", b"password=[redacted:password]&x=1"),
    (b"PGPASSWORD = a;b", b"PGPASSWORD = [redacted:password];b"),
    (b'{"db_password": "two \\"words\\"", "x": 1}', b'{"db_password": "[redacted:password]", "x": 1}'),
    (b'"{\\"passwd\\": \\"abc\\"}"', b'"{\\"passwd\\": \\"[redacted:password]\\"}"'),
    (b"{'passphrase': 'it is long'}", b"{'passphrase': '[redacted:password]'}"),
    (b"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", b"aws_secret_access_key = [redacted:secret]"),
    (b"access_token=abcdefgh1234", b"access_token=[redacted:token]"),
    (b"API-Key: abcdef123", b"API-Key: [redacted:key]"),
    (b"run --password hunter22 --x", b"run --password [redacted:password] --x"),
    (b"postgres://me:pw1@host/db", b"postgres://me:[redacted:password]@host/db"),
]


@pytest.mark.parametrize(("text", "wanted"), LOOKS, ids=[text[:24].decode() for text, _ in LOOKS])
def test_what_looks_like_a_secret_is_taken_out(text: bytes, wanted: bytes) -> None:
    assert Redactor().redact(b"a\n" + text + b"\nz\n")[0] == b"a\n" + wanted + b"\nz\n"


@pytest.mark.parametrize(
    "text",
    [
        b"task-management-system-that-is-long",
        b"tokens=123456789 max_tokens: 4096 token: 5",
        b"passed: 5, failed: 0",
        b"bearer certificates are no tokens",
        b"https://host:8080/a@b",
        b"GET /v1/agents/auditor 200 12ms",
        b"-----BEGIN CERTIFICATE-----",
        b"the password is wrong",
    ],
)
def test_ordinary_lines_stay_as_they_are(text: bytes) -> None:
    assert Redactor().redact(text + b"\n") == (text + b"\n", 0)


def _key(kind: str = "RSA ", lines: int = 25) -> list[str]:
    body = base64.b64encode(bytes(number * 7919 % 251 for number in range(48 * lines + 5))).decode()
    return [
        f"-----BEGIN {kind}PRIVATE KEY-----",
        *(body[at : at + 64] for at in range(0, len(body), 64)),
        f"-----END {kind}PRIVATE KEY-----",
    ]


@settings(deadline=None)
@given(st.sampled_from(["", "RSA ", "OPENSSH ", "EC "]), st.lists(st.integers(0, 3000), max_size=8), st.booleans())
def test_a_private_key_over_many_lines_leaves_one_mark(kind: str, cuts: list[int], windows: bool) -> None:
    newline = "\r\n" if windows else "\n"
    text = newline.join(["before", *_key(kind), "after", ""])
    assert _through(text.encode(), Redactor(), cuts) == b"before\n[redacted:private-key]\nafter\n"


def test_a_private_key_in_one_line_leaves_one_mark() -> None:
    line = json.dumps({"key": "\n".join(_key()) + "\n", "x": 1}).encode() + b"\n"
    assert Redactor().redact(line) == (b'{"key": "[redacted:private-key]\\n", "x": 1}\n', 0)


def test_two_private_keys_in_one_line_leave_two_marks() -> None:
    line = b" ".join(["\\n".join(_key()).encode()] * 2) + b" end\n"
    assert Redactor().redact(line) == (b"[redacted:private-key] [redacted:private-key] end\n", 0)


def test_lines_of_others_inside_a_private_key_stay() -> None:
    key = _key()
    text = "\n".join([*key[:3], "INFO ready to serve", f"WARN key {key[4]}", *key[5:], "after", ""])
    assert Redactor().redact(text.encode())[0] == (
        b"[redacted:private-key]\nINFO ready to serve\nWARN key [redacted:private-key]\nafter\n"
    )


def test_a_private_key_without_an_end_swallows_nothing_but_base64() -> None:
    text = "-----BEGIN PRIVATE KEY-----\nready\n" + "a line of words\n" * 6000 + "A" * 64 + "\n"
    out, inside = Redactor().redact(text.encode())
    assert out.count(b"\n") == 6003
    assert inside == 0


HOSTILE = {
    "one letter": b"a",
    "spaces": b" ",
    "quotes": b'"',
    "backslashes": b"\\",
    "dashes": b"-",
    "jwt": b"eyJ",
    "jwt with dots": b"eyJaaaaaaa.",
    "api key": b"sk-",
    "password": b"password=",
    "password quoted": b'password="a\\',
    "password without end": b"password='",
    "secret": b"secret_",
    "flags": b"--a-",
    "url": b"://",
    "url with user": b"://a:",
    "bearer": b"bearer ",
    "authorization": b"authorization: ",
    "key begin": b"-----BEGIN PRIVATE KEY-----",
    "key end": b"-----END PRIVATE KEY-----",
    "key": b"-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----",
    "base64": b"A" * 31 + b"!",
    "base64 lines": b"A" * 63 + b"!\n",
    "given": b"hunter2hunter",
    "not text": b"\xff",
}


def _seconds(text: bytes) -> float:
    redactor = Redactor(["hunter2hunter2", "a" * 16, "\\\\\\\\"])
    begin = time.process_time()
    take(text, redactor, "ended", inside=KEY_MOST)
    return time.process_time() - begin


@pytest.mark.slow
@pytest.mark.parametrize("seed", HOSTILE.values(), ids=HOSTILE.keys())
def test_time_grows_with_the_length_alone(seed: bytes) -> None:
    whole = (seed * (1 << 20))[: 1 << 20]
    eighth, all_of_it = _seconds(whole[: len(whole) // 8]), _seconds(whole)
    print(f"{all_of_it * 1000:.0f} ms for 1M")
    assert all_of_it < 16 * eighth + 0.2


def test_names_of_variables_tell_which_values_are_secret() -> None:
    env = {"OPENAI_API_KEY": "sk-12345678", "PATH": "/usr/bin", "db_password": "12345678", "AUTH_TOKENS": "abcdefgh"}
    assert telling(env | {"KEYBOARD": "qwertzuiop", "A_KEY": "short"}) == {"sk-12345678", "12345678", "abcdefgh"}


def test_what_may_become_a_secret_is_waited_for_and_then_hidden() -> None:
    redactor = Redactor(["correct horse"])
    assert take(b"say corr", redactor, "late") == Taken(4, b"say \n", 0)
    assert take(b"say corr", redactor, "ended") == Taken(8, b"say [redacted:secret]\n", 0)
    assert take(b"say c", redactor, "late") == Taken(4, b"say \n", 0)
    assert take(b"say c", redactor, "ended") == Taken(5, b"say c\n", 0)
    assert take(b"say correct horse", redactor, "late") == Taken(4, b"say \n", 0)
