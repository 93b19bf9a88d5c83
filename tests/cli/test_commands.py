"""The commands, against a real server and a real worker."""

from __future__ import annotations

import json
import time

import pytest
from cli_house import House


def start(house: House, *words: str) -> str:
    """The id of a new run."""
    result = house.run("run", *words, "--detach")
    assert result.exit_code == 0, result.output
    return result.stdout.split()[0]


def reaches(house: House, id: str, state: str) -> bool:
    """Whether a run comes to that state within a while."""
    deadline = time.monotonic() + 20
    while (now := house.json("show", id)["run"]["state"]) != state and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(now == state)


def test_send_waits_for_the_answer(house: House) -> None:
    result = house.run("send", "clerk", "hello", "--wait", "--timeout", "20s")
    assert result.exit_code == 0, result.output
    assert "HELLO" in result.stdout


def test_send_takes_json_from_standard_input(house: House) -> None:
    result = house.run("send", "clerk", "-", "--wait", text='{"a": 1}')
    assert "{'A': 1}" in result.stdout


def test_send_to_a_misspelt_agent_says_which_there_are(house: House) -> None:
    house.run("send", "clerk", "x", "--wait")
    result = house.run("send", "clekr", "hello")
    assert result.exit_code == 4
    assert "clerk" in result.stderr


def test_run_follows_steps_and_items_to_the_result(house: House) -> None:
    result = house.run("run", "clerk/count", "[2]")
    assert result.exit_code == 0, result.output
    assert "one0" in result.stdout
    assert '{"at": 1}' in result.stdout
    assert "completed  1" in result.stdout


def test_run_with_json_prints_one_document_a_line(house: House) -> None:
    result = house.run("run", "clerk/count", '{"to": 1}', "--json")
    frames = [json.loads(line) for line in result.stdout.splitlines()]
    assert frames[-1]["event"] == "end"
    assert frames[-1]["data"]["output"] == 0


def test_a_failed_run_is_exit_code_1_and_can_be_tried_again(house: House) -> None:
    id = start(house, "clerk/message", '["bad"]')
    waited = house.run("wait", id)
    assert waited.exit_code == 1
    shown = house.run("show", id)
    assert "cannot do that" in shown.stdout
    again = house.run("requeue", id) if "discarded" in shown.stdout else house.run("retry", id)
    assert again.exit_code == 0, again.output
    assert house.run("wait", id).exit_code == 1


def test_short_ids_are_accepted_and_wrong_ones_refused(house: House) -> None:
    start(house, "clerk/count", "[1]")
    id = start(house, "clerk/count", "[1]")
    assert house.json("show", id[-8:])["run"]["id"] == id
    assert house.run("show", "zzzzzz").exit_code == 4
    many = house.run("show", id[:2])
    assert many.exit_code == 6
    assert "fits several runs" in many.stderr


def test_a_run_waits_for_its_signal(house: House) -> None:
    id = start(house, "clerk/approve")
    assert house.run("signal", id, "ok", '{"by": "me"}', "--id", "s1").exit_code == 0
    result = house.run("wait", id, "--timeout", "20s")
    assert result.exit_code == 0, result.output
    assert '"by": "me"' in result.stdout


def test_wait_gives_up_with_exit_code_5(house: House) -> None:
    id = start(house, "clerk/approve")
    result = house.run("wait", id, "--timeout", "0s")
    assert result.exit_code == 5
    assert f"fix: relit wait {id}" in result.stderr
    assert house.run("cancel", id, "--reason", "enough").exit_code == 0
    house.run("wait", id, "--timeout", "20s")
    assert house.run("cancel", id).exit_code == 6
    assert house.json("show", id)["run"]["state"] == "cancelled"


def test_a_paused_run_is_parked_until_it_is_resumed(house: House) -> None:
    id = start(house, "clerk/approve")
    assert house.run("pause", id).exit_code == 0
    assert reaches(house, id, "parked"), "at once, or when the step that it was in has ended"
    ps = house.run("ps")
    assert ps.exit_code == 3
    assert house.run("resume", id).exit_code == 0
    assert house.run("cancel", id).exit_code == 0


def test_fork_makes_a_run_of_its_own(house: House) -> None:
    id = start(house, "clerk/count", "[2]")
    house.run("wait", id)
    forked = house.run("fork", id, "--step", "1")
    assert forked.exit_code == 0, forked.output
    assert house.run("wait", forked.stdout.split()[0]).exit_code == 0


def test_an_effect_in_doubt_waits_for_a_persons_word(house: House) -> None:
    id = start(house, "clerk/pay")
    waited = house.run("wait", id, "--timeout", "20s")
    assert waited.exit_code == 1, waited.output
    assert "parked" in waited.stderr
    listed = house.json("effects", "ls", "--run", id)["effects"]
    assert [each["state"] for each in listed] == ["in_doubt"]
    word = house.run("effects", "resolve", id, listed[0]["pos"], "--done", "--result", '"receipt 7"')
    assert word.exit_code == 0, word.output
    assert "receipt 7" in house.run("wait", id).stdout


def test_schedules_are_added_triggered_and_removed(house: House) -> None:
    added = house.run("schedule", "add", "beat", "--agent", "clerk", "--message", "beat", "--every", "1h")
    assert added.exit_code == 0, added.output
    assert "beat" in house.run("schedule").stdout
    triggered = house.run("schedule", "trigger", "beat").stdout.split()[0]
    assert "BEAT" in house.run("wait", triggered).stdout
    assert house.run("schedule", "pause", "beat").stdout.strip() == "beat is paused"
    assert "starts" in house.run("schedule", "resume", "beat").stdout
    assert "triggered" in house.run("schedule", "log", "beat").stdout
    assert house.json("schedule", "rm", "beat", "--yes") == {"removed": "beat"}
    assert house.run("schedule", "pause", "beat").exit_code == 4


def test_a_wrong_schedule_is_a_usage_error(house: House) -> None:
    result = house.run("schedule", "add", "x", "--agent", "clerk", "--message", "m", "--cron", "no")
    assert result.exit_code == 2
    assert "cron" in result.stderr


def test_mailboxes_are_limited_and_paused(house: House) -> None:
    house.run("send", "clerk", "x", "--wait")
    assert house.run("mailbox", "set", "clerk", "--depth", "5", "--rate", "none").exit_code == 0
    assert house.json("mailbox", "ls")["mailboxes"][0]["depth"] == 5
    assert "paused" in house.run("mailbox", "pause", "clerk").stdout
    assert "open" in house.run("mailbox", "resume", "clerk").stdout
    assert house.run("mailbox", "set", "clerk").exit_code == 2


def test_tokens_are_made_shown_once_and_removed(house: House) -> None:
    made = house.run("token", "new", "ci", "--scope", "read")
    secret = made.stdout.strip()
    assert secret.startswith("relit_")
    assert secret not in house.run("token", "list").output
    house.environment["RELIT_TOKEN"] = secret
    try:
        assert house.run("runs").exit_code == 0
        refused = house.run("send", "clerk", "x")
    finally:
        del house.environment["RELIT_TOKEN"]
    assert refused.exit_code == 1
    assert "needs write" in refused.stderr
    assert house.run("token", "remove", "ci", "--yes").exit_code == 0


def test_a_wrong_token_is_told(house: House) -> None:
    house.environment["RELIT_TOKEN"] = "wrong"
    try:
        result = house.run("ps")
    finally:
        del house.environment["RELIT_TOKEN"]
    assert result.exit_code == 1
    assert "fix: relit token new" in result.stderr


def test_runs_filters_and_pages(house: House) -> None:
    start(house, "clerk/count", "[1]")
    page = house.json("runs", "-n", "1")
    assert len(page["runs"]) == 1
    assert page["next"] == page["runs"][0]["id"]
    assert house.json("runs", "--state", "failed", "--agent", "nobody")["runs"] == []


def test_tail_lists_events(house: House) -> None:
    house.run("send", "clerk", "x", "--wait")
    result = house.run("tail", "--no-follow", "--name", "run.completed")
    assert "run.completed" in result.stdout
    lines = house.run("tail", "--no-follow", "--json").stdout.splitlines()
    assert {"id", "at", "name"} <= json.loads(lines[0]).keys()


def test_ps_shows_agents_and_instances(house: House) -> None:
    seen = house.json("ps")
    assert [each["agent"] for each in seen["agents"]] == ["clerk"]
    assert {each["name"] for each in seen["instances"]} == {"server", "volumes", "clerks"}


def test_doctor_answers_in_its_json_shape(house: House) -> None:
    seen = house.json("doctor")
    assert seen.keys() == {"schemaVersion", "ok", "checksRun", "checksSkipped", "findings"}
    assert "dead-letters" in seen["checksRun"]
    assert seen["checksSkipped"] == ["database"]
    for finding in seen["findings"]:
        assert finding.keys() == {"checkId", "severity", "message", "path", "fixHint"}


def test_a_second_server_on_the_folder_is_refused(house: House) -> None:
    done = house.spawn("server", "--listen", "127.0.0.1:0")
    assert done.returncode == 6
    assert "another server runs on the data folder" in done.stderr


def test_a_second_up_reads_the_settings_again_and_starts_no_more(house: House) -> None:
    assert "reads relit.toml again" in house.run("up").output
    result = house.run("up", "clerks")
    assert result.exit_code == 6
    assert "relit down" in result.stderr


def test_commands_find_the_server_wherever_it_listens(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(house.environment, "RELIT_SERVER__LISTEN")
    assert house.run("runs").exit_code == 0
