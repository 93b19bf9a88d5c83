"""The auditor at work: real engine, worker and database, a scripted model and a sink."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from relit.demo import distributions, main, prompt, witness
from relit.demo.auditor import Assignment, auditor
from relit.demo.licences import Verdict
from relit.demo.model import ScriptedModel
from relit.demo.notebook import Notebook, text
from relit.demo.serving import Served
from relit.demo.sink import Sink
from relit.durable.engine import Engine
from relit.durable.payload import Payloads
from relit.durable.worker import Worker
from relit.store.sql.sqlite.store import SqliteStore


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel(prompt.answer)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def world(tmp_path: Path, model: ScriptedModel, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What the auditor's environment names."""
    with Served(model.app) as model_url, Served(sink.app) as sink_url:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{model_url}/v1")
        monkeypatch.setenv("AUDITOR_SINK", sink_url)
        monkeypatch.setenv("AUDITOR_FOLDER", str(tmp_path))
        yield tmp_path


@pytest.fixture
async def engine(world: Path) -> AsyncIterator[Engine]:
    store = SqliteStore(world / "relit.db")
    await store.start()
    engine = Engine(store, Payloads(), home=lambda agent: _home(world, agent))
    worker = Worker(engine, [auditor])
    await worker.start()
    yield engine
    await worker.stop()
    await store.stop()


def _home(world: Path, agent: str) -> Path:
    home = world / agent
    home.mkdir(exist_ok=True)
    return home


async def _audit(engine: Engine, name: str) -> tuple[str, Verdict]:
    run = (await engine.send(auditor, Assignment(name))).id
    return run, await engine.result(run, "30s", Verdict)


async def test_a_verdict_is_what_the_licence_texts_say_and_each_finding_is_notified_once(
    engine: Engine, sink: Sink, world: Path
) -> None:
    _, verdict = await _audit(engine, "certifi")
    assert verdict == main.expect("certifi")
    told = [msgspec.json.decode(delivery.body)["code"] for delivery in sink.effective]
    assert told == [finding.code for finding in verdict.findings]


async def test_the_home_has_a_page_and_an_entry_of_each_audit(engine: Engine, world: Path) -> None:
    verdicts = {name: (await _audit(engine, name))[1] for name in ("certifi", "click")}
    notebook = Notebook(world / "auditor")
    assert notebook.pages() == {name: text(verdict) for name, verdict in verdicts.items()}
    assert notebook.index() == verdicts


async def test_the_models_words_are_emitted_as_they_come(engine: Engine, model: ScriptedModel) -> None:
    run, _ = await _audit(engine, "httpx")
    items = [await engine.payloads.decode(item.data) for item in await engine.store.stream(run)]
    assert len(items) > 10
    assert "".join(items).startswith('{"licence"')
    assert sum(model.calls.values()) == 1


async def test_each_step_leaves_one_witness(engine: Engine, world: Path) -> None:
    await _audit(engine, "click")
    lines = witness.read(world / "witness.jsonl")
    begun = [line.step for line in lines if line.step != "notify"]
    reads = ["read_licence"] * len(distributions.facts("click").files)
    assert begun == ["read_metadata", *reads, "ask_model", "write_note", "enter_verdict"]
