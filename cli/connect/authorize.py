"""Consent in the browser, and the grant that comes of it (contract 3.3 and 3.4)."""

from __future__ import annotations

import getpass
import os
import socket
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from cli.connect.browser import open_browser
from cli.connect.discovery import Endpoints
from cli.connect.exchange import exchange
from cli.connect.loopback import HOST, listening
from cli.connect.pkce import Proof
from cli.connect.server import Grant
from cli.connect.voice import Voice
from hogsend.posthog.scopes import SCOPES


def authorize_url(endpoint: str, *, client_id: str, redirect_uri: str, proof: Proof) -> str:
    """Address of the consent page; parameters `endpoint` already has are kept."""
    parts = urlsplit(endpoint)
    ours = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(SCOPES),
        "state": proof.state,
        "code_challenge": proof.challenge,
        "code_challenge_method": "S256",
        "required_access_level": "team",
    }
    theirs = [pair for pair in parse_qsl(parts.query, True) if pair[0] not in ours]  # noqa: FBT003
    query = urlencode([*theirs, *ours.items()], quote_via=quote)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


async def obtain_grant(
    endpoints: Endpoints, client_id: str, voice: Voice, *, browser: bool, patience: float
) -> Grant:
    """Ask for consent, wait for the answer, trade it for tokens.

    The loopback server stays until the exchange is done, so that a browser that asks again is told.

    Raises:
        Stopped: no port, no consent, a foreign answer, none in `patience` seconds, or no tokens.
    """
    proof = Proof()
    async with listening(proof.state) as listener:
        url = authorize_url(
            endpoints.authorization_endpoint,
            client_id=client_id,
            redirect_uri=listener.redirect_uri,
            proof=proof,
        )
        await _show(url, listener.port, voice, browser=browser)
        with voice.busy(f"waiting for your answer in the browser, at most {patience:g} s"):
            code = await listener.code(patience)
        voice.step("PostHog agreed; trading its code for tokens")
        with voice.busy("trading the code for tokens"):
            return await exchange(
                code,
                proof,
                token_endpoint=endpoints.token_endpoint,
                redirect_uri=listener.redirect_uri,
                client_id=client_id,
            )


async def _show(url: str, port: int, voice: Voice, *, browser: bool) -> None:
    if browser and await open_browser(url):
        voice.step(
            "approve the request in your browser; if none opened, press Ctrl-C and use --no-browser"
        )
        return
    if browser:
        voice.warn("no browser could be opened on this machine")
    voice.explain("Open this address in a browser and approve the request:")
    voice.show_url(url)
    voice.explain(
        f"PostHog's answer comes back to {HOST}:{port} on this machine. If the browser runs on "
        f"another one, first run there:\n\n  {_forwarding(port)}\n"
    )


def _forwarding(port: int) -> str:
    # Over ssh the server told us the address it was reached at: it works again.
    connection = os.environ.get("SSH_CONNECTION", "").split()
    here = connection[2] if len(connection) == 4 else socket.gethostname()  # noqa: PLR2004 - its four fields
    return f"ssh -N -L {port}:{HOST}:{port} {getpass.getuser()}@{here}"
