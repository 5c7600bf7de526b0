"""Settings in `.env`, as Compose reads it, and in `keys.env`, as Kubernetes does.

Needs nothing but Python, as `generate_secrets.py`, which changes secrets among them.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

Read = Callable[[str], list[str]]
Edit = Callable[[list[str]], list[str]]

_QUOTED = re.compile(r"""(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)")(?:\s+\#.*)?""")
_COMMENT = re.compile(r"\s+#.*")
_REPLACED = re.compile(r"\$\$|\$(?=[A-Za-z_{])")
_REPLACED_IN_QUOTES = re.compile(r"""\\["\\$]|\$\$|\$(?=[A-Za-z_{])""")
"""What Compose replaces: `$$`, variables and, in double quotes, escapes."""


class SettingsFiles:
    """Files that may set a secret, and earlier ones of it. A change is made in all of them."""

    def __init__(self, *files: Path) -> None:
        """Read and change these files; one that is missing sets nothing."""
        self._files = files
        self.written: list[Path] = []

    def value(self, setting: str) -> str | None:
        """Give a setting's value in the first of the files that has it."""
        return next((word for file in self._files if (word := _value(file, setting))), None)

    def replace(self, setting: str, word: str) -> None:
        """Change a setting that is one secret, wherever it is set."""
        self._change(setting, lambda words: [word] if words else [], read=_one)

    def add(self, setting: str, word: str) -> None:
        """Put a secret first among those that a setting lists."""
        self._change(setting, lambda words: [word, *(one for one in words if one != word)])

    def remove(self, setting: str, word: str) -> None:
        """Take a secret out of those that a setting lists."""
        self._change(setting, lambda words: [one for one in words if one != word])

    def clear(self, setting: str) -> None:
        """Unset a setting."""
        self._change(setting, lambda _words: [])

    def _change(self, setting: str, edit: Edit, read: Read | None = None) -> None:
        # All of them before the first is written: one that cannot hold it stops the change.
        changed = {file: _edited(file, setting, edit, read or _words) for file in self._files}
        for file, lines in changed.items():
            if lines != _lines(file):
                _write(file, lines)
                self.written.append(file)


def _edited(file: Path, setting: str, edit: Edit, read: Read) -> list[str]:
    before = read(_value(file, setting))
    words = edit(before)
    if words == before:
        return _lines(file)
    lines = [line for line in _lines(file) if _set_by(line, setting, file) is None]
    if words:
        lines.append(f"{setting}={_line_of(setting, words, dotenv=_is_dotenv(file))}")
    return lines


def _write(file: Path, lines: list[str]) -> None:
    # What a link leads to is the operator's file; the link stays.
    target = file.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    fresh = target.with_name(f"{target.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    fresh.chmod(mode)
    fresh.replace(target)


def _lines(file: Path) -> list[str]:
    # As Compose reads it: it leaves a byte order mark out, and a page break ends no line.
    text = file.read_text("utf-8-sig") if file.exists() else ""
    return text.removesuffix("\n").split("\n") if text else []


def _is_dotenv(file: Path) -> bool:
    return file.name == ".env"


def _set_by(line: str, setting: str, file: Path) -> str | None:
    """The value that a line gives a setting, as it is written; None for one that gives none."""
    # Compose reads `NAME: value` too.
    separator = "[=:]" if _is_dotenv(file) else "="
    found = re.match(rf"\s*(?:export\s+)?{setting}\s*{separator}(.*)", line, re.DOTALL)
    return found and found[1].strip()


def _value(file: Path, setting: str) -> str:
    found = [_set_by(line, setting, file) for line in _lines(file)]
    value = next((one for one in reversed(found) if one is not None), "")
    if not _is_dotenv(file):
        # Kubernetes takes a line to its end, quotes included, and replaces nothing.
        return value
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        return _passed_on(setting, _COMMENT.sub("", value), _REPLACED)
    if quoted[1] is not None:
        return quoted[1].replace("\\'", "'")
    return _passed_on(setting, quoted[2], _REPLACED_IN_QUOTES)


def _passed_on(setting: str, value: str, replaced: re.Pattern[str]) -> str:
    """What Compose makes of a value that is not in single quotes."""

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$":
            sys.exit(
                f"{setting} has a variable in .env, and its value is not known here; write the "
                "value itself, in single quotes, then run this again. Nothing was changed"
            )
        return found[0][1:]

    return replaced.sub(replace, value)


def _one(value: str) -> list[str]:
    return [value] if value else []


def _words(value: str) -> list[str]:
    """Read secrets as the services do: separated by commas, or a list of JSON."""
    if value.startswith("["):
        return [str(one) for one in json.loads(value)]
    return [one.strip() for one in value.split(",") if one.strip()]


def _line_of(setting: str, words: list[str], *, dotenv: bool) -> str:
    """Write secrets: a list of JSON where one of them has a comma.

    In `.env` single quotes keep variables from being replaced, and what follows a # from being a
    comment. Its readers differ in what else they do in quotes.
    """
    is_plain = not any("," in word or word[0] in "[\"'" for word in words)
    text = ",".join(words) if is_plain else json.dumps(words, ensure_ascii=False)
    if not dotenv or not re.search(r"\$|\s#", text):
        return text
    if re.search(r"['\\]", text):
        sys.exit(
            f"{setting} would have a quote or a backslash beside a $ or #, which .env cannot hold; "
            f"nothing was changed"
        )
    return f"'{text}'"
