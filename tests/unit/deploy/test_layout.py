"""The layout of a deployment in `.env`, the move to another layout, and settings without effect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.backup import streams as saving
from cli.backup.stream_snapshot import StreamError, StreamResult
from cli.deployment import layout_move, servers
from cli.deployment.compose import Compose
from cli.deployment.env_check import REFUSED, disagreements, ignored
from cli.deployment.env_file import EnvFile
from cli.deployment.layout import Chosen, Layout
from cli.deployment.layout_move import Move
from cli.errors import CommandError


def chosen(lines: Mapping[str, str | None], **changed: str) -> Chosen:
    values = {name: value for name, value in lines.items() if value} | changed
    return Chosen(
        values.get("COMPOSE_PROFILES", ""),
        values.get("NATS_CONFIG", "single"),
        values.get("NATS_REPLICAS", "1"),
        values.get("HOGSEND_NATS_URL", "nats://nats:4222"),
    )


def test_a_change_of_layout_keeps_every_other_line_of_env(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    file.path.write_text("# own note\nPOSTHOG_WEBHOOK_SECRET='s3 cret'\nexport NATS_REPLICAS=1\n")
    file.change(Layout.CLUSTER.lines("tools"))
    assert file.values() == {
        "POSTHOG_WEBHOOK_SECRET": "s3 cret",
        "COMPOSE_PROFILES": "tools,cluster",
        "NATS_CONFIG": "cluster-accounts",
        "NATS_REPLICAS": "3",
        "HOGSEND_NATS_URL": "nats://nats:4222,nats://nats-2:4222,nats://nats-3:4222",
    }
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.change(Layout.SINGLE.lines("tools,cluster"))
    assert file.path.read_text() == (
        "# own note\nPOSTHOG_WEBHOOK_SECRET='s3 cret'\nCOMPOSE_PROFILES=tools\n"
    )


def test_lines_of_env_are_split_as_compose_splits_them(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    kept = "# a note\fof the operator\u2028and more\n"
    file.path.write_text(f"\ufeffNATS_REPLICAS=3\n{kept}", "utf-8")
    file.change({"NATS_REPLICAS": "1"})
    assert file.path.read_text("utf-8") == f"{kept}NATS_REPLICAS=1\n"


def test_a_line_with_a_colon_is_read_and_replaced_as_in_compose(tmp_path: Path) -> None:
    file = EnvFile(tmp_path / ".env")
    kept = "TEXT='two\nNOTE: lines'\n"
    file.path.write_text(f"COMPOSE_PROFILES: tools\nexport NATS_REPLICAS : '3' # three\n{kept}")
    assert file.values() == {
        "COMPOSE_PROFILES": "tools",
        "NATS_REPLICAS": "3",
        "TEXT": "two\nNOTE: lines",
    }
    file.change({"COMPOSE_PROFILES": "tools,cluster", "NATS_REPLICAS": None})
    assert file.path.read_text() == f"{kept}COMPOSE_PROFILES=tools,cluster\n"


def test_a_symbolic_link_to_the_settings_is_kept(tmp_path: Path) -> None:
    kept, file = tmp_path / "kept.env", EnvFile(tmp_path / ".env")
    kept.touch()
    file.path.symlink_to(kept)
    file.change(Layout.CLUSTER.lines(""))
    assert file.path.is_symlink()
    assert EnvFile(kept).values()["NATS_REPLICAS"] == "3"


def test_settings_of_different_layouts_together_are_a_problem() -> None:
    cluster = Layout.CLUSTER.lines("")
    for layout in Layout:
        assert chosen(layout.lines("")).problem() is None
    for name, other in {
        "COMPOSE_PROFILES": "",
        "NATS_CONFIG": "single",
        "NATS_REPLICAS": "1",
        "HOGSEND_NATS_URL": "nats://nats:4222",
    }.items():
        assert chosen({**cluster, name: other}).problem() is not None, name
        assert chosen(Layout.SINGLE.lines(""), **{name: cluster[name] or ""}).problem(), name
    assert chosen({}, NATS_CONFIG="two").problem() is not None
    # The previous version wrote this name of the configuration.
    assert chosen(cluster, NATS_CONFIG="cluster").problem() is None
    # NATS servers outside the deployment.
    assert chosen({}, NATS_REPLICAS="3", HOGSEND_NATS_URL="tls://nats.internal").problem() is None


def test_each_setting_that_reaches_no_container_is_refused_with_a_fix() -> None:
    for name in REFUSED:
        (line,) = ignored({name: "something"})
        assert line.startswith(f"{name} has no effect here: ")
    assert ignored({"nats_Replicas": "3"}) == [
        "nats_Replicas has no effect here: write NATS_REPLICAS"
    ]
    assert ignored({"POSTHOG_API_KEY": "phc_x", "NATS_URL": " ", "SPOOL_DIR": ""}) == []
    # The image sets these values itself.
    assert ignored({"SPOOL_DIR": "/var/lib/hogsend/spool", "GATEWAY_HOST": "0.0.0.0"}) == []


def test_a_setting_of_env_that_compose_did_not_read_is_refused_without_its_value() -> None:
    single = {
        "SEEN_NATS_CONFIG": "single",
        "SEEN_NATS_REPLICAS": "1",
        "SEEN_HOGSEND_NATS_URL": "nats://nats:4222",
    }
    assert disagreements(single) == []
    cluster = {name: word for name, word in Layout.CLUSTER.lines("").items() if word}
    (line,) = disagreements({**single, **cluster})
    assert all(name in line for name in cluster)
    (line,) = disagreements({**single, "POSTHOG_WEBHOOK_SECRET": "whsec"})
    assert "without --env-file" in line
    assert "whsec" not in line
    seen = {**single, "POSTHOG_WEBHOOK_SECRET": "whsec", "SEEN_POSTHOG_WEBHOOK_SECRET": "whsec"}
    assert disagreements(seen) == []


def ignore_progress(_text: str) -> None:
    pass


class Engine(Compose):
    """A deployment whose NATS servers have no data but the mark of their layout."""

    def __init__(self, directory: Path, **layouts: str) -> None:
        (directory / "compose.yaml").touch()
        super().__init__(directory)
        self.data: dict[str, str] = dict(layouts)
        self.ran: list[str] = []
        self.service_names = "settings nats gateway ingest"
        self.configs: list[str] = []
        """Values of NATS_CONFIG at each start of the servers."""

    def run(self, *arguments: str, extra: Mapping[str, str] | None = None, **_: Any) -> str:
        command = arguments[2:] if arguments[0] == "--profile" else arguments
        words = [word for word in command if word not in {"-d", "--no-deps"}]
        self.ran.append(" ".join(words) + (" (moving)" if "NATS_PUBLISH" in (extra or {}) else ""))
        if words[0] == "up" and "nats" in words:
            self.configs.append((extra or {}).get("NATS_CONFIG", ""))
        if words[0] == "run":
            server, script_arguments = words[3], words[6:]
            match script_arguments:
                case ["which"]:
                    return self.data.get(server, "")
                case ["set-aside", _]:
                    self.data[server] = "moving"
                case ["settle", layout]:
                    self.data[server] = layout
                case ["leave"]:
                    del self.data[server]
        if words[0] == "port":
            return "127.0.0.1:3003"
        if words[0] == "config":
            return self.service_names
        return ""


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the backup of streams and the readiness of a gateway by this state."""
    state: dict[str, Any] = {"restored": [], "fail": set(), "ready": [True]}

    @asynccontextmanager
    async def operator(_compose: Compose, *, port: int) -> AsyncIterator[None]:
        assert port == 14222
        yield None

    async def save_all(*_: Any) -> list[StreamResult]:
        if "save" in state["fail"]:
            raise StreamError("no space")
        return []

    async def restore_all(*_: Any, copies: int) -> list[StreamResult]:
        if "restore" in state["fail"]:
            raise StreamError("no space")
        state["restored"].append(copies)
        return [StreamResult("EVENTS", 7, 1)]

    async def is_ready(_http: httpx.AsyncClient) -> bool:
        outcomes: list[bool] = state["ready"]
        return outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]

    monkeypatch.setattr(layout_move, "_is_ready", is_ready)
    monkeypatch.setattr(layout_move, "POLL_SECONDS", 0)
    monkeypatch.setattr(servers, "operator", operator)
    monkeypatch.setattr(saving, "save_all", save_all)
    monkeypatch.setattr(saving, "restore_all", restore_all)
    return state


def test_without_data_a_move_only_changes_env(tmp_path: Path, streams: dict[str, Any]) -> None:
    engine = Engine(tmp_path)
    assert Move(engine, ignore_progress).to(Layout.CLUSTER).backup is None
    assert engine.env_file.values()["NATS_CONFIG"] == "cluster-accounts"
    assert streams["restored"] == []


def test_streams_are_moved_while_no_service_can_reach_a_server(
    tmp_path: Path, streams: dict[str, Any]
) -> None:
    engine = Engine(tmp_path, nats="single")
    moved = Move(engine, ignore_progress).to(Layout.CLUSTER)
    assert [stream.messages for stream in moved.streams] == [7]
    assert streams["restored"] == [3]
    assert engine.data == dict.fromkeys(("nats", "nats-2", "nats-3"), "cluster-accounts")
    assert engine.env_file.values()["NATS_REPLICAS"] == "3"
    steps = [line for line in engine.ran if not line.startswith("run")]
    assert steps == [
        "config --services",
        "up nats (moving)",
        "stop nats nats-2 nats-3",
        "up nats nats-2 nats-3 (moving)",
        "stop nats nats-2 nats-3",
        "up nats nats-2 nats-3",
        "config --services",
        "up settings ingest",
        "port gateway-2 3002",
        "up gateway",
    ]
    assert not (tmp_path / ".layout-move.json").exists()


def test_the_first_gateway_is_replaced_once_the_second_accepts_webhooks(
    tmp_path: Path, streams: dict[str, Any]
) -> None:
    texts: list[str] = []
    streams["ready"] = [False, False, True]
    Move(Engine(tmp_path, nats="single"), texts.append).to(Layout.CLUSTER)
    assert streams["ready"] == [True]
    assert "gateway-2" not in texts[-1]


def test_the_wait_for_a_second_gateway_that_accepts_no_webhooks_is_limited(
    tmp_path: Path, streams: dict[str, Any]
) -> None:
    texts: list[str] = []
    streams["ready"] = [False]
    Move(Engine(tmp_path, nats="single"), texts.append).to(Layout.CLUSTER)
    assert texts[-1].startswith("gateway-2 does not accept webhooks")


def test_a_move_is_refused_while_gateways_share_a_port(tmp_path: Path) -> None:
    engine = Engine(tmp_path, nats="single")
    engine.service_names += " door"
    with pytest.raises(CommandError, match="share a port"):
        Move(engine, ignore_progress).to(Layout.CLUSTER)
    assert engine.data == {"nats": "single"}
    assert engine.ran == ["config --services"]


def test_streams_can_be_moved_back_and_forth(tmp_path: Path, streams: dict[str, Any]) -> None:
    engine = Engine(tmp_path, nats="single")
    for layout in (Layout.CLUSTER, Layout.SINGLE, Layout.CLUSTER):
        Move(engine, ignore_progress).to(layout)
        assert engine.data == dict.fromkeys(layout.servers, layout.mark)
    assert streams["restored"] == [3, 1, 3]


def test_streams_of_a_cluster_move_from_the_shared_account_to_their_own(
    tmp_path: Path, streams: dict[str, Any]
) -> None:
    engine = Engine(tmp_path, **dict.fromkeys(("nats", "nats-2", "nats-3"), "cluster"))
    Move(engine, ignore_progress).to(Layout.CLUSTER)
    assert set(engine.data.values()) == {"cluster-accounts"}
    assert streams["restored"] == [3]
    # The servers start with the old configuration for the backup, and with the new one afterwards.
    assert [config for config in engine.configs if config] == ["cluster", *["cluster-accounts"] * 2]
    assert Move(engine, ignore_progress).to(Layout.CLUSTER).backup is None


def test_a_move_whose_backup_fails_changes_nothing(tmp_path: Path, streams: dict[str, Any]) -> None:
    engine = Engine(tmp_path, nats="single")
    streams["fail"] = {"save"}
    with pytest.raises(CommandError, match="no space"):
        Move(engine, ignore_progress).to(Layout.CLUSTER)
    assert engine.data == {"nats": "single"}
    assert engine.env_file.values() == {}
    assert engine.ran[-1] == "up nats"
    assert not (tmp_path / ".layout-move.json").exists()


def test_an_interrupted_move_can_only_be_continued(tmp_path: Path, streams: dict[str, Any]) -> None:
    engine = Engine(tmp_path, nats="single")
    streams["fail"] = {"restore"}
    with pytest.raises(CommandError, match="no space"):
        Move(engine, ignore_progress).to(Layout.CLUSTER)
    assert set(engine.data.values()) == {"moving"}
    with pytest.raises(CommandError, match="move to the layout cluster is not complete"):
        Move(engine, ignore_progress).to(Layout.SINGLE)
    streams["fail"] = set()
    assert Move(engine, ignore_progress).to(Layout.CLUSTER).layout is Layout.CLUSTER
    assert set(engine.data.values()) == {"cluster-accounts"}
    # A completed move is not repeated.
    assert Move(engine, ignore_progress).to(Layout.CLUSTER).backup is None
    assert streams["restored"] == [3]
