"""Settings: an unknown or wrong one is refused by name, and the file that `init` writes says the defaults."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import (
    TEMPLATE,
    RemoteSettings,
    Settings,
    SyncSettings,
    format_settings,
    load_settings,
    parse_listen,
    parse_settings,
)
from node.core.mirror import StagingLimits
from node.errors import MAKE_HOME, ConfigError
from tests.alliance import examples

GOOD: dict[str, Any] = {
    "name": "济南市产品质量检验院",
    "region": "CN-37",
    "address": "lab.example:7443",
    "listen": "0.0.0.0:7443",
}
WRITTEN = format_settings(name="Jinan", region="CN-37", address="lab.example:7443", listen="0.0.0.0:7443")


def refuse(**changes: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_settings({**GOOD, **changes})
    return caught.value


class TestParsing:
    def test_the_defaults(self) -> None:
        settings = parse_settings(GOOD)
        assert settings == Settings("济南市产品质量检验院", "CN-37", ("lab.example:7443",), "0.0.0.0:7443")
        assert (settings.reflection, settings.log_level, settings.socket_group) == (False, "info", "")
        assert (settings.staging, settings.sync, settings.remote) == (StagingLimits(), SyncSettings(), RemoteSettings())

    def test_everything_may_be_set(self) -> None:
        settings = parse_settings(
            {
                **GOOD,
                "address": ["a.example:1", "[2001:db8::1]:65535"],
                "reflection": True,
                "log_level": "debug",
                "socket_group": "lims",
                "staging": {"entries": 1, "bytes": 2},
                "sync": {"contact_interval_s": 3, "deadline_s": 4, "retry_max_s": 5},
                "remote": {"listen": "[::]:7444", "names": ["node.lab.example", "10.0.0.5", "2001:db8::1"]},
            }
        )
        assert settings.address == ("a.example:1", "[2001:db8::1]:65535")
        assert (settings.reflection, settings.log_level, settings.socket_group) == (True, "debug", "lims")
        assert (settings.staging, settings.sync) == (StagingLimits(1, 2), SyncSettings(3, 4, 5))
        names = ("node.lab.example", "10.0.0.5", "2001:db8::1")
        assert settings.remote == RemoteSettings("[::]:7444", names)
        assert parse_settings({**GOOD, "address": []}).address == ()

    def test_a_certificate_of_the_labs_own(self) -> None:
        section = {"listen": "0.0.0.0:0", "certificate": "/etc/ssl/node.pem", "key": "keys/node.key"}
        assert parse_settings({**GOOD, "remote": section}).remote == RemoteSettings(
            "0.0.0.0:0", (), "/etc/ssl/node.pem", "keys/node.key"
        )
        assert parse_settings({**GOOD, "remote": {}}).remote == RemoteSettings()

    @pytest.mark.parametrize("name", ["name", "region", "address", "listen"])
    def test_what_may_not_be_missing(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"^{name} is missing$"):
            parse_settings({key: value for key, value in GOOD.items() if key != name})

    @pytest.mark.parametrize(
        ("changes", "name", "known"),
        [
            ({"loglevel": "info"}, "loglevel", "log_level"),
            ({"sync": {"dead_line_s": 1}}, "sync.dead_line_s", "deadline_s"),
            ({"staging": {"size": 1}}, "staging.size", "entries"),
            ({"remote": {"address": "a:1"}}, "remote.address", "listen"),
        ],
    )
    def test_an_unknown_setting(self, changes: dict[str, Any], name: str, known: str) -> None:
        error = refuse(**changes)
        assert error.message == f"{name} is not a setting"
        assert known in error.hint

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": 7}, "name is 7, but must be of type str"),
            ({"region": ["CN"]}, "region is ['CN'], but must be of type str"),
            ({"reflection": "yes"}, "reflection is 'yes', but must be of type bool"),
            ({"reflection": 1}, "reflection is 1, but must be of type bool"),
            ({"log_level": "loud"}, "log_level is 'loud'; it may be debug, info, warning, error"),
            ({"log_level": "INFO"}, "log_level is 'INFO'; it may be"),
            ({"socket_group": 100}, "socket_group is 100, but must be of type str"),
            ({"sync": 15}, "sync is 15, but must be of type dict"),
            ({"sync": {"deadline_s": 1.5}}, "deadline_s is 1.5, but must be of type int"),
            ({"sync": {"deadline_s": True}}, "deadline_s is True, but must be of type int"),
            ({"sync": {"deadline_s": 0}}, "sync.deadline_s is 0; it must be at least 1"),
            ({"staging": {"bytes": -1}}, "staging.bytes is -1; it must be at least 1"),
            ({"address": 7443}, "address is not a list of host:port"),
            ({"address": [7443]}, "address is not a list of host:port"),
            ({"address": "lab.example"}, "address: 'lab.example' is not an address"),
            ({"address": ["lab.example:0"]}, "address: 'lab.example:0' is not an address"),
            ({"listen": "7443"}, "listen is '7443', which is not host:port"),
            ({"listen": 7443}, "listen is 7443, but must be of type str"),
            ({"remote": "0.0.0.0:1"}, "remote is '0.0.0.0:1', but must be of type dict"),
            ({"remote": {"listen": 7444}}, "listen is 7444, but must be of type str"),
            ({"remote": {"listen": "7444"}}, "remote.listen is '7444', which is not host:port"),
            ({"remote": {"names": "a.example"}}, "remote.names is not a list of names"),
            ({"remote": {"names": [1]}}, "remote.names is not a list of names"),
            ({"remote": {"names": ["a b"]}}, "remote.names: 'a b' is not a host name or an address"),
            ({"remote": {"names": ["*.lab.example"]}}, "remote.names: '*.lab.example' is not"),
            ({"remote": {"names": ["lab.example:1"]}}, "remote.names: 'lab.example:1' is not"),
            ({"remote": {"certificate": "a"}}, "remote.certificate and remote.key belong together"),
            ({"remote": {"key": "a"}}, "remote.certificate and remote.key belong together"),
            (
                {"remote": {"certificate": "a", "key": "b", "names": ["a"]}},
                "remote.names is for a certificate that the node makes",
            ),
        ],
    )
    def test_a_wrong_value(self, changes: dict[str, Any], message: str) -> None:
        assert refuse(**changes).message.startswith(message)

    @pytest.mark.parametrize("text", ["0.0.0.0:0", "[::]:0", "lab.example:1", "127.0.0.1:65535"])
    def test_where_to_listen(self, text: str) -> None:
        assert parse_listen(text) == text

    @pytest.mark.parametrize("text", ["", ":7443", "0.0.0.0", "0.0.0.0:", "0.0.0.0:65536", "0.0.0.0:00", "a b:1", "::1:1"])
    def test_where_not_to_listen(self, text: str) -> None:
        with pytest.raises(ConfigError, match="which is not host:port"):
            parse_listen(text)


class TestFile:
    def test_a_new_file_says_the_defaults(self) -> None:
        table = tomllib.loads(WRITTEN)
        assert parse_settings(table) == parse_settings({**GOOD, "name": "Jinan"})

    def test_every_setting_stands_in_the_file(self) -> None:
        table = tomllib.loads(WRITTEN)
        assert set(table) == {item.name for item in fields(Settings)}
        assert set(table["sync"]) == {item.name for item in fields(SyncSettings)}
        assert set(table["remote"]) == {item.name for item in fields(RemoteSettings)}
        assert set(table["staging"]) == {item.name for item in fields(StagingLimits)}

    def test_every_setting_has_a_comment(self) -> None:
        explained = False
        for line in TEMPLATE.splitlines():
            if line.startswith("#"):
                explained = True
            elif not line:
                explained = False
            elif not line.startswith("["):
                assert explained, line

    def test_every_optional_setting_may_be_left_out(self) -> None:
        required = {item.name for item in fields(Settings) if item.default is MISSING and item.default_factory is MISSING}
        table = {name: value for name, value in tomllib.loads(WRITTEN).items() if name in required}
        assert parse_settings(table) == parse_settings(tomllib.loads(WRITTEN))

    @examples(200)
    @given(st.text(st.characters(exclude_categories=["C"]), max_size=60), st.text("\"\\{}#[]='", max_size=8))
    def test_odd_names_are_quoted(self, name: str, region: str) -> None:
        raw = format_settings(name=name, region=region, address="lab.example:7443", listen="0.0.0.0:0")
        settings = parse_settings(tomllib.loads(raw))
        assert (settings.name, settings.region) == (name, region)
        assert (settings.address, settings.listen) == (("lab.example:7443",), "0.0.0.0:0")

    def test_it_is_read_from_the_disk(self, tmp_path: Path) -> None:
        path = tmp_path / "labmesh.toml"
        path.write_text(WRITTEN.replace("Jinan", "济南"), encoding="utf-8")
        assert load_settings(path).name == "济南"

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"name = ", "is not TOML"),
            (b"\xff\xfe", "is not TOML"),
            (b"name = 'a'\nname = 'b'", "is not TOML"),
            (b"name = " + b"1" * 5000, "is not TOML"),
            (b"name = " + b"[" * 5000, "is not TOML"),
            (WRITTEN.replace("15", "0").encode(), re.escape("sync.contact_interval_s is 0")),
        ],
    )
    def test_a_fault_names_the_file(self, tmp_path: Path, raw: bytes, message: str) -> None:
        path = tmp_path / "labmesh.toml"
        path.write_bytes(raw)
        with pytest.raises(ConfigError, match=message) as caught:
            load_settings(path)
        assert str(path) in caught.value.message

    @pytest.mark.parametrize("name", ["listen", "log_level", "reflection", "x" * 5000])
    def test_a_fault_quotes_no_more_than_a_person_can_read(self, name: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_settings({**tomllib.loads(WRITTEN), name: "\t" * 5000})
        assert name[:100] in caught.value.message and len(caught.value.message) < 1000

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no") as caught:
            load_settings(tmp_path / "labmesh.toml")
        assert caught.value.hint == MAKE_HOME
