"""Exits a process that has served HTTP with Granian."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """Flush logs and output, and exit at once with this exit code.

    Python's finalization is skipped. During finalization a thread of Granian may still try to
    acquire the GIL. CPython before 3.14 then unwinds that thread's stack, and Rust aborts the
    process (exit code -6). So everything must be saved and closed before this call.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # The reader of a pipe may have exited, which must not change the exit code.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
