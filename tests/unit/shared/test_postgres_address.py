"""PostgreSQL addresses: what is accepted, what asyncpg receives, and what is refused."""

from __future__ import annotations

import pytest
from asyncpg.protocol.protocol import SCRAMAuthentication

from hogsend.service.postgres_address import PostgresAddress

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "hosts", "user", "password", "database"),
    [
        ("postgresql://u:p@h/db", [("h", 5432)], "u", "p", "db"),
        ("postgres://u:p@h:6432/db", [("h", 6432)], "u", "p", "db"),
        ("postgresql://u@h", [("h", 5432)], "u", None, None),
        ("postgresql:///db", [("localhost", 5432)], None, None, "db"),
        ("postgresql://u:p%40s%2Fs@h/d%20b", [("h", 5432)], "u", "p@s/s", "d b"),
        ("postgresql://u:p:q@h/db", [("h", 5432)], "u", "p:q", "db"),
        ("postgresql://a:1,b:2,c/db", [("a", 1), ("b", 2), ("c", 5432)], None, None, "db"),
        ("postgresql://u:p@[::1]:5433/db", [("::1", 5433)], "u", "p", "db"),
        ("postgresql://u@/db?host=/run/pg", [("/run/pg", 5432)], "u", None, "db"),
        ("postgresql://u@/db?host=/run/pg&port=6000", [("/run/pg", 6000)], "u", None, "db"),
        ("postgresql://u@%2Frun%2Fpg/db", [("/run/pg", 5432)], "u", None, "db"),
        (
            "postgresql:///?host=a,b&port=1,2&user=u&password=p&dbname=db",
            *([("a", 1), ("b", 2)], "u", "p", "db"),
        ),
    ],
)
def test_an_address_is_parsed_as_by_libpq(
    url: str,
    hosts: list[tuple[str, int]],
    user: str | None,
    password: str | None,
    database: str | None,
) -> None:
    address = PostgresAddress.parse(url)
    assert (address.hosts, address.user, address.password, address.database) == (
        hosts,
        user,
        password,
        database,
    )
    # The DSN parses to the same address.
    assert PostgresAddress.parse(address.dsn) == address


def test_parameters_of_managed_servers_are_accepted() -> None:
    address = PostgresAddress.parse(
        "postgresql://u:p@ep-x.neon.example/db?sslmode=require&channel_binding=prefer"
        "&connect_timeout=10&keepalives=1&keepalives_idle=30&target_session_attrs=read-write"
        "&application_name=mine&options=-c%20statement_timeout%3D5s&gssencmode=disable"
    )
    assert address.connect_seconds == 10
    assert address.settings == {
        "application_name": "mine",
        "options": "-c statement_timeout=5s",
    }
    assert "sslmode=require" in address.dsn
    # asyncpg would send parameters that it does not know to the server.
    for unknown in ("channel_binding", "keepalives", "gssencmode", "connect_timeout"):
        assert unknown not in address.dsn
    assert "target_session_attrs=read-write" in address.dsn


@pytest.mark.parametrize("value", ["disable", "prefer", "Prefer"])
def test_a_channel_binding_that_is_not_required_is_dropped(value: str) -> None:
    address = PostgresAddress.parse(f"postgresql://u:p@h/db?channel_binding={value}")
    assert address == PostgresAddress.parse("postgresql://u:p@h/db")


def test_values_of_parameters_are_passed_to_asyncpg_in_lower_case() -> None:
    address = PostgresAddress.parse(
        "postgresql://u:p@h/db?sslmode=REQUIRE&target_session_attrs=Read-Write"
    )
    assert address.dsn.endswith("?sslmode=require&target_session_attrs=read-write")


def test_asyncpg_does_not_support_channel_binding() -> None:
    """Once asyncpg does, `channel_binding=require` can be accepted (decision 11)."""
    methods: list[object] = [*SCRAMAuthentication.AUTHENTICATION_METHODS]
    assert methods == [b"SCRAM-SHA-256"]


@pytest.mark.parametrize(
    ("url", "host", "user"),
    [
        (
            "postgresql://postgres.abc:p@aws-0-eu.pooler.supabase.example:6543/db?pgbouncer=true",
            *("aws-0-eu.pooler.supabase.example", "postgres.abc"),
        ),
        ("postgresql://u:p@ep-x.neon.example/db?options=endpoint%3Dep-x", "ep-x.neon.example", "u"),
        ("postgresql://u@server:p@server.azure.example/db", "server.azure.example", "u@server"),
        ("postgresql://u:p@/db?host=/cloudsql/p:r:i", "/cloudsql/p:r:i", "u"),
        ("postgresql://u:p@%2Fcloudsql%2Fp%3Ar%3Ai/db", "/cloudsql/p:r:i", "u"),
    ],
)
def test_an_address_of_a_provider_is_parsed(url: str, host: str, user: str) -> None:
    address = PostgresAddress.parse(url)
    assert ([name for name, _ in address.hosts], address.user) == ([host], user)
    assert "pgbouncer" not in address.dsn.partition("?")[2]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "postgresql://"),
        ("mysql://u:hunter2@h/db", "postgresql://"),
        ("postgresql://u:hunter2@h/db?sslrootcert=system", "must be a file"),
        ("u:hunter2@h/db", "postgresql://"),
        ("postgresql://u:hunter2#x@h/db", "%23"),
        ("postgresql://u:hunter2/x@h/db", "%2F"),
        ("postgresql://u:hunter2?x@h/db", "%3F"),
        ("postgresql://u:hunter2 x@h/db", "%20"),
        ("postgresql://u:p@h:hunter2/db", "port"),
        ("postgresql://u:p@h:0/db", "port"),
        ("postgresql://u:p@h:70000/db", "port"),
        ("postgresql://u:hunter2@h/db?channel_binding=require", "channel_binding can only"),
        ("postgresql://u:hunter2@h/db?channel_binding=require", "disable, prefer"),
        ("postgresql://u:hunter2@h/db?channel_binding=require", "sslmode=verify-full"),
        ("postgresql://u:hunter2@h/db?connection_limit=1", "connection_limit"),
        ("postgresql://u:hunter2@h/db?sslmode=on", "sslmode"),
        ("postgresql://u:hunter2@h/db?target_session_attrs=standby", "target_session_attrs"),
        ("postgresql://u:hunter2@h/db?connect_timeout=soon", "connect_timeout"),
        ("postgresql://u:p@h/db?service=hunter2", "service"),
        ("postgresql://u:p@h/db?sslmode=require&sslmode=disable", "twice"),
        ("postgresql://u:p@h,/db", "comma"),
    ],
)
def test_an_unsupported_address_is_refused_without_quoting_its_password(
    url: str, message: str
) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        PostgresAddress.parse(url)
    assert message in str(raised.value)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_an_address_with_several_hosts_requires_a_writable_server() -> None:
    address = PostgresAddress.parse("postgresql://u:p@a,b/db")
    assert "target_session_attrs=read-write" in address.dsn
    assert "target_session_attrs" not in PostgresAddress.parse("postgresql://u:p@a/db").dsn


def test_the_repr_of_an_address_contains_no_password() -> None:
    assert SECRET not in repr(PostgresAddress.parse(f"postgresql://u:{SECRET}@h/db"))
