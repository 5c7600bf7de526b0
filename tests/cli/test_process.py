"""The command as a user runs it: in a process of its own, on a terminal, with Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import httpx
import pytest

from cli import main
from cli import process as entry
from hogsend.posthog.client_document import CALLBACK_PORTS
from tests.cli.fakes import ADMIN_KEY, CONNECT_INFO, PROVISION, STORE, FakeHogsend, FakePostHog
from tests.cli.running import Outcome, finish, run, start
from tests.ports import real_ports
from tests.waiting import PATIENCE_SECONDS, eventually

URL = re.compile(r"http://127\.0\.0\.1:\d+/oauth/authorize/\?\S+")


@pytest.fixture
def callback_ports() -> Iterator[tuple[int, ...]]:
    """The real callback ports, since another process cannot use other ones."""
    with real_ports():
        yield CALLBACK_PORTS


@pytest.fixture(autouse=True)
def server_address(hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOGSEND_API_URL", hogsend.url)
    monkeypatch.setenv("HOGSEND_ADMIN_KEY", ADMIN_KEY)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")


async def read_until_url(stream: asyncio.StreamReader | None) -> tuple[str, str]:
    """Return the output up to the authorize URL, and the URL."""
    assert stream is not None
    output = ""
    while not (match := URL.search(output)):
        line = await asyncio.wait_for(stream.readline(), 60)
        assert line, output
        output += line.decode()
    return output, match.group()


async def follow(url: str) -> httpx.Response:
    async with httpx.AsyncClient(follow_redirects=True, timeout=PATIENCE_SECONDS) as http:
        return await http.get(url)


@pytest.mark.usefixtures("callback_ports")
async def test_case_154_the_authorize_url_is_printed_to_stdout_without_a_browser(
    hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    process = await start("connect", "posthog", "--no-browser")
    output, url = await read_until_url(process.stdout)
    page = await follow(url)
    assert "return to your terminal" in page.text
    outcome = await finish(process)
    assert outcome.code == 0
    assert hogsend.lines == [CONNECT_INFO, STORE, PROVISION]
    everything = output + outcome.everything + page.text
    assert not [secret for secret in [*posthog.secrets, ADMIN_KEY] if secret in everything]


@pytest.mark.usefixtures("callback_ports")
async def test_case_154_the_authorize_url_is_printed_to_stderr_with_json() -> None:
    process = await start("connect", "posthog", "--no-browser", "--json")
    _, url = await read_until_url(process.stderr)
    assert (await follow(url)).status_code == 200
    outcome = await finish(process)
    assert outcome.code == 0
    assert outcome.json["verdict"] == "connected"


@pytest.mark.usefixtures("callback_ports")
async def test_connect_opens_the_authorize_url_in_the_browser(hogsend: FakeHogsend) -> None:
    outcome = await run("connect", "posthog", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json["verdict"] == "connected"
    assert hogsend.lines == [CONNECT_INFO, STORE, PROVISION]


async def test_ctrl_c_while_waiting_frees_the_ports_and_stores_nothing(
    hogsend: FakeHogsend, callback_ports: tuple[int, ...]
) -> None:
    process = await start("connect", "posthog", "--no-browser", "--json")
    await read_until_url(process.stderr)
    process.send_signal(signal.SIGINT)
    outcome = await finish(process)
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert outcome.json["error"] == "interrupted"
    for port in callback_ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    assert hogsend.lines == [CONNECT_INFO]


@pytest.mark.parametrize(
    "arguments",
    [
        ("connect",),
        ("connect", "stripe"),
        ("connect", "posthog", "--provision-only", "--no-provision"),
    ],
)
async def test_wrong_usage_of_connect_exits_with_1(
    hogsend: FakeHogsend, arguments: tuple[str, ...]
) -> None:
    outcome = await run(*arguments)
    assert outcome.code == 1
    assert "error: " in outcome.err
    assert "hogsend connect posthog" in outcome.err or "exclude" in outcome.err
    assert hogsend.requests == []


async def test_case_168_the_admin_key_is_read_from_the_env_file(
    hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    monkeypatch.delenv("HOGSEND_ADMIN_KEY")
    assert (await run("connect", "posthog", "--provision-only")).code == 1
    assert hogsend.requests == []
    file.write_text(f"HOGSEND_ADMIN_KEY={ADMIN_KEY}\nADMIN_API_KEY=wrong\n")
    assert (await run("connect", "posthog", "--provision-only")).code == 0
    monkeypatch.setenv("ADMIN_API_KEY", "wrong")  # the environment comes first
    assert (await run("connect", "posthog", "--provision-only")).code == 1


async def test_doctor_prints_only_its_document_in_a_process_of_its_own() -> None:
    outcome = await run("doctor", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json["verdict"] == "ok"


@dataclass
class Terminal:
    """A command on a terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int
    output: str = ""

    async def until(self, text: str) -> None:
        """Read until `text` appears on the screen."""
        await eventually(lambda: text in self._more(), 60)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    async def end(self) -> Outcome:
        await eventually(lambda: (self._more(), self.process.poll() is not None)[1], 60)
        return Outcome(self.process.returncode, self._more(), "")

    def _more(self) -> str:
        with contextlib.suppress(BlockingIOError, OSError):
            while chunk := os.read(self.master, 65536):
                self.output += chunk.decode(errors="replace")
        return self.output


@contextlib.contextmanager
def terminal(*arguments: str, columns: int = 100) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    os.set_blocking(master, False)

    def take_terminal() -> None:
        ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509 - Ctrl-C needs a controlling terminal
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


@pytest.mark.usefixtures("callback_ports")
async def test_connect_prompts_for_the_region_on_a_terminal(
    hogsend: FakeHogsend, posthog: FakePostHog
) -> None:
    hogsend.info.update(privateHost=None, hostExplicit=False)
    with terminal("connect", "posthog") as screen:
        await screen.until("Which PostHog?")
        screen.type("custom\n")
        await screen.until("URL of its app")
        screen.type(f"{posthog.url}/\n")
        outcome = await screen.end()
    assert outcome.code == 0, outcome.out
    assert "Connected to PostHog" in outcome.out


@pytest.mark.usefixtures("callback_ports")
@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
async def test_connect_prompts_to_confirm_the_default_region(
    hogsend: FakeHogsend, answer: str, code: int
) -> None:
    hogsend.info["hostExplicit"] = False
    with terminal("connect", "posthog") as screen:
        await screen.until("has no PostHog host configured")
        screen.type(f"{answer}\n")
        outcome = await screen.end()
    assert outcome.code == code, outcome.out
    if code:
        assert "not_configured" in outcome.out
        assert hogsend.lines == [CONNECT_INFO]


@pytest.mark.parametrize("key", ["\x03", "\x04"])
async def test_ctrl_c_at_a_prompt_exits_with_0(hogsend: FakeHogsend, key: str) -> None:
    hogsend.info.update(privateHost=None, hostExplicit=False)
    with terminal("connect", "posthog") as screen:
        await screen.until("Which PostHog?")
        screen.type(key)
        outcome = await screen.end()
    assert outcome.code == 0, outcome.out
    assert "Traceback" not in outcome.out
    assert hogsend.lines == [CONNECT_INFO]


@pytest.mark.usefixtures("callback_ports")
async def test_ctrl_c_on_a_terminal_while_waiting_restores_the_cursor() -> None:
    with terminal("connect", "posthog", "--no-browser") as screen:
        await screen.until("waiting for your consent")
        screen.type("\x03")
        outcome = await screen.end()
    assert outcome.code == 130, outcome.out
    assert "Traceback" not in outcome.out
    hidden, shown = outcome.out.count("\x1b[?25l"), outcome.out.count("\x1b[?25h")
    assert shown >= hidden, "the cursor is still hidden"


async def test_doctor_wraps_text_but_no_url_in_a_narrow_terminal_without_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal("doctor", columns=40) as screen:
        outcome = await screen.end()
    assert outcome.code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", outcome.out)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", outcome.out)
    lines = plain[plain.index("ok ") :].splitlines()
    assert [line for line in lines if len(line) > 40 and "://" not in line] == []
    # URLs are not wrapped, so that they can be copied.
    url = "https://eu.posthog.com/project/1/pipeline/destinations/hog-fn-1"
    assert f"         {url}" in lines


async def test_connect_with_json_does_not_prompt_on_a_terminal(hogsend: FakeHogsend) -> None:
    hogsend.info.update(privateHost=None, hostExplicit=False)
    with terminal("connect", "posthog", "--json") as screen:
        outcome = await screen.end()
    assert outcome.code == 1
    (document,) = re.findall(r"\{.*\}", outcome.out)  # the output also has the spinner, from stderr
    assert json.loads(document)["verdict"] == "not_configured"


def test_ctrl_c_during_the_imports_ends_without_a_traceback() -> None:
    program = """
import os, signal, sys
from cli.process import main

class CtrlC:
    def find_spec(self, name, *_):
        if name == "cli.console":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
main()
"""
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


def test_the_console_script_is_the_entry_that_handles_ctrl_c() -> None:
    scripts = tomllib.loads((Path(main.__file__).parents[1] / "pyproject.toml").read_text())
    assert scripts["project"]["scripts"]["hogsend"] == f"{entry.main.__module__}:main"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("hogsend ev", {"events"}),
        ("hogsend events list --so", {"--source"}),
        ("hogsend connect p", {"posthog"}),
        ("hogsend connect posthog --cl", {"--client-id"}),
    ],
)
def test_bash_completes_commands_and_options(words: str, completed: set[str]) -> None:
    script = f"""
source <({sys.executable} -m cli.main completion bash)
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
$(complete -p hogsend | sed -E 's/.*-F (\\S+).*/\\1/')
echo "${{COMPREPLY[@]}}"
"""
    process = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(process.stdout.split()) == completed


def test_the_help_is_printed_without_importing_the_library() -> None:
    program = (
        "import sys; from cli import main; main.run(['--help']); sys.exit('hogsend' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "connect" in process.stdout
    assert process.returncode == 0
