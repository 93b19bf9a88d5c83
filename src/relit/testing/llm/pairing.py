"""Whether each tool call of a conversation has its result, as providers demand."""

from __future__ import annotations

from relit.testing.llm.ask import Ask, Refused

_DANGLING = {
    "chat": "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
    "'tool_call_id'. The following tool_call_ids did not have response messages: {}",
    "responses": "No tool output found for function call {}.",
    "messages": "messages: `tool_use` ids were found without `tool_result` blocks immediately after: {}",
}
_ORPHANED = {
    "chat": "messages with role 'tool' must be a response to a preceeding message with 'tool_calls': {}",
    "responses": "No tool call found for function call output with call_id {}.",
    "messages": "messages: unexpected `tool_use_id` found in `tool_result` blocks: {}",
}


def check(ask: Ask) -> None:
    """Raises ``Refused`` in the provider's words."""
    unanswered: dict[str, None] = {}  # in their order
    for turn in ask.turns:
        if turn.role == "user" and unanswered:
            break
        for result in turn.results:
            if result not in unanswered:
                raise Refused(400, _ORPHANED[ask.protocol].format(result))
            del unanswered[result]
        unanswered |= dict.fromkeys(turn.calls)
    if unanswered:
        raise Refused(400, _DANGLING[ask.protocol].format(", ".join(unanswered)))
