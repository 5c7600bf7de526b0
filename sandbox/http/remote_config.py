"""posthog-js's configuration: `/array/{token}/config` (posthog/models/remote_config.py)."""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath

from sandbox.errors import not_found
from sandbox.instance import Instance


class Analytics(msgspec.Struct, frozen=True):
    """The path that events are sent to."""

    endpoint: str = "/i/v0/e/"


class Features(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The features of posthog-js that a project uses: only events and flags, without extensions."""

    supported_compression: tuple[str, ...] = ("gzip", "gzip-js")
    capture_dead_clicks: bool = False
    capture_performance: bool = False
    autocapture_opt_out: bool = msgspec.field(default=False, name="autocapture_opt_out")
    autocapture_exceptions: bool = False
    analytics: Analytics = Analytics()
    elements_chain_as_string: bool = True
    session_recording: bool = False
    heatmaps: bool = False
    surveys: bool = False
    default_identified_only: bool = True
    site_apps: tuple[str, ...] = ()


class RemoteConfig(Features, frozen=True, kw_only=True, rename="camel"):
    """The features of a project, as current versions of posthog-js request them."""

    token: str
    has_feature_flags: bool


class Autocapture(msgspec.Struct, frozen=True):
    """Whether posthog-js captures clicks and page views, without which old versions do not."""

    enable_collect_everything: bool = True


class DecideConfig(Features, frozen=True, kw_only=True, rename="camel"):
    """The features of a project, as older versions of posthog-js receive them with the flags.

    Source: rust/feature-flags/src/handler/config_response_builder.rs.
    """

    config: Autocapture = Autocapture()
    toolbar_params: dict[str, str] = {}
    is_authenticated: bool = False


@get("/array/{token:str}/config", sync_to_thread=False)
def get_remote_config(instance: NamedDependency[Instance], token: FromPath[str]) -> RemoteConfig:
    """Return a project's configuration as JSON."""
    return _config(instance, token)


@get("/array/{token:str}/config.js", media_type="application/javascript", sync_to_thread=False)
def get_remote_config_script(instance: NamedDependency[Instance], token: FromPath[str]) -> bytes:
    """Return a project's configuration as a script that sets posthog-js's global variable."""
    value = {token: {"config": _config(instance, token), "siteApps": []}}
    json = msgspec.json.encode(value).replace(b"</", rb"<\/")
    variable = b"window._POSTHOG_REMOTE_CONFIG"
    return b"%s = Object.assign(%s || {}, %s);" % (variable, variable, json)


@get("/static/{path:path}", media_type="application/javascript", sync_to_thread=False)
def get_extension(path: FromPath[str]) -> bytes:
    """Return an empty script for an extension that posthog-js loads on demand."""
    name = path.rpartition("/")[2]
    if not name.endswith(".js") or name.startswith("array"):
        raise not_found()
    return b""


def _config(instance: Instance, token: str) -> RemoteConfig:
    if token != instance.options.project_key:
        raise not_found()
    return RemoteConfig(token=token, has_feature_flags=bool(instance.flags.all))
