"""Every command fails alike: an exit code, and `error:` and `fix:` or one JSON document."""

from __future__ import annotations

import importlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from cyclopts import App

import hogsend
from cli import failures, main
from cli.console import MIN_WIDTH, out
from cli.exit_codes import MEANINGS, ExitCode
from cli.http_failure import failure_reason
from tests.cli.fakes import ADMIN_KEY, FakeHogsend
from tests.cli.recording_server import CannedResponse, Fake, RecordedRequest
from tests.cli.running import Cli
from tests.cli.test_dlq import LETTER, LIST
from tests.cli.test_events import EVENT
from tests.ports import free_port

NOWHERE = "http://127.0.0.1:1"
NO_NATS = "nats://127.0.0.1:1"
ADMIN = ("--url", NOWHERE, "--admin-key", "k")
FAILING: dict[str, tuple[str, ...]] = {
    "connect": ("posthog", *ADMIN),
    "disconnect": ("posthog", "--yes", *ADMIN),
    "doctor": ADMIN,
    "audit": ADMIN,
    "status": ("--url", NOWHERE),
    "events list": ADMIN,
    "events show": ("0190-1", *ADMIN),
    "events send": ("signed_up", "--user", "u_42", *ADMIN),
    "events replay": ("--to", "mailer", "--since", "2026-01-01", *ADMIN),
    "events follow": ("--nats-url", NO_NATS),
    "backfill posthog": ("--since", "2026-01-01", *ADMIN),
    "backfill status": ADMIN,
    "backfill cancel": ADMIN,
    "contacts list": ADMIN,
    "contacts show": ("u_42", *ADMIN),
    "contacts erase": ("u_42", "--yes", *ADMIN),
    "contacts export": ("u_42", *ADMIN),
    "contacts split": ("7", *ADMIN),
    "destinations list": ADMIN,
    "destinations show": ("0190-1", *ADMIN),
    "destinations pause": ("0190-1", *ADMIN),
    "destinations resume": ("0190-1", *ADMIN),
    "destinations test": ("0190-1", *ADMIN),
    "destinations delete": ("0190-1", "--yes", *ADMIN),
    "dlq list": ADMIN,
    "dlq show": ("7", *ADMIN),
    "dlq replay": ("7", *ADMIN),
    "dlq purge": ("7", "--yes", *ADMIN),
    "consumers list": ("--nats-url", NO_NATS),
    "consumers delete": ("EVENTS", "x", "--nats-url", NO_NATS),
    "streams backup": ("backup", "--nats-url", NO_NATS),
    "streams restore": ("nothing",),
    "backup": ("backup",),
    "restore": ("nothing",),
    "compose backup": ("backup", "--deployment", "nowhere"),
    "compose restore": ("nothing", "--deployment", "nowhere"),
    "compose check": (),
    "compose upgrade": ("--deployment", "nowhere"),
    "spool read": ("nothing",),
    "compose layout": ("cluster", "--deployment", "nowhere"),
    "up": (),
    "demo": (),
    "serve": ("nothing",),
    "sandbox": ("--port", "{busy_port}"),
    "completion": ("nothing",),
}
"""Arguments that make each command fail. HOGSEND_HOME is a file, which every command refuses."""

HAS_NO_JSON = {"serve", "completion"}
"""Commands without `--json`: `serve` becomes the service, `completion` prints a script."""

PYTHON_NAMES = re.compile(
    r"Traceback|\b[A-Z][A-Za-z]+(Error|Exception|Timeout)\b|<class|\[Errno|Connect call"
)


def leaves(app: App, *path: str) -> Iterator[str]:
    """Yield the words of every command, without those of groups alone."""
    for name in app:
        if name.startswith("-"):
            continue
        command = app[name]
        if command.default_command is None:
            yield from leaves(command, *path, name)
        else:
            yield " ".join([*path, name])


COMMANDS = sorted(leaves(main.application(*main.COMMANDS)))


def test_every_command_has_an_entry_in_failing() -> None:
    assert sorted(FAILING) == COMMANDS


@pytest.fixture
def busy_port() -> Iterator[int]:
    """A port on which another socket listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def failing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, busy_port: int
) -> tuple[str, ...]:
    """The command line of a failing command."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOGSEND_HOME", str(tmp_path / "file"))
    # No NATS server listens, so waiting the default ten seconds would only slow the test.
    monkeypatch.setattr(hogsend, "connect", partial(hogsend.connect, wait=0.1))
    command: str = request.param
    arguments = [argument.format(busy_port=busy_port) for argument in FAILING[command]]
    return (*command.split(), *arguments)


@pytest.mark.parametrize("failing", COMMANDS, indirect=True)
def test_a_failure_has_an_error_and_a_fix(cli: Cli, failing: tuple[str, ...]) -> None:
    outcome = cli(*failing)
    assert outcome.code in {ExitCode.FAILED, ExitCode.USAGE}
    lines = [line for line in outcome.err.splitlines() if not line.startswith("warning:")]
    assert lines[0].startswith("error: "), outcome.err
    assert lines[-1].startswith("  fix: "), outcome.err
    assert len(lines[-1]) > len("  fix: ")
    assert not PYTHON_NAMES.search(outcome.everything)


@pytest.mark.parametrize(
    "failing", [command for command in COMMANDS if command not in HAS_NO_JSON], indirect=True
)
def test_a_failure_with_json_is_one_document(cli: Cli, failing: tuple[str, ...]) -> None:
    outcome = cli(*failing, "--json")
    assert outcome.code in {ExitCode.FAILED, ExitCode.USAGE}
    assert outcome.json["error"]
    assert outcome.json["fix"]
    assert "error: " not in outcome.err
    assert not PYTHON_NAMES.search(outcome.everything)


class ForeignServer(Fake):
    """A server that is not Hogsend, and answers every request with an empty document."""

    def respond(self, request: RecordedRequest) -> CannedResponse:  # noqa: ARG002
        return CannedResponse(200, {})


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    "command", [command for command, arguments in FAILING.items() if NOWHERE in arguments]
)
def test_an_empty_document_of_another_server_is_not_success(
    cli: Cli, command: str, flags: list[str]
) -> None:
    server = ForeignServer()
    with server.running():
        arguments = [server.url if word == NOWHERE else word for word in FAILING[command]]
        outcome = cli(*command.split(), *arguments, *flags)
    assert server.requests
    assert outcome.code == ExitCode.FAILED
    assert "Hogsend" in (outcome.json["error"] if flags else outcome.err)


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_usage_exits_with_2_and_names_the_help(cli: Cli, command: str) -> None:
    outcome = cli(*command.split(), "--no-such-flag")
    assert outcome.code == ExitCode.USAGE
    assert f"fix: see `hogsend {command} --help`" in outcome.err
    outcome = cli(*command.split(), "--no-such-flag", "--json")
    assert outcome.code == ExitCode.USAGE
    assert "hogsend" in outcome.json["fix"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "nope"),
        (("dlq", "show", "seven"), '"seven" is not a whole number'),
        (("connect", "posthog", "--timeout", "soon"), '"soon" is not a number'),
        (("status", "extra"), "unexpected arguments: 'extra'"),
        (("sandbox", "--port", "99999"), "65535"),
        (("sandbox", "--token-seconds", "0"), "--token-seconds"),
        (("up", "--sandbox-port", "0"), "--sandbox-port"),
    ],
)
def test_wrong_usage_is_reported_without_names_of_python_types(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    outcome = cli(*arguments)
    assert outcome.code == ExitCode.USAGE
    assert message in outcome.err
    assert not re.search(r"\b(int|float|str)\b|Tokens", outcome.err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("contacts", "show", "\udce4", *ADMIN), "UTF-8"),
        (("events", "send", "\udce4", "--user", "u", *ADMIN), "UTF-8"),
        (("events", "follow", "--nats-url", "nats://\udce4"), r"\udce4"),
        (("restore", "\udce4", "--passphrase-file", "\udce4"), r"\udce4"),
        (("status", "--url", "http://\udce4:1"), r"http://\udce4:1 is not the URL"),
        (("status", "--url", "http://-é.example:1"), "http://-é.example:1 is not the URL"),
    ],
)
def test_an_argument_with_invalid_characters_is_an_error_of_the_user(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(hogsend, "connect", partial(hogsend.connect, wait=0.1))
    # Otherwise a restore reports that a stack of this machine's user has its port.
    monkeypatch.setenv("NATS_PORT", str(free_port()))
    outcome = cli(*arguments, "--json")
    assert outcome.code in {ExitCode.FAILED, ExitCode.USAGE}
    assert message in outcome.json["error"]
    assert "fault" not in outcome.json["error"]


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize(
    "command",
    [
        *("destinations show", "destinations pause", "destinations resume", "destinations test"),
        *("destinations delete --yes", "contacts show", "contacts erase --yes", "contacts export"),
        *("events show", "events send --user u", "events replay --since 2026-01-01 --to"),
        *("consumers delete EVENTS", "streams backup", "streams restore", "backup", "restore"),
        *("compose backup", "compose restore", "compose upgrade --deployment", "connect"),
        *("connect posthog --url", "status --url", "contacts erase u --yes --url"),
        *("consumers list --nats-url", "events follow --nats-url", "streams backup x --nats-url"),
        "sandbox --host",
    ],
)
def test_a_blank_argument_is_wrong_usage(cli: Cli, command: str, blank: str) -> None:
    outcome = cli(*command.split(), blank)
    assert outcome.code == ExitCode.USAGE
    assert "is blank" in outcome.err
    assert "--help`" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status",), ExitCode.USAGE),
        (("dlq", "list"), ExitCode.USAGE),
        # The contract (8.2) defines exit code 1 for wrong usage of `connect`.
        (("connect", "posthog"), ExitCode.FAILED),
    ],
)
@pytest.mark.parametrize("url", ["localhost:3002", "ftp://localhost", "http://user@localhost"])
def test_an_invalid_server_url_is_wrong_usage(
    cli: Cli, arguments: tuple[str, ...], code: ExitCode, url: str
) -> None:
    outcome = cli(*arguments, "--url", url)
    assert outcome.code == code
    assert "URL of " in outcome.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_contains_the_summary_of_its_docstring(
    cli: Cli, command: str
) -> None:
    app = main.application(*main.COMMANDS)
    for word in command.split():
        app = app[word]
    documented = app.default_command.__doc__ or ""
    # The help shows code without its backticks.
    summary = " ".join(documented.partition("\n\n")[0].replace("`", "").split())
    outcome = cli(*command.split(), "--help")
    assert outcome.code == 0
    assert summary in " ".join(outcome.out.split())


def test_the_help_lists_every_command_and_exit_code(cli: Cli) -> None:
    text = " ".join(cli("--help").out.replace("│", "").split())
    for name, command in main.COMMANDS.items():
        assert f" {name} {command.summary.replace('`', '')}" in text
    assert list(MEANINGS) == list(ExitCode)
    for code, meaning in MEANINGS.items():
        assert f" {code.value} {meaning.replace('`', '')}" in text


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (PermissionError(13, "Permission denied", "/root/x"), ExitCode.FAILED),
        (OSError(28, "No space left on device"), ExitCode.FAILED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (BrokenPipeError(), ExitCode.CLOSED_PIPE),
        (RuntimeError("a bug"), ExitCode.FAILED),
        (ValueError(), ExitCode.FAILED),
    ],
)
def test_an_exception_is_reported_without_a_traceback(
    capfd: pytest.CaptureFixture[str], raised: BaseException, code: ExitCode
) -> None:
    def command() -> int:
        raise raised

    assert failures.run_guarded(command, ()) == code
    printed = capfd.readouterr()
    assert not PYTHON_NAMES.search(printed.out + printed.err)
    assert ("error: " in printed.err and "  fix: " in printed.err) or (
        code is ExitCode.CLOSED_PIPE and not printed.err
    )


def test_an_exception_shows_its_traceback_when_the_variable_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def command() -> int:
        raise RuntimeError("a bug")

    monkeypatch.setenv(failures.TRACEBACK, "1")
    with pytest.raises(RuntimeError):
        failures.run_guarded(command, ())


def test_a_failure_after_the_json_document_prints_no_second_document(
    capfd: pytest.CaptureFixture[str], cli: Cli, hogsend: FakeHogsend
) -> None:
    assert cli.doctor(json=True).code == 0
    raised = RuntimeError("after the document")

    def command() -> int:
        raise raised

    assert failures.run_guarded(command, ("--json",)) == ExitCode.FAILED
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "error: " in printed.err


@pytest.mark.parametrize("arguments", [("dlq", "list"), ("dlq", "list", "--json"), ("--help",)])
def test_a_closed_pipe_ends_the_command_without_a_traceback(
    hogsend: FakeHogsend, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    page = {"deadLetters": [LETTER] * 100, "total": 100, "nextBefore": None}
    hogsend.responses[LIST] = CannedResponse(200, page)
    monkeypatch.setenv("HOGSEND_API_URL", hogsend.url)
    monkeypatch.setenv("HOGSEND_ADMIN_KEY", hogsend.key)
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert process.returncode == ExitCode.CLOSED_PIPE
    assert "error" not in process.stderr.lower()
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_character_outside_the_output_encoding_is_printed_as_an_escape(
    hogsend: FakeHogsend, encoding: str, flags: list[str]
) -> None:
    name = "grüße 😀"
    hogsend.responses["GET /v1/admin/events?limit=50&offset=0"] = CannedResponse(
        200, {"events": [{**EVENT, "event": name}], "total": 1, "limit": 50, "offset": 0}
    )
    process = subprocess.run(
        [sys.executable, "-m", "cli.main", "events", "list", "--url", hogsend.url, *flags],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "HOGSEND_ADMIN_KEY": ADMIN_KEY},
    )
    assert process.returncode == 0, process.stderr
    if flags:
        assert json.loads(process.stdout.decode(encoding))["events"][0]["event"] == name
    else:
        assert "\\U0001f600" in process.stdout.decode(encoding)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_stdout_is_an_error(hogsend: FakeHogsend, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "cli.main", "status", "--url", hogsend.url, "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert process.returncode == ExitCode.FAILED
    assert process.stderr.startswith("error: No space left on device\n  fix: ")
    assert "Exception ignored" not in process.stderr


def redirected(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell with these redirections."""
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "--json"), ("--help",), ("--version",)], ids=" ".join
)
def test_a_command_whose_stdout_is_closed_fails(
    hogsend: FakeHogsend, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOGSEND_API_URL", hogsend.url)
    process = redirected(">&-", *arguments)
    assert process.returncode == ExitCode.FAILED
    assert process.stderr.startswith("error: stdout is not open for writing\n  fix: ")
    assert len(process.stderr.splitlines()) == 2


def test_a_command_succeeds_with_closed_stdin_and_stderr(hogsend: FakeHogsend) -> None:
    process = redirected("<&- 2>&-", "status", "--url", hogsend.url)
    assert process.returncode == ExitCode.OK
    assert "is healthy" in process.stdout


@pytest.mark.parametrize("target", [">&-", ">/dev/full"])
@pytest.mark.parametrize("arguments", [("status", "--url", NOWHERE), ("status", "--nope")])
def test_a_failure_whose_json_document_cannot_be_written_is_reported_on_stderr(
    target: str, arguments: tuple[str, ...]
) -> None:
    process = redirected(target, *arguments, "--json")
    assert process.returncode == (ExitCode.USAGE if "--nope" in arguments else ExitCode.FAILED)
    assert [line[:7] for line in process.stderr.splitlines()] == ["error: ", "  fix: "]


def test_a_program_started_by_a_command_does_not_reuse_the_descriptor_of_a_closed_stream() -> None:
    script = (
        "import subprocess, sys; from cli.main import open_missing_streams;"
        "open_missing_streams();"
        "done = subprocess.run([sys.executable, '-c', 'import sys; print(sys.stderr is None)'],"
        " stdout=subprocess.PIPE);"
        "sys.stdout.buffer.write(done.stdout)"
    )
    process = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert process.stdout == "False\n"


@pytest.mark.parametrize(("columns", "width"), [("0", MIN_WIDTH), ("10", MIN_WIDTH), ("90", 90)])
def test_a_narrow_terminal_is_treated_as_one_of_the_minimum_width(columns: str, width: int) -> None:
    assert type(out)(_environ={"COLUMNS": columns, "LINES": "9"}).width == width


def test_the_sandbox_refuses_a_host_that_is_not_an_address_of_this_machine(cli: Cli) -> None:
    outcome = cli("sandbox", "--host", "192.0.2.1", port=free_port())
    assert outcome.code == ExitCode.FAILED
    assert "192.0.2.1" in outcome.err
    assert "fix: set an IP address of this machine" in outcome.err


@pytest.mark.parametrize(
    "line", ["A: hunter2", "A:hunter2", "A:hunter2=1", 'A="hunter2', "A hunter2=1", "- A=hunter2"]
)
def test_a_malformed_line_of_the_env_file_is_named_by_its_number(line: str, cli: Cli) -> None:
    Path(".env").write_text(f"# settings\n{line}\nB=1\n")
    outcome = cli.status()
    assert outcome.code == ExitCode.USAGE
    assert "./.env cannot be read: line 2 is not NAME=value" in outcome.err
    assert "hunter2" not in outcome.err


def test_a_name_of_another_program_in_the_env_file_is_ignored(cli: Cli) -> None:
    Path(".env").write_text("Logging:LogLevel=Debug\n")
    assert "./.env" not in cli.status().err


def test_an_env_file_that_is_not_utf_8_is_named(cli: Cli) -> None:
    Path(".env").write_bytes(b"A=\xff\xfe\n")
    outcome = cli.status()
    assert outcome.code == ExitCode.USAGE
    assert "./.env" in outcome.err


def test_log_lines_of_the_library_are_not_printed_to_stderr() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "cli.main", "streams", "backup", "b", "--nats-url", NO_NATS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line[:7] for line in process.stderr.splitlines()] == ["error: ", "  fix: "]


def test_a_backup_of_streams_does_not_overwrite_an_earlier_one(cli: Cli, tmp_path: Path) -> None:
    earlier = tmp_path / "backup" / "EVENTS" / "backup.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    outcome = cli("streams", "backup", str(tmp_path / "backup"), nats_url=NO_NATS)
    assert outcome.code == ExitCode.FAILED
    assert "not overwritten" in outcome.err
    assert earlier.read_text() == "{}"


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("Bearer secret"),
        httpx.ReadTimeout("secret"),
        httpx.RemoteProtocolError("secret"),
        httpx.InvalidURL("secret"),
        httpx.TooManyRedirects("secret"),
        ValueError("secret"),
    ],
)
def test_the_reason_of_a_failed_request_contains_no_class_name_and_no_secret(
    error: Exception,
) -> None:
    reason = failure_reason(error)
    assert reason
    assert "secret" not in reason
    assert type(error).__name__ not in reason


@pytest.mark.parametrize("name", sorted(main.COMMANDS))
def test_the_summary_of_a_group_equals_its_help(name: str) -> None:
    module, _, attribute = main.COMMANDS[name].path.partition(":")
    group = getattr(importlib.import_module(module), attribute)
    assert not isinstance(group, App) or group.help == main.COMMANDS[name].summary
