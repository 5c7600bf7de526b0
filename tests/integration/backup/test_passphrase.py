"""A backup for a passphrase. age makes each use of a passphrase take seconds on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.backup.sealed import CONTENT, KEY, SealError, sealing, unseal

PASSPHRASE = "correct horse battery staple"


def test_a_backup_for_a_passphrase_is_opened_only_with_it(tmp_path: Path) -> None:
    content, saved, target = tmp_path / "content", tmp_path / "saved", tmp_path / "opened"
    content.write_bytes(b"x" * 300_000)
    for directory in (saved, target):
        directory.mkdir()
    with sealing(saved, passphrase=PASSPHRASE, recipient=None) as archive:
        archive.add(content, "a/b")
    with pytest.raises(SealError, match="does not open"):
        unseal(saved, target, passphrase=f"{PASSPHRASE}!", identity=None)
    assert not any(target.iterdir())
    unseal(saved, target, passphrase=PASSPHRASE, identity=None)
    assert (target / "a" / "b").read_bytes() == content.read_bytes()
    for file in (saved / CONTENT, saved / KEY, target / "a" / "b"):
        assert file.stat().st_mode & 0o077 == 0
    # Both files are in the format of age.
    assert (saved / CONTENT).read_bytes().startswith(b"age-encryption.org/v1\n-> X25519 ")
    assert (saved / KEY).read_bytes().startswith(b"age-encryption.org/v1\n-> scrypt ")
