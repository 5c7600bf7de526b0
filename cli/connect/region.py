"""Chooses the PostHog host to connect to (contract 8.3, step 2)."""

from __future__ import annotations

from rich.prompt import Confirm, Prompt

from cli.admin.messages import ConnectInfo
from cli.connect.results import ConnectError, Verdict
from cli.console import out
from cli.terminal import Terminal
from hogsend.posthog.hosts import REGIONS, check_host, private_host
from hogsend.urls import is_absolute_url, is_loopback

SET_HOST = (
    "set POSTHOG_HOST (EU: https://eu.i.posthog.com, US: https://us.i.posthog.com) or "
    "POSTHOG_PRIVATE_HOST on the server and restart it"
)


class Dismissed(Exception):
    """The user dismissed a question with Ctrl-C or Ctrl-D."""


def choose(info: ConnectInfo, flag: str | None, terminal: Terminal) -> str:
    """Return the URL of PostHog's app, without a trailing slash. Asks only on a terminal.

    Args:
        info: the server's configuration, which takes precedence.
        flag: `--posthog-host`, for a server without a configured host: a URL, or `eu` or `us`.
        terminal: for questions and warnings.

    Raises:
        ConnectError: `not_configured`: there is no host, or it is not a URL.
        Dismissed: the user dismissed the question.
    """
    if info.private_host is not None:
        if flag is not None:
            terminal.note(
                f"--posthog-host is ignored: the server is configured for {info.private_host}"
            )
        if info.host_explicit is False:
            _accept_default(info.private_host, terminal)
        return info.private_host.rstrip("/")
    host = (flag if flag is not None else _prompt(terminal)).strip()
    host = private_host(REGIONS.get(host.lower(), host))
    _check(host)
    if host.lower().startswith("http:") and not is_loopback(host):
        terminal.warn(f"{host} is plain http: credentials are sent unencrypted")
    return host


def _check(host: str) -> None:
    problem = f"'{host}' is not the URL of a PostHog"
    hint = f"pass the URL of PostHog's app, for example --posthog-host {REGIONS['eu']}"
    if not (is_absolute_url(host) and host.lower().startswith(("http://", "https://"))):
        raise ConnectError(Verdict.NOT_CONFIGURED, problem, hint=hint)
    try:
        check_host(host)
    except ValueError as error:
        raise ConnectError(Verdict.NOT_CONFIGURED, f"{problem}: {error}", hint=hint) from None


def _accept_default(host: str, terminal: Terminal) -> None:
    if not terminal.interactive:
        terminal.warn(
            f"the server has no PostHog host configured, so {host} is used; to change it, "
            f"{SET_HOST}"
        )
        return
    try:
        agreed = Confirm.ask(
            f"The server has no PostHog host configured. Connect to {host}?", console=out
        )
    except (KeyboardInterrupt, EOFError):
        raise Dismissed from None
    if not agreed:
        raise ConnectError(Verdict.NOT_CONFIGURED, f"{host} was declined", hint=SET_HOST)


def _prompt(terminal: Terminal) -> str:
    if not terminal.interactive:
        raise ConnectError(
            Verdict.NOT_CONFIGURED,
            "the server has no PostHog host configured",
            hint=f"pass --posthog-host, or {SET_HOST}",
        )
    try:
        picked = Prompt.ask(
            "Which PostHog? [bold]eu[/] is eu.posthog.com, [bold]us[/] is us.posthog.com",
            choices=["eu", "us", "custom"],
            default="eu",
            console=out,
        )
        if picked == "custom":
            return Prompt.ask("URL of its app, for example https://ph.example.com", console=out)
    except (KeyboardInterrupt, EOFError):
        raise Dismissed from None
    return picked
