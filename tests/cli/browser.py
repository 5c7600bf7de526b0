"""A browser for tests: opens a URL, follows every redirect, then exits."""

from __future__ import annotations

import contextlib
import sys
import urllib.error
import urllib.request

with contextlib.suppress(urllib.error.HTTPError):
    urllib.request.urlopen(sys.argv[1], timeout=20)  # noqa: S310 - a loopback address
