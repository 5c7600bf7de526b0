"""Ends a process that served HTTP."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End now, with this exit code, once what was logged and printed is out.

    Without finalizing Python: a thread of Granian's may still want the interpreter, and before
    version 3.14 CPython unwinds such a thread's stack, which Rust answers with an abort (exit code
    -6). Nothing that has to be saved or closed may be left to finalization.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Its reader may be gone, which is no reason for another exit code.
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
