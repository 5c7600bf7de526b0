"""Certificates of a PostgreSQL address: an unusable file is reported at start, by its parameter."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from hogsend.service.postgres_certificates import check_certificates
from hogsend.service.settings.shared import DatabaseSettings


@pytest.fixture(autouse=True)
def user_without_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose home directory has no certificate."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MODE", "ROOTCERT", "CRL", "CERT", "KEY"):
        monkeypatch.delenv(f"PGSSL{name}", raising=False)


@pytest.mark.parametrize("name", ["sslrootcert", "sslcrl", "sslcert", "sslkey"])
@pytest.mark.parametrize("path", ["ca.pem", "", ".", "x" * 300])
def test_an_unreadable_file_is_reported_by_its_parameter(
    name: str, path: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"its {name} is not a file that can be read"):
        check_certificates({"sslmode": "require", name: str(tmp_path / path)})


def test_a_home_directory_that_cannot_be_looked_up_contains_no_root_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / ("x" * 300)))
    with pytest.raises(ValueError, match="sslmode=verify-full needs the certificate"):
        check_certificates({"sslmode": "verify-full"})


@pytest.mark.parametrize("name", ["sslrootcert", "sslcrl", "sslcert"])
def test_a_file_without_a_certificate_is_reported_by_its_parameter(
    name: str, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ValueError, match=f"its {name}.* cannot be used") as raised:
        check_certificates({"sslmode": "require", name: str(file)})
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("name", ["sslrootcert", "sslcrl", "sslcert", "sslkey"])
def test_a_file_named_by_a_variable_of_libpq_is_checked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PG{name.upper()}", str(tmp_path / "missing"))
    with pytest.raises(ValueError, match=f"the file in PG{name.upper()} is not a file"):
        check_certificates({"sslmode": "require"})
    file = tmp_path / "missing"
    file.write_text("no certificate")
    if name != "sslkey":
        with pytest.raises(ValueError, match="cannot be used"):
            check_certificates({"sslmode": "require"})
    # asyncpg does not read the file in these modes.
    check_certificates({"sslmode": "disable"})
    if name in {"sslrootcert", "sslcrl"}:
        check_certificates({})


def test_the_ssl_mode_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    with pytest.raises(ValueError, match="add sslrootcert="):
        check_certificates({})
    check_certificates({"sslmode": "require"})


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_verifying_ssl_mode_requires_a_root_certificate(mode: str) -> None:
    with pytest.raises(ValueError, match="add sslrootcert="):
        check_certificates({"sslmode": mode})


def test_no_file_is_read_without_tls() -> None:
    check_certificates({"sslmode": "disable", "sslrootcert": "/nowhere"})
    check_certificates({"sslmode": "require"})
    check_certificates({})


def test_a_missing_root_certificate_stops_a_service_before_it_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/db?sslmode=verify-full")
    with pytest.raises(ValidationError, match="sslmode=verify-full needs the certificate"):
        DatabaseSettings()
