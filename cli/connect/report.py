"""Prints the result of `hogsend connect` as text."""

from __future__ import annotations

from collections.abc import Collection

from rich.text import Text

from cli.admin.client import Rotated
from cli.admin.messages import OtherDestination
from cli.connect.results import Connected, Failed, NotProvisioned, Provisioned, Skipped, Verdict
from cli.console import err, out, print_hanging
from cli.redaction import printable

AGAIN = "run `hogsend connect posthog` again; `hogsend doctor` checks the connection"
RERUN = "then run `hogsend connect posthog --provision-only`"


_ROTATED: dict[Rotated, str] = {
    "rotateWebhookSecret": "secret",
    "rotateSigningKey": "signing key",
}


def show(result: Connected, rotated: Collection[Rotated] = ()) -> None:
    """Print a success on stdout: the credential, the destination, and the rotated secrets."""
    provision = result.provision
    if isinstance(provision, NotProvisioned):
        print_hanging(
            out,
            ("the webhook destination was not provisioned: ", "yellow"),
            provision.error,
            indent=2,
        )
        if isinstance(provision.detail, str):
            print_hanging(out, ("  ", ""), provision.detail)
        fixes = [text for text in (provision.remediation, provision.hint) if isinstance(text, str)]
        print_hanging(out, ("  fix: ", "bold"), "\n".join([*fixes, RERUN]))
    out.print()
    connected = result.verdict is Verdict.CONNECTED
    out.print(Text(_headline(result), "bold green" if connected else "bold yellow"), soft_wrap=True)
    rotation = "replaced; the previous one stays valid for a day"
    rows = _rows(result) | {_ROTATED[one]: rotation for one in rotated}
    for name, value in rows.items():
        # Not wrapped, so that values can be copied.
        line = Text.assemble((f"  {name:<12}", "bold"), printable(value))
        out.print(line, soft_wrap=True)
    if isinstance(provision, Provisioned) and isinstance(provision.other_instances, list):
        for other in provision.other_instances:
            _show_other_destination(other)


def _show_other_destination(other: OtherDestination) -> None:
    out.print()
    print_hanging(
        out,
        ("note: ", "yellow"),
        f"another destination in this project delivers to {other.webhook_url}. If that server no "
        "longer exists, disable the destination in PostHog, or adopt it (docs/connect.md)",
    )
    page = printable(other.dashboard_url or other.hog_function_id)
    out.print(Text(f"      {page}"), soft_wrap=True)


def show_failure(failed: Failed) -> None:
    """Print a failure on stderr: the problem, PostHog's detail, and the fix."""
    print_hanging(err, ("error: ", "bold red"), f"{failed.verdict}: {failed.error}")
    if isinstance(failed.detail, str):
        print_hanging(err, ("       ", ""), failed.detail)
    fixes = [text for text in (failed.remediation, failed.hint) if isinstance(text, str)]
    print_hanging(err, ("  fix: ", "bold"), "\n".join(fixes) or AGAIN)


def _headline(result: Connected) -> str:
    if result.verdict is Verdict.CONNECTED:
        return "Connected to PostHog"
    if isinstance(result.provision, Skipped) and result.provision.skipped == "no_provision_flag":
        return "Connected; the webhook destination was left unchanged"
    if isinstance(result.provision, NotProvisioned):
        return "Connected, but the webhook destination could not be provisioned"
    return "Connected, but PostHog cannot deliver to this server yet"


def _rows(result: Connected) -> dict[str, str]:
    rows = {"server": result.instance}
    if result.posthog is not None:
        rows["PostHog"] = result.posthog.private_host
        teams = ", ".join(str(team) for team in result.posthog.scoped_teams)
        rows["project"] = teams or "not limited to one project"
    if isinstance(result.credential.expires_at, str):
        rows["token until"] = f"{result.credential.expires_at}, refreshed by the server"
    if isinstance(result.provision, Provisioned):
        rows |= _destination(result.provision)
    return rows


def _destination(provision: Provisioned) -> dict[str, str]:
    state = "created" if provision.created is True else "exists, up to date"
    if provision.enabled is False:
        state += "; disabled until API_PUBLIC_URL is public"
    signed = _signed(provision)
    return {
        "destination": f"{provision.hog_function_id or '(unknown)'}, {state}",
        "delivers to": provision.webhook_url or "(unknown)",
        "in PostHog": provision.dashboard_url or "(unknown)",
        **({} if signed is None else {"signed": signed}),
    }


_UNSIGNED = {
    "unsupported": "this version of PostHog cannot sign webhooks",
    "custom_program": "the destination's code was changed in PostHog",
    "no_key": "there is no signing key",
}


def _signed(provision: Provisioned) -> str | None:
    if not isinstance(provision.signed, bool):
        return None
    if provision.signed:
        return "yes, every delivery"
    reason = provision.unsigned_because
    return f"no: {_UNSIGNED.get(reason, reason)}" if isinstance(reason, str) else "no"
