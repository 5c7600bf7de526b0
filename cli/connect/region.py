"""Which PostHog to connect to (contract 8.3, step 2)."""

from __future__ import annotations

from rich.prompt import Confirm, Prompt

from cli.connect.server import ConnectInfo
from cli.connect.verdicts import Stopped, Verdict
from cli.connect.voice import Voice
from cli.console import out
from hogsend.urls import is_absolute_url, is_loopback

EU = "https://eu.posthog.com"
US = "https://us.posthog.com"
SET_IT = (
    "set POSTHOG_HOST (EU: https://eu.i.posthog.com, US: https://us.i.posthog.com) or "
    "POSTHOG_PRIVATE_HOST on the server and restart it"
)


class Dismissed(Exception):
    """A question was left with Ctrl-C or Ctrl-D."""


def choose(info: ConnectInfo, flag: str | None, voice: Voice) -> str:
    """Find PostHog's app host, without a slash at its end; asks only when somebody is there.

    Raises:
        Stopped: `not_configured`, nobody knows.
        Dismissed: the question was not answered.
    """
    if info.private_host is not None:
        if flag is not None:
            voice.note(f"--posthog-host is not used: the server says {info.private_host}")
        if info.host_explicit is False:
            _accept_default(info.private_host, voice)
        return info.private_host.rstrip("/")
    host = flag if flag is not None else _ask(voice)
    host = host.strip().rstrip("/")
    if not (is_absolute_url(host) and host.lower().startswith(("http://", "https://"))):
        raise Stopped(
            Verdict.NOT_CONFIGURED,
            f"{host or 'nothing'} is not the address of a PostHog",
            hint=f"give its app host, for example --posthog-host {EU}",
        )
    if host.lower().startswith("http:") and not is_loopback(host):
        voice.warn(f"{host} is plain http: what PostHog is told travels unencrypted")
    return host


def _accept_default(host: str, voice: Voice) -> None:
    if not voice.interactive:
        voice.warn(
            f"the server names no PostHog host, so {host} is assumed; to change it, {SET_IT}"
        )
        return
    try:
        agreed = Confirm.ask(f"The server names no PostHog host. Connect to {host}?", console=out)
    except (KeyboardInterrupt, EOFError):
        raise Dismissed from None
    if not agreed:
        raise Stopped(Verdict.NOT_CONFIGURED, f"{host} was declined", hint=SET_IT)


def _ask(voice: Voice) -> str:
    if not voice.interactive:
        raise Stopped(
            Verdict.NOT_CONFIGURED,
            "the server does not know which PostHog it belongs to",
            hint=f"pass --posthog-host, or {SET_IT}",
        )
    try:
        picked = Prompt.ask(
            "Which PostHog? [bold]eu[/] is eu.posthog.com, [bold]us[/] is us.posthog.com",
            choices=["eu", "us", "custom"],
            default="eu",
            console=out,
        )
        if picked == "custom":
            return Prompt.ask("Address of its app, for example https://ph.example.com", console=out)
    except (KeyboardInterrupt, EOFError):
        raise Dismissed from None
    return {"eu": EU, "us": US}[picked]
