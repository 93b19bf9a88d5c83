"""``[tools.NAME]``: an HTTP call that agents may make, without knowing its key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from relit.settings.table import Duration, Secret, Size, Table

Policy = Literal["allow", "ask", "deny"]
Effect = Literal["read", "natural-key", "native-key", "lookup", "ask"]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

STRICT = ("shell", "read_file", "write_file", "http")
OWN = (
    "remember", "recall", "schedule", "ask_human", "send_to_agent", "snapshot", "restore_file", "read_result", *STRICT,
)  # fmt: skip
"""Tools of relit's own: no table may take their names."""


class LookUp(Table, frozen=True, kw_only=True):
    """How it is asked whether a call happened."""

    url: Annotated[
        str,
        Meta(pattern=r"^https?://.+", description="Asked with GET; it may name arguments, and `{key}`: the call's."),
    ]
    found: Annotated[
        str, Meta(description="Dotted path in the answer at which there is something then; empty: any answer but 404.")
    ] = ""


class Tool(Table, frozen=True, kw_only=True):
    """A tool: an HTTP call, to which the gateway adds the key, or a Python function."""

    description: Annotated[
        str, Meta(description="What it does, in words for a model. Of a function: else its docstring.")
    ] = ""
    function: Annotated[
        str | None, Meta(description="Instead of `url`: `module:object`, a function with `@relit.tool`.")
    ] = None
    url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://.+")] | None,
        Meta(description="Where it goes; `{NAME}` in path or query stands for an argument."),
    ] = None
    method: Annotated[Method, Meta(description="With GET, HEAD and DELETE all arguments go into the query.")] = "POST"
    arguments: Annotated[dict[str, Any], Meta(description="JSON Schema of each, by name.")] = {}
    optional: Annotated[list[str], Meta(description="Arguments that may be left out.")] = []
    query: Annotated[list[str], Meta(description="Arguments that go into the query; others into the body.")] = []
    body: Annotated[Literal["json", "form"], Meta(description="How the body is written.")] = "json"
    headers: Annotated[dict[str, Secret], Meta(description="Sent along; values may be `secret:NAME`.")] = {}
    key: Annotated[Secret | None, Meta(description="The service's key: `secret:NAME`.")] = None
    key_header: Annotated[
        str, Meta(description="The header that carries it; in `Authorization` it is a bearer token.")
    ] = "Authorization"
    effect: Annotated[
        Effect | None,
        Meta(
            description="What a call does to the world, and what is done when nobody knows whether it happened: `read` "
            "nothing; `natural-key`: twice is as once; `native-key`: the service knows the call by `idempotency`; "
            "`lookup`: it is asked; `ask`: a person is. Not said: `read` for GET and HEAD, else `ask`."
        ),
    ] = None
    idempotency: Annotated[
        str,
        Meta(
            pattern=r"^((header|field):[A-Za-z0-9_.-]+)?$",
            description="Where the call's key goes: `header:NAME`, or `field:NAME` of the body.",
        ),
    ] = ""
    lookup: Annotated[LookUp | None, Meta(description='With `effect = "lookup"`.')] = None
    same: Annotated[
        list[str],
        Meta(description="Arguments that tell what a call means: in one turn two that are equal in these are one."),
    ] = []
    policy: Annotated[Policy, Meta(description="`ask`: a person allows each call: `relit approvals`.")] = "allow"
    timeout: Annotated[Duration, Meta(description="Of one attempt.")] = "30s"
    max_result: Annotated[Size, Meta(description="Of a result, given at once; the rest with `read_result`.")] = "64K"
    private: Annotated[bool, Meta(description="It may call addresses of this machine and its network.")] = False
