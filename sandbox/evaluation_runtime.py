"""Evaluation runtimes of flags and requests: browsers and apps, servers, or both.

Follows `detect_evaluation_runtime_from_request` in rust/feature-flags/src/handler/flags.rs, and
`UserAgentInfo` in src/utils/user_agent.rs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Runtime: TypeAlias = Literal["all", "client", "server"]

_NAMED: dict[str, Runtime] = {"client": "client", "server": "server"}
_BROWSERS = ("Mozilla/", "Chrome/", "Safari/", "Firefox/", "Edge/")
_SERVERS = ("python-requests/", "curl/")
_SDK = re.compile(r"posthog-([^/]+)/\S")
_SDKS: dict[str, Runtime] = {
    **dict.fromkeys(("python", "ruby", "php", "java", "go", "node"), "server"),
    **dict.fromkeys(("dotnet", "elixir", "rs", "server"), "server"),
    **dict.fromkeys(("js", "android", "ios", "react-native", "flutter"), "client"),
}
_SENT_BY_BROWSERS = ("origin", "referer", "sec-fetch-mode", "sec-fetch-site")


def runtime_of(requested: Any, headers: Mapping[str, str]) -> Runtime | None:
    """Detect the runtime of a request; None if it is unknown.

    Args:
        requested: `evaluation_runtime` of the body. An unknown text means all.
        headers: the headers, by lower-case name.
    """
    if isinstance(requested, str):
        return _NAMED.get(requested.lower(), "all")
    agent = headers.get("user-agent", "")
    if agent.startswith("posthog-"):
        sdk = _SDK.match(agent)
        runtime = _SDKS.get(sdk[1]) if sdk else None
        if runtime is not None:
            return runtime
    elif any(part in agent for part in _BROWSERS):
        return "client"
    elif any(part in agent for part in _SERVERS):
        return "server"
    return "client" if any(name in headers for name in _SENT_BY_BROWSERS) else None


def is_evaluated(flag: Runtime, request: Runtime | None) -> bool:
    """Whether a flag with the runtime `flag` is evaluated for a request with the runtime `request`.

    For a request with an unknown runtime only flags for all runtimes are evaluated.
    """
    return "all" in {flag, request} or flag == request
