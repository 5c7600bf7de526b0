"""Running the command: in this process, or as a user does."""

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
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)

    @property
    def everything(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Cli:
    """`hogsend` in this process, with the flags every test wants."""

    url: str
    capture: pytest.CaptureFixture[str]

    def connect(self, **flags: Any) -> Outcome:
        given = {"url": self.url, "admin_key": ADMIN_KEY, "timeout": 20.0, **flags}
        return self("connect", "posthog", **given)

    def doctor(self, **flags: Any) -> Outcome:
        return self("doctor", **{"url": self.url, "admin_key": ADMIN_KEY, **flags})

    def status(self, **flags: Any) -> Outcome:
        return self("status", **{"url": self.url, **flags})

    def __call__(self, *arguments: str, **flags: Any) -> Outcome:
        """Run a command as `cli.main` does; a flag that is None or False is left out."""
        words = [*arguments]
        for name, value in flags.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                words.append(flag)
            elif value is not None and value is not False:
                words += [flag, str(value)]
        with patch.dict(os.environ):  # `.env` is loaded into it
            code = main.run(words)
        written = self.capture.readouterr()
        return Outcome(code, written.out, written.err)


async def start(*arguments: str) -> asyncio.subprocess.Process:
    """`hogsend <arguments>` in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> Outcome:
    """Wait until it ends."""
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode())


async def run(*arguments: str) -> Outcome:
    """`hogsend <arguments>` from start to end."""
    return await finish(await start(*arguments))
