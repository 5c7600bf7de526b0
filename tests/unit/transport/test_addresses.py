"""Which servers and credentials an address names."""

from __future__ import annotations

import pytest

from hogsend.transport.addresses import split_credentials


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["bus.example:4222"], (["nats://bus.example:4222"], None, None)),
        (["TLS://bus.example"], (["tls://bus.example"], None, None)),
        (["nats://app:s3%2Ccret@bus"], (["nats://bus"], "app", "s3,cret")),
        # nats-py reads a token from the address.
        (["nats://t0ken@bus"], (["nats://t0ken@bus"], None, None)),
        (["nats://one", " nats://app:s3cret@two"], (["nats://one", "nats://two"], "app", "s3cret")),
        (
            ["nats://a:first@one", "nats://b:second@two"],
            (["nats://one", "nats://two"], "a", "first"),
        ),
    ],
)
def test_an_address_is_split_into_servers_and_the_first_user_and_password(
    addresses: list[str], expected: tuple[list[str], str | None, str | None]
) -> None:
    assert split_credentials(addresses) == expected
