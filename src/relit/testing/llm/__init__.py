"""A scripted model server on loopback, for tests with real agents.

It speaks OpenAI chat completions, OpenAI responses and Anthropic messages, streamed and not. A script says what each
request is answered with, or how the answer fails; every request is recorded and can be waited for, or held open.

    rules = [Rule(When(says="audit", step=1), Answer(calls=(ToolCall("read", {"path": "LICENSE"}),)))]
    async with ScriptedLLM(rules) as llm:
        with llm.hold(When(says="audit", step=2)) as hold:
            start_agent(OPENAI_BASE_URL=f"{llm.url}/v1", ANTHROPIC_BASE_URL=llm.url)
            call = await hold.caught()  # the agent's second call is open, and stays so
            kill_agent()
            assert await call.ended() == "left"

As a process of its own: ``python -m relit.testing.llm --script rules.json --record calls.jsonl`` (``python -m
relit.testing.llm --help``). ``recorded(file)`` reads what it wrote.
"""

from relit.testing.llm.ask import Ask, Turn
from relit.testing.llm.exchange import Exchange
from relit.testing.llm.hold import Hold
from relit.testing.llm.record import Recorded, recorded
from relit.testing.llm.script import Answer, Rule, ToolCall, When, parse
from relit.testing.llm.server import ScriptedLLM

__all__ = [
    "Answer",
    "Ask",
    "Exchange",
    "Hold",
    "Recorded",
    "Rule",
    "ScriptedLLM",
    "ToolCall",
    "Turn",
    "When",
    "parse",
    "recorded",
]
