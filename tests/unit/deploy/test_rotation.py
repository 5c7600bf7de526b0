"""Rotation of the secrets of a deployment, one at a time and each of them twice."""

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
    # Python looks beside a script that it runs.
    monkeypatch.syspath_prepend(str(DEPLOY))
    return importlib.import_module("generate_secrets")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("rotation") / "secrets"
    run(directory, "--nats", "n-0", "--nats", "n-1", "--postgres", "db.x", "--published", "b.x:1")
    return directory


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "secrets"))


@pytest.mark.parametrize(
    "flags", [(), ("--postgres", "other"), ("--nats", "z"), ("--published", "other:2")]
)
def test_what_exists_is_kept_whatever_it_is_run_with_again(
    made: Path, flags: tuple[str, ...]
) -> None:
    url = made / "ingest" / "database_url"
    edited = f"{url.read_text().strip()}?sslmode=verify-full&sslrootcert=/etc/hogsend/tls/ca.pem\n"
    url.unlink()
    url.write_text(edited)
    before = contents(made)
    run(made, *flags)
    assert contents(made) == before


@pytest.mark.parametrize("name", NAMES)
def test_each_secret_is_changed_twice_and_no_other(made: Path, name: str) -> None:
    known = contents(made)
    found = set(re.findall(r"\bs[0-9a-f]{48}\b", "".join(known.values())))
    gone: list[str] = []
    for _ in range(2):
        before = contents(made)
        run(made, "--rotate", name)
        after = contents(made)
        words = set(re.findall(r"\bs[0-9a-f]{48}\b", "".join(after.values())))
        (new,) = words - found
        found |= words
        two_are_valid = name in {"admin_api_key", "better_auth_secret"}
        old = set(re.findall(r"\bs[0-9a-f]{48}\b", "".join(before.values()))) - words
        assert len(old) == (0 if two_are_valid else 1)
        gone += old
        # Nothing but the secret has changed, wherever it is used.
        for file, text in after.items():
            if file != "keys.env":
                plain = re.sub(r"s[0-9a-f]{48}", "", text)
                assert plain == re.sub(r"s[0-9a-f]{48}", "", known[file])
        assert new
    assert not [word for word in gone if word in "".join(contents(made).values())]


@pytest.mark.parametrize("name", ["admin_api_key", "better_auth_secret"])
def test_earlier_ones_are_accepted_until_they_are_retired(made: Path, name: str) -> None:
    file = made / ("gateway" if name.startswith("admin") else "credentials") / name
    setting = f"{name.upper()}_PREVIOUS"
    keys = made / "keys.env"
    keys.write_text("POSTHOG_API_KEY=phc_kept\n")
    words = [file.read_text().strip()]
    for _ in range(2):
        run(made, "--rotate", name)
        words.insert(0, file.read_text().strip())
        assert f"{setting}={','.join(words[1:])}\n" in keys.read_text()
    run(made, "--retire", name)
    assert keys.read_text() == "POSTHOG_API_KEY=phc_kept\n"
    assert file.read_text().strip() == words[0]


@pytest.mark.parametrize("written", ['"first"', "'first'", "first # from the vault"])
def test_what_kubernetes_passes_on_is_what_stays_valid(made: Path, written: str) -> None:
    """Kustomize neither removes quotes nor supports a comment after a value."""
    keys, setting = made / "keys.env", "ADMIN_READ_API_KEY_PREVIOUS"
    keys.write_text(f"ADMIN_READ_API_KEY={written}\n")
    run(made, "--rotate", "admin_read_api_key")
    earlier = dict(line.split("=", 1) for line in keys.read_text().splitlines())[setting]
    assert (json.loads(earlier) if earlier.startswith("[") else [earlier]) == [written]


def test_with_several_replicas_the_next_one_is_accepted_before_it_is_used(made: Path) -> None:
    file, keys = made / "credentials" / "better_auth_secret", made / "keys.env"
    first = file.read_text().strip()
    for _ in range(2):
        before = file.read_text().strip()
        run(made, "--prepare", "better_auth_secret")
        run(made, "--prepare", "better_auth_secret")
        assert file.read_text().strip() == before
        upcoming = keys.read_text().strip().removeprefix("BETTER_AUTH_SECRET_PREVIOUS=")
        run(made, "--rotate", "better_auth_secret")
        assert file.read_text().strip() == upcoming.partition(",")[0]
        assert keys.read_text() == f"BETTER_AUTH_SECRET_PREVIOUS={before}\n"
        assert not list(made.rglob("*.next"))
        run(made, "--retire", "better_auth_secret")
        assert keys.read_text() == ""
    assert file.read_text().strip() != first


@pytest.mark.parametrize(
    "name",
    ["posthog_webhook_secret", "posthog_signing_secret", "admin_read_api_key", "ingest_api_key"],
)
def test_a_secret_among_the_settings_is_changed_where_it_is_set(made: Path, name: str) -> None:
    keys, setting = made / "keys.env", name.upper()
    before = contents(made)
    with pytest.raises(subprocess.CalledProcessError):
        run(made, "--rotate", name)
    assert contents(made) == before
    keys.unlink(missing_ok=True)
    keys.write_text(f"# PostHog\n{setting}=first\nPOSTHOG_API_KEY=phc_kept\n")
    words = ["first"]
    for _ in range(2):
        run(made, "--rotate", name)
        lines = keys.read_text().splitlines()
        assert lines[:2] == ["# PostHog", "POSTHOG_API_KEY=phc_kept"]
        found = dict(line.split("=", 1) for line in lines[2:])
        assert found[f"{setting}_PREVIOUS"] == ",".join(words)
        words.insert(0, found[setting])
    if name == "posthog_signing_secret":
        assert len(key_of(words[0])) >= 24
    run(made, "--retire", name)
    assert keys.read_text().splitlines()[2:] == [f"{setting}={words[0]}"]


SPECIAL = ["a,b", "[x", "a$b", "a #b", 'say "x", \\', "it's", "'q'", "plain"]


@pytest.mark.parametrize("first", SPECIAL)
def test_what_an_operator_made_up_is_read_as_it_was(
    made: Path, first: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes reads a line unchanged; Compose replaces variables and removes quotes."""
    file, keys, env_file = made / "credentials/better_auth_secret", made / "keys.env", made / ".env"
    file.unlink()
    file.write_text(f"{first}\n")
    settings = script.SettingsFiles(keys, env_file)
    expected = [first]
    for _ in range(2):
        script.rotate(script.Directory(made), settings, "better_auth_secret")
        (name, _, raw), *_ = [line.partition("=") for line in keys.read_text().splitlines()]
        assert name == "BETTER_AUTH_SECRET_PREVIOUS"
        for value in (raw, dotenv_values(env_file, interpolate=True)[name]):
            assert value is not None
            monkeypatch.setenv(name, value)
            monkeypatch.setenv("BETTER_AUTH_SECRET", "present")
            read = SealingSettings().better_auth_secret_previous
            assert [one.get_secret_value() for one in read] == expected
        expected.insert(0, file.read_text().strip())


def test_what_no_file_can_hold_is_refused_before_anything_changes(
    made: Path, script: ModuleType
) -> None:
    file, keys = made / "credentials/better_auth_secret", made / "keys.env"
    file.unlink()
    file.write_text("it's $HOME\n")
    before = contents(made)
    with pytest.raises(SystemExit, match="BETTER_AUTH_SECRET_PREVIOUS"):
        script.rotate(
            script.Directory(made), script.SettingsFiles(keys, made / ".env"), "better_auth_secret"
        )
    assert contents(made) == before


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
def test_what_env_says_behind_a_secret_is_not_a_part_of_it(
    made: Path, written: str, script: ModuleType
) -> None:
    env_file, setting = made / ".env", "POSTHOG_WEBHOOK_SECRET"
    env_file.write_text(f"{setting}={written}\n")
    known = dotenv_values(env_file)[setting]
    settings = script.SettingsFiles(env_file)
    assert settings.value(setting) == known
    script.rotate(script.Directory(made), settings, "posthog_webhook_secret")
    found = dotenv_values(env_file)
    assert found[f"{setting}_PREVIOUS"] in {known, f'["{known}"]'}
    assert re.fullmatch(r"s[0-9a-f]{48}", found[setting] or "")
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
    made: Path, written: str, passed_on: str, script: ModuleType
) -> None:
    """The value that Compose 5.6 passes for each line."""
    env_file, setting = made / ".env", "POSTHOG_WEBHOOK_SECRET"
    env_file.write_text(f"{setting}={written}\n")
    assert script.SettingsFiles(env_file).value(setting) == passed_on


@pytest.mark.parametrize("written", ["a$b", "a${b}", '"a$b"', r"a\$b"])
def test_a_secret_with_a_variable_in_it_is_not_rotated(
    made: Path, written: str, script: ModuleType
) -> None:
    env_file = made / ".env"
    env_file.write_text(f"POSTHOG_WEBHOOK_SECRET={written}\n")
    before = contents(made)
    with pytest.raises(SystemExit, match="single quotes"):
        script.rotate(
            script.Directory(made), script.SettingsFiles(env_file), "posthog_webhook_secret"
        )
    assert contents(made) == before


def test_a_link_to_the_settings_stays_one(made: Path, script: ModuleType) -> None:
    kept, env_file = made / "kept.env", made / ".env"
    kept.write_text("INGEST_API_KEY=first\n")
    env_file.symlink_to(kept)
    script.rotate(script.Directory(made), script.SettingsFiles(env_file), "ingest_api_key")
    assert env_file.is_symlink()
    assert dotenv_values(kept)["INGEST_API_KEY_PREVIOUS"] == "first"


def test_lines_end_where_compose_ends_them(made: Path, script: ModuleType) -> None:
    beside = "# a note\fof the operator\u2028and more\nOTHER='x\u0085y'\n"
    env_file = made / ".env"
    env_file.write_text(f"\ufeffINGEST_API_KEY=first\r\n{beside}", "utf-8")
    script.rotate(script.Directory(made), script.SettingsFiles(env_file), "ingest_api_key")
    written = env_file.read_text("utf-8")
    assert written.startswith(beside)
    assert "INGEST_API_KEY_PREVIOUS=first\n" in written


@pytest.mark.parametrize("written", ["{}: first", "{}:first", "export {} : 'first'"])
def test_a_line_as_in_yaml_is_read_and_replaced_as_compose_reads_it(
    made: Path, written: str, script: ModuleType
) -> None:
    """Only Compose reads it so. Kubernetes reads it as a name."""
    setting = "INGEST_API_KEY"
    line, env_file, keys = written.format(setting), made / ".env", made / "keys.env"
    env_file.write_text(f"{line}\n")
    script.rotate(script.Directory(made), script.SettingsFiles(env_file), "ingest_api_key")
    assert line not in env_file.read_text()
    assert dotenv_values(env_file)[f"{setting}_PREVIOUS"] == "first"
    keys.unlink(missing_ok=True)
    keys.write_text(f"{line}\n")
    assert script.SettingsFiles(keys).value(setting) is None


def test_a_change_of_a_setting_is_not_said_to_be_none(made: Path) -> None:
    keys = made / "keys.env"
    keys.unlink(missing_ok=True)
    keys.write_text("INGEST_API_KEY=first\n")
    assert run(made, "--rotate", "ingest_api_key") == f"{keys} changed\n"
    assert "nothing to do" in run(made)


def test_an_unknown_secret_is_refused_and_changes_nothing(made: Path) -> None:
    before = contents(made)
    with pytest.raises(subprocess.CalledProcessError):
        run(made, "--rotate", "gateway")
    assert contents(made) == before
