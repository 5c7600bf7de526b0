"""Errors of nats-py, and those that Hogsend adds to them."""

from __future__ import annotations

import nats.errors
from nats.js import errors as js_errors

UNREACHABLE = (nats.errors.Error, js_errors.Error, TimeoutError, OSError)
"""What nats-py raises while NATS, JetStream or a stream cannot be reached."""


class RequestRefused(nats.errors.Error):
    """The server does not permit this NATS user a request to JetStream's API.

    An error of `UNREACHABLE`, since nats-py's own calls time out there, and their callers retry.
    """
