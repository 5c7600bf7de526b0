"""Reports every failure of a command in one form: `error:` and `fix:`, or one JSON document."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from cyclopts import CycloptsError

from cli.console import is_json_started, print_error, print_json
from cli.errors import CommandError, CommandFailed
from cli.exit_codes import ExitCode

TRACEBACK = "HOGSEND_TRACEBACK"
"""Environment variable that makes a failed command raise its error with a traceback."""

_JSON_FLAGS = frozenset({"--json", "--json=true", "--json=yes", "--json=1"})
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_UNCONVERTED = re.compile(r'unable to convert "(.*)" into (\w+)', re.DOTALL)
_CLASS_NAMES = re.compile(
    r"\b(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Timeout)\b(?:: |(?=\)))|\[Errno \d+\] "
)
_NOT_LISTENING = re.compile(r"Connect call failed \('([^']*)', (\d+)[^)]*\)")
_UNUSED = re.compile(r"Unused Tokens: \[(.*)\]\.?", re.DOTALL)


def run_guarded(command: Callable[[], object], tokens: Sequence[str]) -> int:
    """Run a command, report its failure if it fails, and return its exit code.

    Args:
        command: the command; it returns its exit code.
        tokens: its command line.
    """
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return ExitCode.CLOSED_PIPE
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get(TRACEBACK):
            raise
        return _report(_as_command_error(error, tokens), as_json=wants_json(tokens))
    return code if isinstance(code, int) else ExitCode.OK


def _as_command_error(error: BaseException, tokens: Sequence[str]) -> CommandError:
    match error:
        case CommandError():
            return error
        case CycloptsError():
            return _usage_error(error, tokens)
        case KeyboardInterrupt():
            return CommandError("interrupted", "run it again", exit_code=ExitCode.INTERRUPTED)
        case UnicodeEncodeError():
            return CommandError(
                "an argument or a setting is not UTF-8 text",
                "write it in UTF-8, with a UTF-8 locale in LANG, for example C.UTF-8",
                exit_code=ExitCode.USAGE,
            )
        case OSError():
            return _system_error(error)
    return _unexpected_error(error)


def wants_json(tokens: Sequence[str]) -> bool:
    """Whether a command line has `--json`, also if it cannot be parsed."""
    return any(token.lower() in _JSON_FLAGS for token in tokens)


def _report(error: CommandError, *, as_json: bool) -> int:
    problem, fix = _readable(error.problem), _readable(error.fix)
    # A command that failed after it had printed its document must not print a second one.
    in_document = False
    if as_json and not is_json_started():
        with suppress(OSError):
            print_json(CommandFailed(problem, fix))
            in_document = True
    if not in_document:
        # Without stderr, only the exit code is left to report the failure.
        with suppress(OSError):
            print_error(problem, fix)
    # stdout may still have buffered output that it could not write.
    _discard_output()
    return error.exit_code


def _readable(text: str) -> str:
    """Remove the names of Python classes that libraries put into their error texts.

    Invalid UTF-8 is escaped: arguments and file names can be any bytes.
    """
    text = text.encode(errors="backslashreplace").decode()
    named = _NOT_LISTENING.sub(r"nothing listens at \1:\2", text)
    return _CLASS_NAMES.sub("", named).replace(" ()", "")


def _usage_error(error: CycloptsError, tokens: Sequence[str]) -> CommandError:
    text = _UNCONVERTED.sub(
        lambda match: f'"{match[1]}" is not {_KINDS.get(match[2], "in the required format")}',
        str(error),
    )
    text = _UNUSED.sub(lambda match: f"unexpected arguments: {match[1]}", text)
    words: list[str] = []
    for token in tokens:
        if not re.fullmatch(r"[a-z]+", token):
            break
        words.append(token)
    command = [*(error.command_chain or ())] or (
        [] if text.startswith("Unknown command") else words
    )
    help_command = " ".join(["hogsend", *command, "--help"])
    return CommandError(text, f"see `{help_command}`", exit_code=ExitCode.USAGE)


def _system_error(error: OSError) -> CommandError:
    if error.errno == errno.EBADF:
        return CommandError(
            "stdout is not open for writing", "redirect stdout to /dev/null to discard the output"
        )
    problem = error.strerror or "the operating system refused"
    if error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        return CommandError(
            f"{name or 'a file'}: {problem}",
            "use a file or directory that this user may access, on a disk with free space",
        )
    return CommandError(problem, "check that the disk has free space and the machine free memory")


def _unexpected_error(error: BaseException) -> CommandError:
    return CommandError(
        f"a bug in this command: {error}" if str(error) else "a bug in this command",
        f"report it with the output of the same command after `export {TRACEBACK}=1`",
    )


def _discard_output() -> None:
    """Redirect stdout and stderr to /dev/null if they are closed.

    Python flushes both when it exits, and would print an error about the closed pipe.
    """
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(devnull, stream.fileno())
    os.close(devnull)
