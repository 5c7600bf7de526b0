"""Why a request over HTTP got no answer, in words that quote nothing that was sent."""

from __future__ import annotations

import ssl

import httpx

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (httpx.ConnectTimeout, "no connection in time"),
    (httpx.TimeoutException, "nothing came in time"),
    (TimeoutError, "no complete answer came in time"),
    (httpx.ConnectError, "no connection: nothing listens there, or the name is not known"),
    (httpx.ProxyError, "the proxy refused"),
    (httpx.RemoteProtocolError, "the connection ended, or it is not an HTTP server"),
    (httpx.TooManyRedirects, "it only redirects"),
    (httpx.DecodingError, "its answer is not encoded as it says"),
    (httpx.NetworkError, "the connection broke"),
    (httpx.UnsupportedProtocol, "it is neither http nor https"),
    (httpx.InvalidURL, "it is not an address"),
)
"""In this order: a class that another one derives from comes after it."""


def why_no_answer(error: Exception) -> str:
    """Return the reason. The text of the error itself is not used: some quote a header."""
    if isinstance(error, httpx.ConnectError) and _is_about_tls(error):
        return "no TLS connection: its certificate is not valid here, or it does not speak TLS"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "the request could not be sent"


def _is_about_tls(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
