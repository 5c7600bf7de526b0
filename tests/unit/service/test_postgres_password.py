"""A password that is not escaped is not parsed as another part of the address, and not shown."""

from __future__ import annotations

import pytest

from hogsend.service.postgres_address import PostgresAddress

PART = "Pa55w0rd"


@pytest.mark.parametrize(
    "password", [f"1/{PART}", f"1?{PART}", f"x?{PART}=1", f"?{PART}", f"1?sslmode={PART}"]
)
def test_an_unescaped_password_is_refused_without_quoting_it(password: str) -> None:
    with pytest.raises(ValueError, match="%3F") as refused:
        PostgresAddress.parse(f"postgresql://u:{password}@h/db")
    assert PART not in str(refused.value)
