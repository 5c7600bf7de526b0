"""`generate_secrets.py` rotates each secret of a deployment on its own, twice in a row."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from dotenv import dotenv_values

from hogsend.contract.users import User
from hogsend.posthog.signing import key_of
from services.credentials.settings import SealingSettings

DEPLOY = Path(__file__).parents[3] / "deploy"
SCRIPT = DEPLOY / "generate_secrets.py"
DATABASES = ("credentials", "ingest", "provisioner", "analytics")
NAMES = [
    *("admin_api_key", "better_auth_secret", "nats/route", "postgres/postgres"),
    *(f"nats/{user}" for user in User),
    *(f"postgres/{service}" for service in DATABASES),
]


def run(directory: Path, *more: str) -> str:
    command = [sys.executable, "-S", str(SCRIPT), str(directory), *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def contents(directory: Path) -> dict[str, str]:
    return {
        str(file.relative_to(directory)): file.read_text()
        for file in directory.rglob("*")
        if file.is_file()
    }


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    # Python adds the directory of a script that it runs to its path.
    monkeypatch.syspath_prepend(str(DEPLOY))
    return importlib.import_module("generate_secrets")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rotation") / "secrets"
    run(directory, "--nats", "n-0", "--nats", "n-1", "--postgres", "db.x", "--published", "b.x:1")
    return directory


@pytest.fixture
def secrets(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "secrets"))


@pytest.mark.parametrize(
    "flags", [(), ("--postgres", "other"), ("--nats", "z"), ("--published", "other:2")]
)
def test_existing_files_are_unchanged_when_the_script_runs_again_with_other_flags(
    secrets: Path, flags: tuple[str, ...]
) -> None:
    url = secrets / "ingest" / "database_url"
    edited = f"{url.read_text().strip()}?sslmode=verify-full&sslrootcert=/etc/hogsend/tls/ca.pem\n"
    url.unlink()
    url.write_text(edited)
    before = contents(secrets)
    run(secrets, *flags)
    assert contents(secrets) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_rotation_changes_one_secret_wherever_it_is_used_and_no_other(
    secrets: Path, name: str
) -> None:
    first = contents(secrets)
    seen = set(re.findall(r"\bs[0-9a-f]{48}\b", "".join(first.values())))
    retired: list[str] = []
    for _ in range(2):
        before = contents(secrets)
        run(secrets, "--rotate", name)
        after = contents(secrets)
        words = set(re.findall(r"\bs[0-9a-f]{48}\b", "".join(after.values())))
        (new,) = words - seen
        seen |= words
        two_are_valid = name in {"admin_api_key", "better_auth_secret"}
        old = set(re.findall(r"\bs[0-9a-f]{48}\b", "".join(before.values()))) - words
        assert len(old) == (0 if two_are_valid else 1)
        retired += old
        # Apart from the secret, no file has changed.
        for file, text in after.items():
            if file != "keys.env":
                plain = re.sub(r"s[0-9a-f]{48}", "", text)
                assert plain == re.sub(r"s[0-9a-f]{48}", "", first[file])
        assert new
    assert not [word for word in retired if word in "".join(contents(secrets).values())]


@pytest.mark.parametrize("name", ["admin_api_key", "better_auth_secret"])
def test_previous_secrets_are_accepted_until_they_are_retired(secrets: Path, name: str) -> None:
    file = secrets / ("gateway" if name.startswith("admin") else "credentials") / name
    setting = f"{name.upper()}_PREVIOUS"
    keys = secrets / "keys.env"
    keys.write_text("POSTHOG_API_KEY=phc_kept\n")
    words = [file.read_text().strip()]
    for _ in range(2):
        run(secrets, "--rotate", name)
        words.insert(0, file.read_text().strip())
        assert f"{setting}={','.join(words[1:])}\n" in keys.read_text()
    run(secrets, "--retire", name)
    assert keys.read_text() == "POSTHOG_API_KEY=phc_kept\n"
    assert file.read_text().strip() == words[0]


@pytest.mark.parametrize("written", ['"first"', "'first'", "first # from the vault"])
def test_a_previous_secret_is_stored_as_kubernetes_passes_it_on(
    secrets: Path, written: str
) -> None:
    """Kustomize keeps quotes, and a comment after a value is a part of the value."""
    keys, setting = secrets / "keys.env", "ADMIN_READ_API_KEY_PREVIOUS"
    keys.write_text(f"ADMIN_READ_API_KEY={written}\n")
    run(secrets, "--rotate", "admin_read_api_key")
    previous = dict(line.split("=", 1) for line in keys.read_text().splitlines())[setting]
    assert (json.loads(previous) if previous.startswith("[") else [previous]) == [written]


def test_a_prepared_secret_is_accepted_before_the_rotation_makes_it_current(secrets: Path) -> None:
    file, keys = secrets / "credentials" / "better_auth_secret", secrets / "keys.env"
    first = file.read_text().strip()
    for _ in range(2):
        before = file.read_text().strip()
        run(secrets, "--prepare", "better_auth_secret")
        run(secrets, "--prepare", "better_auth_secret")
        assert file.read_text().strip() == before
        upcoming = keys.read_text().strip().removeprefix("BETTER_AUTH_SECRET_PREVIOUS=")
        run(secrets, "--rotate", "better_auth_secret")
        assert file.read_text().strip() == upcoming.partition(",")[0]
        assert keys.read_text() == f"BETTER_AUTH_SECRET_PREVIOUS={before}\n"
        assert not list(secrets.rglob("*.next"))
        run(secrets, "--retire", "better_auth_secret")
        assert keys.read_text() == ""
    assert file.read_text().strip() != first


@pytest.mark.parametrize(
    "name",
    ["posthog_webhook_secret", "posthog_signing_secret", "admin_read_api_key", "ingest_api_key"],
)
def test_a_secret_in_the_settings_is_rotated_in_the_file_that_sets_it(
    secrets: Path, name: str
) -> None:
    keys, setting = secrets / "keys.env", name.upper()
    before = contents(secrets)
    with pytest.raises(subprocess.CalledProcessError):
        run(secrets, "--rotate", name)
    assert contents(secrets) == before
    keys.unlink(missing_ok=True)
    keys.write_text(f"# PostHog\n{setting}=first\nPOSTHOG_API_KEY=phc_kept\n")
    words = ["first"]
    for _ in range(2):
        run(secrets, "--rotate", name)
        lines = keys.read_text().splitlines()
        assert lines[:2] == ["# PostHog", "POSTHOG_API_KEY=phc_kept"]
        values = dict(line.split("=", 1) for line in lines[2:])
        assert values[f"{setting}_PREVIOUS"] == ",".join(words)
        words.insert(0, values[setting])
    if name == "posthog_signing_secret":
        assert len(key_of(words[0])) >= 24
    run(secrets, "--retire", name)
    assert keys.read_text().splitlines()[2:] == [f"{setting}={words[0]}"]


SPECIAL = ["a,b", "[x", "a$b", "a #b", 'say "x", \\', "it's", "'q'", "plain"]


@pytest.mark.parametrize("first", SPECIAL)
def test_a_previous_secret_with_special_characters_is_read_unchanged(
    secrets: Path, first: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes passes a line on unchanged; Compose replaces variables and removes quotes."""
    file, keys, env_file = (
        secrets / "credentials/better_auth_secret",
        secrets / "keys.env",
        secrets / ".env",
    )
    file.unlink()
    file.write_text(f"{first}\n")
    settings = script.SettingsFiles(keys, env_file)
    expected = [first]
    for _ in range(2):
        script.rotate(script.Directory(secrets), settings, "better_auth_secret")
        (name, _, raw), *_ = [line.partition("=") for line in keys.read_text().splitlines()]
        assert name == "BETTER_AUTH_SECRET_PREVIOUS"
        for value in (raw, dotenv_values(env_file, interpolate=True)[name]):
            assert value is not None
            monkeypatch.setenv(name, value)
            monkeypatch.setenv("BETTER_AUTH_SECRET", "present")
            previous = SealingSettings().better_auth_secret_previous
            assert [each.get_secret_value() for each in previous] == expected
        expected.insert(0, file.read_text().strip())


def test_a_secret_that_the_settings_files_cannot_express_is_refused_and_changes_nothing(
    secrets: Path, script: ModuleType
) -> None:
    file, keys = secrets / "credentials/better_auth_secret", secrets / "keys.env"
    file.unlink()
    file.write_text("it's $HOME\n")
    before = contents(secrets)
    with pytest.raises(SystemExit, match="BETTER_AUTH_SECRET_PREVIOUS"):
        script.rotate(
            script.Directory(secrets),
            script.SettingsFiles(keys, secrets / ".env"),
            "better_auth_secret",
        )
    assert contents(secrets) == before


@pytest.mark.parametrize(
    "written",
    [
        "abc123 # from the vault",
        "'abc123' # from the vault",
        '"abc123"\t# prod',
        "[abc123",
        "'abc # 123'",
        '"it\'s"',
        "abc#123",
    ],
)
def test_a_comment_or_quotes_in_env_are_not_part_of_a_secret(
    secrets: Path, written: str, script: ModuleType
) -> None:
    env_file, setting = secrets / ".env", "POSTHOG_WEBHOOK_SECRET"
    env_file.write_text(f"{setting}={written}\n")
    current = dotenv_values(env_file)[setting]
    settings = script.SettingsFiles(env_file)
    assert settings.value(setting) == current
    script.rotate(script.Directory(secrets), settings, "posthog_webhook_secret")
    values = dotenv_values(env_file)
    assert values[f"{setting}_PREVIOUS"] in {current, f'["{current}"]'}
    assert re.fullmatch(r"s[0-9a-f]{48}", values[setting] or "")
    assert settings.written


@pytest.mark.parametrize(
    ("written", "passed_on"),
    [
        (r'"a\\b"', "a\\b"),
        (r'"a\"c"', 'a"c'),
        (r'"c\$d"', "c$d"),
        ('"a$$b"', "a$b"),
        ("a$$b", "a$b"),
        ("a$%x$", "a$%x$"),
        (r"a\b", "a\\b"),
        (r"a\\c", r"a\\c"),
        (r"'a\'b'", "a'b"),
        (r"'b\\c'", r"b\\c"),
        ("'a$$b'", "a$$b"),
    ],
)
def test_a_secret_is_read_as_compose_passes_it_on(
    secrets: Path, written: str, passed_on: str, script: ModuleType
) -> None:
    """The expected values are those that Compose 5.6 passes on."""
    env_file, setting = secrets / ".env", "POSTHOG_WEBHOOK_SECRET"
    env_file.write_text(f"{setting}={written}\n")
    assert script.SettingsFiles(env_file).value(setting) == passed_on


@pytest.mark.parametrize("written", ["a$b", "a${b}", '"a$b"', r"a\$b"])
def test_a_secret_that_contains_a_variable_is_not_rotated(
    secrets: Path, written: str, script: ModuleType
) -> None:
    env_file = secrets / ".env"
    env_file.write_text(f"POSTHOG_WEBHOOK_SECRET={written}\n")
    before = contents(secrets)
    with pytest.raises(SystemExit, match="single quotes"):
        script.rotate(
            script.Directory(secrets), script.SettingsFiles(env_file), "posthog_webhook_secret"
        )
    assert contents(secrets) == before


def test_a_symbolic_link_to_the_settings_is_kept(secrets: Path, script: ModuleType) -> None:
    kept, env_file = secrets / "kept.env", secrets / ".env"
    kept.write_text("INGEST_API_KEY=first\n")
    env_file.symlink_to(kept)
    script.rotate(script.Directory(secrets), script.SettingsFiles(env_file), "ingest_api_key")
    assert env_file.is_symlink()
    assert dotenv_values(kept)["INGEST_API_KEY_PREVIOUS"] == "first"


def test_lines_of_the_settings_are_split_as_compose_splits_them(
    secrets: Path, script: ModuleType
) -> None:
    other_lines = "# a note\fof the operator\u2028and more\nOTHER='x\u0085y'\n"
    env_file = secrets / ".env"
    env_file.write_text(f"\ufeffINGEST_API_KEY=first\r\n{other_lines}", "utf-8")
    script.rotate(script.Directory(secrets), script.SettingsFiles(env_file), "ingest_api_key")
    written = env_file.read_text("utf-8")
    assert written.startswith(other_lines)
    assert "INGEST_API_KEY_PREVIOUS=first\n" in written


@pytest.mark.parametrize("written", ["{}: first", "{}:first", "export {} : 'first'"])
def test_a_line_with_a_colon_is_read_and_replaced_as_in_compose(
    secrets: Path, written: str, script: ModuleType
) -> None:
    """Only Compose reads such a line as a setting; Kubernetes reads all of it as a name."""
    setting = "INGEST_API_KEY"
    line, env_file, keys = written.format(setting), secrets / ".env", secrets / "keys.env"
    env_file.write_text(f"{line}\n")
    script.rotate(script.Directory(secrets), script.SettingsFiles(env_file), "ingest_api_key")
    assert line not in env_file.read_text()
    assert dotenv_values(env_file)[f"{setting}_PREVIOUS"] == "first"
    keys.unlink(missing_ok=True)
    keys.write_text(f"{line}\n")
    assert script.SettingsFiles(keys).value(setting) is None


def test_the_rotation_of_a_setting_is_reported(secrets: Path) -> None:
    keys = secrets / "keys.env"
    keys.unlink(missing_ok=True)
    keys.write_text("INGEST_API_KEY=first\n")
    assert run(secrets, "--rotate", "ingest_api_key") == f"{keys} changed\n"
    assert "nothing to do" in run(secrets)


def test_an_unknown_secret_is_refused_and_changes_nothing(secrets: Path) -> None:
    before = contents(secrets)
    with pytest.raises(subprocess.CalledProcessError):
        run(secrets, "--rotate", "gateway")
    assert contents(secrets) == before
