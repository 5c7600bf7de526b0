"""Errors that mean that NATS, JetStream or a stream cannot be reached."""

from __future__ import annotations

import nats.errors
from nats.js import errors as js_errors

UNREACHABLE = (nats.errors.Error, js_errors.Error, TimeoutError, OSError)
"""What nats-py raises while NATS, JetStream or a stream cannot be reached."""
