"""Reads and edits secrets in `.env`, as Compose reads it, and in `keys.env`, as Kubernetes does.

Needs only Python, like `generate_secrets.py`, which uses it.
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
"""Parts of a value that Compose replaces: `$$`, variables and, in double quotes, escapes."""


class SettingsFiles:
    """Files that may set a secret and its previous ones. A change is made in every file."""

    def __init__(self, *files: Path) -> None:
        """Read and edit these files. A missing file sets nothing."""
        self._files = files
        self.written: list[Path] = []

    def value(self, setting: str) -> str | None:
        """Return a setting's value from the first file that sets it."""
        return next((value for file in self._files if (value := _value(file, setting))), None)

    def replace(self, setting: str, secret: str) -> None:
        """Replace the value of a setting with a single secret, in the files that set it."""
        self._change(setting, lambda secrets: [secret] if secrets else [], read=_single)

    def add(self, setting: str, secret: str) -> None:
        """Insert a secret at the start of a setting's list."""
        self._change(setting, lambda secrets: [secret, *(one for one in secrets if one != secret)])

    def remove(self, setting: str, secret: str) -> None:
        """Remove a secret from a setting's list."""
        self._change(setting, lambda secrets: [one for one in secrets if one != secret])

    def clear(self, setting: str) -> None:
        """Unset a setting."""
        self._change(setting, lambda _secrets: [])

    def _change(self, setting: str, edit: Edit, read: Read | None = None) -> None:
        # All files are edited in memory first: if one cannot represent the value, none is changed.
        changed = {file: _edit_file(file, setting, edit, read or _listed) for file in self._files}
        for file, lines in changed.items():
            if lines != _lines(file):
                _write(file, lines)
                self.written.append(file)


def _edit_file(file: Path, setting: str, edit: Edit, read: Read) -> list[str]:
    """Return the lines of a file with an edited setting."""
    before = read(_value(file, setting))
    after = edit(before)
    if after == before:
        return _lines(file)
    lines = [line for line in _lines(file) if _assigned_value(line, setting, file) is None]
    if after:
        lines.append(f"{setting}={_format(setting, after, is_dotenv=_is_dotenv(file))}")
    return lines


def _write(file: Path, lines: list[str]) -> None:
    # A symbolic link is kept, and its target replaced.
    target = file.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    fresh = target.with_name(f"{target.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    fresh.chmod(mode)
    fresh.replace(target)


def _lines(file: Path) -> list[str]:
    # As Compose reads it: without a byte order mark, and not split at form feeds.
    text = file.read_text("utf-8-sig") if file.exists() else ""
    return text.removesuffix("\n").split("\n") if text else []


def _is_dotenv(file: Path) -> bool:
    return file.name == ".env"


def _assigned_value(line: str, setting: str, file: Path) -> str | None:
    """Return the unparsed value that a line assigns to a setting; None if it assigns none."""
    # Compose reads `NAME: value` too.
    separator = "[=:]" if _is_dotenv(file) else "="
    assignment = re.match(rf"\s*(?:export\s+)?{setting}\s*{separator}(.*)", line, re.DOTALL)
    return assignment and assignment[1].strip()


def _value(file: Path, setting: str) -> str:
    """Return the value that Compose or Kubernetes reads for a setting; empty if it is unset."""
    assigned = [_assigned_value(line, setting, file) for line in _lines(file)]
    value = next((one for one in reversed(assigned) if one is not None), "")
    if not _is_dotenv(file):
        # Kubernetes reads the line to its end, quotes included, and replaces nothing.
        return value
    quoted = _QUOTED.fullmatch(value)
    if quoted is None:
        return _interpolated(setting, _COMMENT.sub("", value), _REPLACED)
    if quoted[1] is not None:
        return quoted[1].replace("\\'", "'")
    return _interpolated(setting, quoted[2], _REPLACED_IN_QUOTES)


def _interpolated(setting: str, value: str, replaced: re.Pattern[str]) -> str:
    """Return a value without single quotes as Compose reads it; exit if it has a variable."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$":
            sys.exit(
                f"{setting} in .env has a variable, whose value is not known here: write the "
                "value itself, in single quotes, then run this again. Nothing was changed"
            )
        return match[0][1:]

    return replaced.sub(replace, value)


def _single(value: str) -> list[str]:
    return [value] if value else []


def _listed(value: str) -> list[str]:
    """Parse a list of secrets as the services do: separated by commas, or a JSON array."""
    if value.startswith("["):
        return [str(one) for one in json.loads(value)]
    return [one.strip() for one in value.split(",") if one.strip()]


def _format(setting: str, secrets: list[str], *, is_dotenv: bool) -> str:
    """Format a list of secrets, as a JSON array if one of them has a comma.

    In `.env`, single quotes protect `$` from interpolation, and ` #` from starting a comment. No
    escapes are used inside the quotes, since programs that read `.env` differ in them.
    """
    is_plain = not any("," in secret or secret[0] in "[\"'" for secret in secrets)
    text = ",".join(secrets) if is_plain else json.dumps(secrets, ensure_ascii=False)
    if not is_dotenv or not re.search(r"\$|\s#", text):
        return text
    if re.search(r"['\\]", text):
        sys.exit(
            f"{setting} would have a quote or a backslash together with a $ or #, which .env "
            "cannot represent; nothing was changed"
        )
    return f"'{text}'"
