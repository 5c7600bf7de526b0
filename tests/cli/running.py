"""Runs the command: in this process, or in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from cli import main
from tests.cli.fakes import ADMIN_KEY


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def everything(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Cli:
    """`hogsend` in this process, with the options that every test needs."""

    url: str
    capture: pytest.CaptureFixture[str]

    def connect(self, **flags: Any) -> Outcome:
        options = {"url": self.url, "admin_key": ADMIN_KEY, "timeout": 20.0, **flags}
        return self("connect", "posthog", **options)

    def doctor(self, **flags: Any) -> Outcome:
        return self("doctor", **{"url": self.url, "admin_key": ADMIN_KEY, **flags})

    def status(self, **flags: Any) -> Outcome:
        return self("status", **{"url": self.url, **flags})

    def __call__(self, *arguments: str, **flags: Any) -> Outcome:
        """Run a command as `cli.main` does. An option that is None or False is omitted."""
        words = [*arguments]
        for name, value in flags.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif value is not None and value is not False:
                words += [flag, str(value)]
        with patch.dict(os.environ):  # the command loads `.env` into os.environ
            code = main.run(words)
        written = self.capture.readouterr()
        return Outcome(code, written.out, written.err)


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """Start `hogsend <arguments>` in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> Outcome:
    """Wait until the process ends; return its result."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


async def run(*arguments: str) -> Outcome:
    """Run `hogsend <arguments>` until it ends."""
    return await finish(await start(*arguments))
