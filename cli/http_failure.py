"""The reason why an HTTP request got no response, without quoting anything of the request."""

from __future__ import annotations

import ssl

import httpx

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (httpx.ConnectTimeout, "the connection timed out"),
    (httpx.TimeoutException, "the request timed out"),
    (TimeoutError, "the response was not complete in time"),
    (httpx.ConnectError, "no connection: nothing listens there, or the host name is not known"),
    (httpx.ProxyError, "the proxy refused the request"),
    (httpx.RemoteProtocolError, "the connection was closed, or it is not an HTTP server"),
    (httpx.TooManyRedirects, "too many redirects"),
    (httpx.DecodingError, "the response does not match its Content-Encoding"),
    (httpx.NetworkError, "the connection was lost"),
    (httpx.UnsupportedProtocol, "the URL is neither http nor https"),
    (httpx.InvalidURL, "the URL is invalid"),
)
"""The first class that matches counts, so a base class comes after its subclasses."""


def failure_reason(error: Exception) -> str:
    """Return the reason. The error's own text is not used, because some quote a header."""
    if isinstance(error, httpx.ConnectError) and _is_tls_error(error):
        return "TLS failed: this machine does not trust the certificate, or it is not a TLS server"
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return reason
    return "the request could not be sent"


def _is_tls_error(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
