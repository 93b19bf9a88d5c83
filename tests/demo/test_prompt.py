"""What the model is asked can be answered by the script, and what it answers can be read."""

from __future__ import annotations

from relit.demo import distributions, licences, prompt


def test_the_scripted_answer_is_the_rules_verdict_for_every_real_distribution() -> None:
    for name in distributions.names():
        facts = distributions.facts(name)
        texts = [distributions.text(name, file) for file in facts.files]
        answer = prompt.answer({"messages": prompt.messages(facts, texts)})
        shown = [text[: prompt.TEXT_LIMIT] for text in texts]
        assert prompt.read(name, answer) == licences.judge(name, facts.declared, shown)


def test_an_answer_inside_a_models_chatter_is_read() -> None:
    text = 'Sure!\n```json\n{"licence": "MIT", "kind": "permissive", "findings": []}\n```'
    assert prompt.read("x", text) == licences.Verdict("x", "MIT", "permissive", [])


def test_an_unreadable_answer_is_itself_a_finding() -> None:
    verdict = prompt.read("x", "I cannot help with that.")
    assert [finding.code for finding in verdict.findings] == ["unreadable"]
