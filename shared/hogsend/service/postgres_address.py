"""PostgreSQL addresses: libpq's connection URI, parsed once for migrations and queries.

asyncpg sends every parameter that it does not know to the server as a setting. A server rejects
such a parameter with `unrecognized configuration parameter`, and a pooler with `unsupported startup
parameter`. So each parameter of libpq (PostgreSQL 18, section 32.1.2) is either handled here, or
rejected with a message that names it.
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
"""Settings that PostgreSQL and poolers accept when a connection starts."""
_IGNORED = frozenset(
    {
        # TCP keepalives are not needed: each statement here has a timeout.
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "fallback_application_name", "sslcompression", "sslsni"),
        # Not libpq's: Supabase includes it for Prisma. Poolers are detected without it.
        "pgbouncer",
    }
)
"""Parameters that are accepted and have no effect here."""
_SUPPORTED_VALUES: dict[str, frozenset[str]] = {
    "channel_binding": frozenset({"disable", "prefer"}),
    "gssencmode": frozenset({"disable", "prefer"}),
    "client_encoding": frozenset({"auto", "utf8", "utf-8", "unicode"}),
    "load_balance_hosts": frozenset({"disable"}),
    "sslnegotiation": frozenset({"postgres"}),
    "target_session_attrs": _SESSION,
    "sslmode": _SSL_MODES,
}
"""The supported values of parameters of which only some values are supported."""
_ALTERNATIVES = {
    "channel_binding": "asyncpg cannot bind a login to its TLS channel; sslmode=verify-full with "
    "sslrootcert=/path/to/ca.pem protects against the same attack",
}
"""Why the other values of a parameter are not supported, and what has the same effect."""
_FOREIGN = {
    "ssl": "write sslmode=require for ssl=true",
    "sslaccept": "write sslmode=verify-full, or sslmode=require to accept any certificate",
    "schema": "write options=-c%20search_path%3Dname for schema=name",
    "currentSchema": "write options=-c%20search_path%3Dname for currentSchema=name",
    "connection_limit": "remove it, and set DATABASE_POOL_SIZE",
    "pool_timeout": "remove it",
}
"""Parameters of other drivers and of object-relational mappers, and what to write instead."""
_KNOWN = frozenset({*_SSL, *_SETTINGS, *_IGNORED, *_SUPPORTED_VALUES, "connect_timeout"})
_LOCATION = frozenset({"host", "port", "user", "password", "dbname", "database"})
"""Parameters that replace a part of the address before the `?`."""

_EFFECTIVE = frozenset({*_SSL, *_SETTINGS, "connect_timeout", "target_session_attrs"})

_FORM = "write postgresql://user:password@host:5432/database"


class PostgresAddress(msgspec.Struct, frozen=True):
    """Where PostgreSQL is, and how to connect to it."""

    hosts: list[tuple[str, int]]
    """Host names, IP addresses or socket directories with their ports, in the order to try."""
    user: str | None
    password: str | None
    database: str | None
    parameters: dict[str, str]
    """The parameters of libpq that have an effect here."""

    def __repr__(self) -> str:
        """Show the hosts only, not the password."""
        return f"PostgresAddress(hosts={self.hosts!r})"

    @classmethod
    def parse(cls, url: str) -> PostgresAddress:
        """Parse libpq's connection URI.

        Raises:
            ValueError: the text is not such a URI, or it has a parameter that is not supported. The
                message states what to write. It quotes nothing of the URI but parameter names.
        """
        scheme, separator, remainder = url.strip().partition("://")
        if not separator or scheme.lower() not in SCHEMES:
            raise ValueError(f"it is not the address of a PostgreSQL server; {_FORM}")
        if "#" in remainder:
            raise ValueError("it has a #, which ends an address; write %23 for a # in a password")
        if any(character <= " " or character == "\x7f" for character in remainder):
            raise ValueError("it has a space or a control character; write %20 for a space")
        location, _, query = remainder.partition("?")
        authority, _, path = location.partition("/")
        if "@" in path or "@" in query:
            # A / or ? in a password: what follows it would be read as a database or a parameter.
            raise ValueError(
                "it has an @ after the host; write %2F, %3F and %40 for a /, ? or @ in a password"
            )
        credentials, _, host_list = authority.rpartition("@")
        user, _, password = credentials.partition(":")
        parameters = _parameters(query)
        host_list = parameters.pop("host", "") or host_list
        ports = parameters.pop("port", "")
        database = (
            parameters.pop("dbname", None) or parameters.pop("database", None) or unquote(path)
        )
        hosts = _hosts(host_list, ports)
        if len(hosts) > 1:
            # One of them may be a standby, which accepts no writes.
            parameters.setdefault("target_session_attrs", "read-write")
        return cls(
            hosts=hosts,
            user=parameters.pop("user", None) or unquote(user) or None,
            password=parameters.pop("password", None) or unquote(password) or None,
            database=database or None,
            parameters={key: value for key, value in parameters.items() if key in _EFFECTIVE},
        )

    @property
    def connect_seconds(self) -> float | None:
        """Connect timeout in seconds; None when the address has none."""
        seconds = float(self.parameters.get("connect_timeout", "0"))
        return seconds if seconds > 0 else None

    @property
    def settings(self) -> dict[str, str]:
        """PostgreSQL settings to start a connection with."""
        return {name: self.parameters[name] for name in _SETTINGS if name in self.parameters}

    @property
    def dsn(self) -> str:
        """The address for asyncpg, without the parameters that it would send to the server."""
        names = (*_SSL, "target_session_attrs")
        parameters = {key: v for key, v in self.parameters.items() if key in names}
        credentials = quote(self.user, safe="") if self.user else ""
        if self.password:
            credentials += f":{quote(self.password, safe='')}"
        sockets = [host for host, _ in self.hosts if host.startswith("/")]
        if sockets:
            # A directory cannot be written as the host of a URI, only as a parameter.
            ports = ",".join(str(port) for _, port in self.hosts)
            parameters = {
                "host": ",".join(host for host, _ in self.hosts),
                "port": ports,
            } | parameters
            host_list = ""
        else:
            host_list = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        location = f"{credentials}@{host_list}" if credentials else host_list
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"postgresql://{location}/{quote(self.database or '', safe='')}{query}"


def _parameters(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=False)
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        # The last one would win, and it may be the less strict one.
        raise ValueError("it has a parameter twice; leave one of them")
    for name, value in pairs:
        if name in _LOCATION:
            continue
        if name not in _KNOWN:
            raise ValueError(_not_supported(name))
        if name not in _SUPPORTED_VALUES:
            continue
        # asyncpg, like libpq, accepts these values in lower case only.
        parameters[name] = value.lower()
        if value.lower() not in _SUPPORTED_VALUES[name]:
            allowed = ", ".join(sorted(_SUPPORTED_VALUES[name]))
            why = f" ({_ALTERNATIVES[name]})" if name in _ALTERNATIVES else ""
            raise ValueError(f"its parameter {name} can only be one of: {allowed}{why}")
    if parameters.get("sslrootcert") == "system":
        # A keyword of libpq. asyncpg would look for a file of this name at each attempt.
        raise ValueError(
            "its sslrootcert must be a file, such as /etc/ssl/certs/ca-certificates.crt"
        )
    session = parameters.get("target_session_attrs", "any")
    if session not in _WRITABLE:
        raise ValueError("target_session_attrs must be any, primary or read-write")
    timeout = parameters.get("connect_timeout", "0")
    if not timeout.isdecimal():
        raise ValueError("its parameter connect_timeout is not a number of seconds")
    return parameters


def _not_supported(name: str) -> str:
    if name in _FOREIGN:
        return f"its parameter {name} is not PostgreSQL's; {_FOREIGN[name]}"
    shown = name if name.replace("_", "").isalnum() and name.isascii() else "one of them"
    return (
        f"its parameter {shown} is not supported; remove it, or set a server's setting with "
        "options=-c%20name%3Dvalue"
    )


def _hosts(host_list: str, port_list: str) -> list[tuple[str, int]]:
    ports = port_list.split(",") if port_list else []
    hosts: list[tuple[str, int]] = []
    for number, entry in enumerate(host_list.split(",")):
        if entry.startswith("["):
            host, _, port = entry[1:].partition("]")
            port = port.removeprefix(":")
        elif unquote(entry).startswith("/"):
            host, port = entry, ""
        else:
            host, _, port = entry.partition(":")
        if not port and ports:
            port = ports[number] if len(ports) > 1 and number < len(ports) else ports[0]
        if not host and "," in host_list:
            raise ValueError("a host in it is empty; remove the comma")
        hosts.append((unquote(host) or "localhost", _port(port)))
    return hosts


def _port(text: str) -> int:
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:  # noqa: PLR2004
        # Often the text is the end of a password that contains a colon, a slash or a #.
        raise ValueError(
            "a port in it is not a number of 1 to 65535; write %3A, %2F, %3F, %40 and %23 for a "
            ":, /, ?, @ or # in a password"
        )
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
