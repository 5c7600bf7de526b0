"""Where a flag may be evaluated, and where a request comes from.

As `detect_evaluation_runtime_from_request` in rust/feature-flags/src/handler/flags.rs, with
`UserAgentInfo` of src/utils/user_agent.rs.
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


def runtime_of(asked: Any, headers: Mapping[str, str]) -> Runtime | None:
    """Tell where a request comes from; None when neither it nor its headers say so.

    Args:
        asked: `evaluation_runtime` of its body. A text that is none of the three means all.
        headers: its headers, by lower-case name.
    """
    if isinstance(asked, str):
        return _NAMED.get(asked.lower(), "all")
    agent = headers.get("user-agent", "")
    if agent.startswith("posthog-"):
        sdk = _SDK.match(agent)
        known = _SDKS.get(sdk[1]) if sdk else None
        if known is not None:
            return known
    elif any(part in agent for part in _BROWSERS):
        return "client"
    elif any(part in agent for part in _SERVERS):
        return "server"
    return "client" if any(name in headers for name in _SENT_BY_BROWSERS) else None


def is_evaluated(flag: Runtime, request: Runtime | None) -> bool:
    """Whether a flag of one runtime is evaluated for a request from another.

    A request that is known to come from neither gets only flags for all.
    """
    return "all" in {flag, request} or flag == request
