"""Backups are encrypted in the format of age; damaged and malicious ones are refused."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path

import pyrage
import pytest

from cli.backup import sealed
from cli.backup.archive import Key as BackupKey
from cli.backup.passphrase import opening_key, sealing_key
from cli.backup.sealed import CONTENT, KEY, SealError, sealing, unseal
from cli.errors import CommandError

PASSPHRASE = "correct horse battery staple"
IDENTITY = pyrage.x25519.Identity.generate()
PUBLIC = str(IDENTITY.to_public())


def seal(directory: Path, *, name: str = "a/b", recipient: str = PUBLIC) -> None:
    with sealing(directory, passphrase=None, recipient=recipient) as archive:
        content = b"x" * 300_000
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "opened"
    directory.mkdir()
    return directory


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    directory = tmp_path / "saved"
    directory.mkdir()
    return directory


def test_a_backup_for_a_public_key_is_opened_with_the_identity(
    saved: Path, target: Path, tmp_path: Path
) -> None:
    seal(saved)
    assert not (saved / KEY).exists()
    file = tmp_path / "key.txt"
    file.write_text(f"# created: today\n{IDENTITY}\n")
    key = opening_key(None, file)
    unseal(saved, target, passphrase=key.passphrase, identity=key.identity)
    assert (target / "a" / "b").exists()
    with pytest.raises(SealError, match="not an age public key"):
        seal(saved, recipient="age1nonsense")


@pytest.mark.parametrize("position", [0, 40, -200_000, -1])
@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_a_damaged_backup_is_refused(saved: Path, target: Path, position: int, damage: str) -> None:
    seal(saved)
    file = saved / CONTENT
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        content = content[:position]
    else:
        content[position] ^= 1
    file.write_bytes(content)
    with pytest.raises(SealError, match="damaged"):
        unseal(saved, target, passphrase=None, identity=str(IDENTITY))


def test_damage_after_the_end_of_the_archive_is_refused_too(saved: Path, target: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w"):
        pass
    content = bytearray(pyrage.encrypt(archive.getvalue() + bytes(200_000), [IDENTITY.to_public()]))
    (saved / CONTENT).write_bytes(content)
    unseal(saved, target, passphrase=None, identity=str(IDENTITY))
    content[-1] ^= 1
    (saved / CONTENT).write_bytes(content)
    with pytest.raises(SealError, match="damaged"):
        unseal(saved, target, passphrase=None, identity=str(IDENTITY))


def test_an_invalid_identity_is_an_error_with_a_fix(saved: Path, target: Path) -> None:
    seal(saved)
    with pytest.raises(SealError, match="does not open this backup") as refused:
        unseal(saved, target, passphrase=None, identity="AGE-SECRET-KEY-NONSENSE")
    assert refused.value.fix


def test_a_backup_and_its_key_are_on_disk_before_it_is_reported_as_made(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, int]] = []

    def record_sync(descriptor: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((file, file.stat().st_size))

    monkeypatch.setattr(os, "fsync", record_sync)
    # The true encryption with a passphrase takes seconds on purpose.
    monkeypatch.setattr("pyrage.passphrase.encrypt", lambda text, _passphrase: text)
    with sealing(saved, passphrase=PASSPHRASE, recipient=None):
        pass
    assert synced == [(file, file.stat().st_size) for file in (saved / KEY, saved / CONTENT)]


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_no_file_is_unpacked_outside_the_target(saved: Path, target: Path, name: str) -> None:
    seal(saved, name=name)
    with pytest.raises(SealError):
        unseal(saved, target, passphrase=None, identity=str(IDENTITY))
    assert not (target.parent / "out").exists()


@pytest.mark.parametrize("second", ["a", "a/b", "."])
def test_an_archive_with_conflicting_paths_is_refused(
    saved: Path, target: Path, second: str
) -> None:
    with sealing(saved, passphrase=None, recipient=PUBLIC) as archive:
        for name in ("a", second):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(SealError, match="damaged"):
        unseal(saved, target, passphrase=None, identity=str(IDENTITY))


def test_a_directory_without_a_backup_is_refused(target: Path) -> None:
    with pytest.raises(SealError, match=f"no {KEY}"):
        unseal(target, target, passphrase=PASSPHRASE, identity=None)


def test_a_short_passphrase_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOGSEND_BACKUP_PASSPHRASE", "x" * 11)
    with pytest.raises(CommandError, match="shorter than 12 characters"):
        sealing_key(None, None)
    monkeypatch.setenv("HOGSEND_BACKUP_PASSPHRASE", "x" * 12)
    assert sealing_key(None, None).passphrase == "x" * 12
    assert sealing_key(None, PUBLIC) == BackupKey(recipient=PUBLIC), "a recipient takes precedence"
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    assert sealing_key(file, None).passphrase == PASSPHRASE


def type_on_a_terminal(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    typed = iter(lines)
    monkeypatch.delenv("HOGSEND_BACKUP_PASSPHRASE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))


def test_a_new_passphrase_is_typed_twice_and_an_existing_one_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    type_on_a_terminal(monkeypatch, PASSPHRASE, PASSPHRASE)
    assert sealing_key(None, None).passphrase == PASSPHRASE
    type_on_a_terminal(monkeypatch, PASSPHRASE)
    assert opening_key(None, None).passphrase == PASSPHRASE


def test_a_new_passphrase_with_a_typing_error_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    type_on_a_terminal(monkeypatch, PASSPHRASE, PASSPHRASE.upper())
    with pytest.raises(CommandError, match="differ"):
        sealing_key(None, None)


def test_a_missing_or_unreadable_passphrase_is_an_error_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_on_a_terminal(monkeypatch)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(CommandError, match="passphrase of the backup is missing"):
        sealing_key(None, None)
    (tmp_path / "binary").write_bytes(b"\xff")
    for file in (tmp_path / "absent", tmp_path / "binary"):
        with pytest.raises(CommandError, match="cannot be read"):
            opening_key(None, file)


def test_a_backup_that_could_not_be_written_is_not_reported_as_made(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pyrage.encrypt_io", full)
    with pytest.raises(SealError, match="cannot be written"):
        seal(saved)


SLOW = pyrage.DecryptError("Excessive work parameter for passphrase.\nIt would take 32 seconds.")


def _sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> Path:
    """Write a backup for a passphrase; its key is decrypted after these outcomes of pyrage."""
    key = str(pyrage.x25519.Identity.generate())
    remaining = iter([*outcomes, key.encode()])

    def decrypt(_sealed: bytes, _passphrase: str) -> object:
        outcome = next(remaining)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr("pyrage.passphrase.decrypt", decrypt)
    (tmp_path / KEY).write_bytes(b"sealed")
    recipient = str(pyrage.x25519.Identity.from_str(key).to_public())
    with sealing(tmp_path, passphrase=None, recipient=recipient):
        pass
    return tmp_path


def test_the_decryption_is_repeated_on_a_machine_that_was_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = _sealed(tmp_path, monkeypatch, SLOW, SLOW)
    unseal(saved, tmp_path / "target", passphrase="correct", identity=None)


def test_a_machine_that_is_too_slow_is_not_reported_as_a_wrong_passphrase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealed, "OPENING_SECONDS", 0.01)
    saved = _sealed(tmp_path, monkeypatch, *[SLOW] * 50)
    with pytest.raises(SealError, match="too busy or too slow") as refused:
        unseal(saved, tmp_path / "target", passphrase="correct", identity=None)
    assert "--identity" in refused.value.fix
