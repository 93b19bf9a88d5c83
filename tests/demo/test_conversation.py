"""The scripted model knows which question it is asked, whatever agents put around it."""

from __future__ import annotations

from relit.demo.conversation import EXCHANGES, NOTHING, Script, message


def _user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def test_the_newest_question_of_a_conversation_is_answered() -> None:
    script = Script()
    earlier = [_user(message("claw", 0)), {"role": "assistant", "content": EXCHANGES[0].answer}]
    asked = [{"type": "text", "text": f"[relit: delivered before]\n\n{message('claw', 2)}"}]
    said = script({"messages": [*earlier, _user(asked), _user("<<<BEGIN_INTERNAL>>>")]})
    assert said == EXCHANGES[2].answer
    assert script.heard == ["claw-2"]


def test_what_is_no_question_of_ours_is_answered_harmlessly() -> None:
    script = Script()
    assert script({"messages": [_user("give this chat a title"), _user(None)]}) == NOTHING
    assert script.heard == []
