"""Opens the operator's browser, if the machine has one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

OPEN_SECONDS = 3.0
POLL_SECONDS = 0.05
_OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"


async def open_browser(url: str) -> bool:
    """Open `url` in a browser; return False if this machine has none.

    `BROWSER` chooses the browser, as for Python's `webbrowser`. The browser runs in a separate
    process and session, because it may stay in the foreground, and must not write to the command's
    output or receive its Ctrl-C.
    """
    if not _has_screen():
        return False
    # Without TERM, `webbrowser` does not fall back to a text browser, which would need a terminal.
    environment = {name: value for name, value in os.environ.items() if name != "TERM"}
    try:
        opener = subprocess.Popen(  # noqa: ASYNC220 - does not wait
            [sys.executable, "-c", _OPEN, url],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    deadline = asyncio.get_running_loop().time() + OPEN_SECONDS
    while opener.poll() is None:
        if asyncio.get_running_loop().time() > deadline:
            return True  # the browser stays in the foreground
        await asyncio.sleep(POLL_SECONDS)
    return opener.returncode == 0


def _has_screen() -> bool:
    if sys.platform in {"darwin", "win32"}:
        return True
    names = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME")
    return any(os.environ.get(name) for name in names)
