"""Addresses of PostgreSQL: libpq's URI, parsed once for migrations and queries.

asyncpg sends every parameter it does not know to the server as a setting; a server answers with
`unrecognized configuration parameter`, a pooler with `unsupported startup parameter`. So each
parameter of libpq (PostgreSQL 18, section 32.1.2) is either understood here, or named as one that
is not.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

DEFAULT_PORT = 5432
SCHEMES = ("postgresql", "postgres")

_SSL = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
_SSL_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_SESSION = frozenset({"any", "read-write", "read-only", "primary", "standby", "prefer-standby"})
_WRITABLE = frozenset({"any", "read-write", "primary"})
_SETTINGS = ("application_name", "options")
"""Settings that PostgreSQL and poolers take when a connection starts."""
_WITHOUT_EFFECT = frozenset(
    {
        # The statements here have time limits of their own.
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "fallback_application_name", "sslcompression", "sslsni"),
        # Not libpq's: Supabase shows it, for Prisma. A pooler is noticed without it.
        "pgbouncer",
    }
)
_ONLY: dict[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8", "unicode"}),
    "load_balance_hosts": frozenset({"disable"}),
    "sslnegotiation": frozenset({"postgres"}),
    "target_session_attrs": _SESSION,
    "sslmode": _SSL_MODES,
}
"""Values that can be kept for parameters that ask for something."""
_INSTEAD = {
    "channel_binding": "asyncpg cannot bind a login to its TLS channel; sslmode=verify-full with "
    "sslrootcert=/path/to/ca.pem protects against the same attack",
}
"""Why another value cannot be kept, and what has the effect that was asked for."""
_OTHERS = {
    "ssl": "write sslmode=require for ssl=true",
    "sslaccept": "write sslmode=verify-full, or sslmode=require to accept any certificate",
    "schema": "write options=-c%20search_path%3Dname for schema=name",
    "currentSchema": "write options=-c%20search_path%3Dname for currentSchema=name",
    "connection_limit": "remove it, and set DATABASE_POOL_SIZE",
    "pool_timeout": "remove it",
}
"""What drivers and mappers of other languages have in its place, and libpq's word for it."""
_KNOWN = frozenset({*_SSL, *_SETTINGS, *_WITHOUT_EFFECT, *_ONLY, "connect_timeout"})
_IN_THE_ADDRESS = frozenset({"host", "port", "user", "password", "dbname", "database"})

_FORM = "write postgresql://user:password@host:5432/database"


class PostgresAddress(msgspec.Struct, frozen=True):
    """Where PostgreSQL is, and how to connect to it."""

    hosts: list[tuple[str, int]]
    """Host names, addresses or directories of sockets, each with its port, in the order to try."""
    user: str | None
    password: str | None
    database: str | None
    parameters: dict[str, str]
    """Those of libpq that have an effect here."""

    def __repr__(self) -> str:
        """Name the hosts only."""
        return f"PostgresAddress(hosts={self.hosts!r})"

    @classmethod
    def parse(cls, url: str) -> PostgresAddress:
        """Read libpq's URI.

        Raises:
            ValueError: it is none, or asks for something that is not supported. The message says
                what to write, and repeats nothing but names of parameters.
        """
        scheme, separator, rest = url.strip().partition("://")
        if not separator or scheme.lower() not in SCHEMES:
            raise ValueError(f"it is not the address of a PostgreSQL server; {_FORM}")
        if "#" in rest:
            raise ValueError("it has a #, which ends an address; write %23 for a # in a password")
        if any(character <= " " or character == "\x7f" for character in rest):
            raise ValueError("it has a space or a control character; write %20 for a space")
        location, _, query = rest.partition("?")
        authority, _, path = location.partition("/")
        if "@" in path or "@" in query:
            # A / or ? in a password: what follows would be taken for a database or a parameter.
            raise ValueError(
                "it has an @ after the host; write %2F, %3F and %40 for a /, ? or @ in a password"
            )
        credentials, _, places = authority.rpartition("@")
        user, _, password = credentials.partition(":")
        given = _parameters(query)
        places = given.pop("host", "") or places
        ports = given.pop("port", "")
        database = given.pop("dbname", None) or given.pop("database", None) or unquote(path)
        hosts = _hosts(places, ports)
        if len(hosts) > 1:
            # One of them may be a standby, and rows are written.
            given.setdefault("target_session_attrs", "read-write")
        return cls(
            hosts=hosts,
            user=given.pop("user", None) or unquote(user) or None,
            password=given.pop("password", None) or unquote(password) or None,
            database=database or None,
            parameters={key: value for key, value in given.items() if key in _effective()},
        )

    @property
    def connect_seconds(self) -> float | None:
        """Longest an attempt to connect may take; None when the address does not say."""
        seconds = float(self.parameters.get("connect_timeout", "0"))
        return seconds if seconds > 0 else None

    @property
    def settings(self) -> dict[str, str]:
        """Settings to start a connection with."""
        return {name: self.parameters[name] for name in _SETTINGS if name in self.parameters}

    @property
    def dsn(self) -> str:
        """The address as asyncpg takes it: every host, and nothing it would send to the server."""
        names = (*_SSL, "target_session_attrs")
        parameters = {key: v for key, v in self.parameters.items() if key in names}
        credentials = quote(self.user, safe="") if self.user else ""
        if self.password:
            credentials += f":{quote(self.password, safe='')}"
        sockets = [host for host, _ in self.hosts if host.startswith("/")]
        if sockets:
            # A directory has no place before the path.
            ports = ",".join(str(port) for _, port in self.hosts)
            parameters = {
                "host": ",".join(host for host, _ in self.hosts),
                "port": ports,
            } | parameters
            places = ""
        else:
            places = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        location = f"{credentials}@{places}" if credentials else places
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"postgresql://{location}/{quote(self.database or '', safe='')}{query}"


def _effective() -> frozenset[str]:
    return frozenset({*_SSL, *_SETTINGS, "connect_timeout", "target_session_attrs"})


def _parameters(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=False)
    given = dict(pairs)
    if len(given) < len(pairs):
        # The last one would win, which may be the one that asks for less.
        raise ValueError("it has a parameter twice; leave one of them")
    for name, value in pairs:
        if name in _IN_THE_ADDRESS:
            continue
        if name not in _KNOWN:
            raise ValueError(_not_supported(name))
        if name in _ONLY and value.lower() not in _ONLY[name]:
            allowed = ", ".join(sorted(_ONLY[name]))
            why = f" ({_INSTEAD[name]})" if name in _INSTEAD else ""
            raise ValueError(f"its parameter {name} can only be one of: {allowed}{why}")
        if name in _ONLY:
            # asyncpg, as libpq, knows them in small letters only.
            given[name] = value.lower()
    if given.get("sslrootcert") == "system":
        # libpq's word; asyncpg would look for a file of this name, again and again.
        raise ValueError(
            "its sslrootcert must be a file, such as /etc/ssl/certs/ca-certificates.crt"
        )
    session = given.get("target_session_attrs", "any")
    if session not in _WRITABLE:
        raise ValueError("target_session_attrs must be any, primary or read-write")
    timeout = given.get("connect_timeout", "0")
    if not timeout.isdecimal():
        raise ValueError("its parameter connect_timeout is not a number of seconds")
    return given


def _not_supported(name: str) -> str:
    if name in _OTHERS:
        return f"its parameter {name} is not PostgreSQL's; {_OTHERS[name]}"
    shown = name if name.replace("_", "").isalnum() and name.isascii() else "one of them"
    return (
        f"its parameter {shown} is not supported; remove it, or set a server's setting with "
        "options=-c%20name%3Dvalue"
    )


def _hosts(places: str, ports: str) -> list[tuple[str, int]]:
    separate = ports.split(",") if ports else []
    found: list[tuple[str, int]] = []
    for number, place in enumerate(places.split(",")):
        if place.startswith("["):
            host, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        elif unquote(place).startswith("/"):
            host, port = place, ""
        else:
            host, _, port = place.partition(":")
        if not port and separate:
            port = separate[number] if len(separate) > 1 and number < len(separate) else separate[0]
        if not host and "," in places:
            raise ValueError("a host in it is empty; remove the comma")
        found.append((unquote(host) or "localhost", _port(port)))
    return found


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:  # noqa: PLR2004
        # What stands there is a part of the password where that has a colon, slash or #.
        raise ValueError(
            "a port in it is not a number of 1 to 65535; write %3A, %2F, %3F, %40 and %23 for a "
            ":, /, ?, @ or # in a password"
        )
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
