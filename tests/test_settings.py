"""The settings: what a file and the environment may say, and how mistakes are told."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as some
from pydantic import ValidationError

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.settings import Settings, load, schema_rows

SPEC = (Path(__file__).parent / "spec_config.toml").read_text()
BACKUP_BLOCK = SPEC[SPEC.index("[backup]") : SPEC.index("[network]")]
GENERAL_BLOCK = SPEC[: SPEC.index("encryption_enabled")] + SPEC[SPEC.index("[network]") :]

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    folder = tmp_path / "config"
    folder.mkdir(mode=0o700)

    def into_file(text: str) -> str:
        path = folder / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return into_file


def refusal(path: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(InvalidRequest) as refused:
        load(path, environ)
    return str(refused.value)


def told(path: str, environ: dict[str, str] | None = None) -> list[str]:
    return [line.removeprefix(f"{path}: ") for line in refusal(path, environ).splitlines()]


def test_without_a_file_everything_has_its_default() -> None:
    assert load("") == Settings()


def test_an_empty_file_is_the_defaults(write: Write) -> None:
    assert load(write("")) == Settings()


def test_the_documents_own_configuration_is_read_to_the_letter(write: Write) -> None:
    found = load(write(SPEC))

    assert found.features.security_monitoring is False
    assert found.features.model_dump(exclude={"security_monitoring"}) == dict.fromkeys(
        [
            "system_monitoring",
            "network_scanning",
            "backup_management",
            "config_management",
            "resource_monitoring",
        ],
        True,
    )
    assert found.monitoring.model_dump() == tomllib.loads(SPEC)["monitoring"]
    assert found.network.monitor_interfaces == ("eth0", "wlan0")
    assert found.backup.enabled
    assert found.backup.schedule == "0 2 * * *"
    assert found.backup.neo4j.model_dump() == {"enabled": True, "retention_days": 90, "compression": "gzip"}
    assert found.backup.configs.paths == ("/etc", "~/.config", "~/.ssh")
    assert found.backup.docker_volumes.exclude == ("cache_vol", "tmp_vol")
    assert found.backup.s3.bucket == "watchman-backups"


@pytest.mark.parametrize("block", [BACKUP_BLOCK, GENERAL_BLOCK])
def test_each_of_its_blocks_is_valid_alone(write: Write, block: str) -> None:
    tables = tomllib.loads(block)
    found = load(write(block)).model_dump(mode="json")

    assert tables["backup"]["enabled"] is True
    for table, keys in tables.items():
        for key, value in keys.items():
            assert value == found[table][key] or (
                isinstance(value, dict) and value.items() <= found[table][key].items()
            )


def test_settings_cannot_be_altered() -> None:
    with pytest.raises(ValidationError):
        Settings().changes.allow = ("services",)


def test_every_unknown_key_and_bad_value_is_told_at_once_with_the_nearest_key(write: Write) -> None:
    path = write("""
        metrics_interval = 60
        [monitoring]
        metric_interval = 60
        metrics_interval = 1
        [feature]
        [features]
        network_scanning = "yes"
        [network]
        monitor_interfaces = ["eth0", 7]
        [backup.s3]
        bukket = "x"
        [changes]
        allow = ["everything"]
        confirm = "nobody"
        [daemon]
        command_path = "bin:/usr/bin"
    """)

    assert sorted(told(path)) == [
        "backup.s3.bukket: unknown key; the nearest valid one is backup.s3.bucket",
        "changes.allow[0]: should be 'backup', 'configs', 'containers', 'mcp' or 'services'",
        "changes.confirm: should be 'person' or 'client'",
        "daemon.command_path: should be absolute directories joined by colons",
        "feature: unknown key; the nearest valid one is features",
        "features.network_scanning: should be a valid boolean",
        "metrics_interval: unknown key; the nearest valid one is monitoring.metrics_interval",
        "monitoring.metric_interval: unknown key; the nearest valid one is monitoring.metrics_interval",
        "monitoring.metrics_interval: should be greater than or equal to 5",
        "network.monitor_interfaces[1]: should be a valid string",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("monitoring = 3", "monitoring: should be a table"),
        ("[monitoring]\nmetrics_interval = 60.5", "monitoring.metrics_interval: should be a valid integer"),
        ("[monitoring]\nmetrics_interval = '60'", "monitoring.metrics_interval: should be a valid integer"),
        ("[monitoring]\nmetrics_interval = true", "monitoring.metrics_interval: should be a valid integer"),
        (
            "[monitoring]\nmetrics_interval = 3601",
            "monitoring.metrics_interval: should be less than or equal to 3600",
        ),
        ("[host]\nroot = 'mnt'", "host.root: should be an absolute path; / is this machine"),
        ("[host]\nroot = ''", "host.root: should be an absolute path; / is this machine"),
        ("[store]\npath = 'state'", "store.path: should be an absolute path, or begin with ~/"),
        ("[retention]\nevents_days = 0", "retention.events_days: should be greater than or equal to 1"),
        (
            "[backup]\nschedule = 'daily'",
            "backup.schedule: should be five fields, minute hour day month weekday",
        ),
        ("[backup]\nschedule = '0 24 * * *'", "backup.schedule: the part '24' should be within 0 to 23"),
        ("[backup]\nschedule = '5-1 * * * *'", "backup.schedule: the part '5-1' should be within 0 to 59"),
        ("[backup]\nschedule = '*/0 * * * *'", "backup.schedule: the part '*/0' should be within 0 to 59"),
        ("[backup]\nschedule = '* * * foo *'", "backup.schedule: the part 'foo' should be within 1 to 12"),
        ("[backup.s3]\nendpoint = 'https://u:p@host'", "backup.s3.endpoint: should be like https://host"),
        ("[neo4j]\nuri = 'neo4j://u:p@host'", "neo4j.uri: should be like neo4j://host:7687"),
        ("[packages]\npython_paths = ['venv']", "packages.python_paths[0]: should be an absolute path"),
        ('"a\\u001b[31m" = 1', "'a\\x1b[31m': unknown key"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_reason(write: Write, text: str, says: str) -> None:
    lines = told(write(text))

    assert len(lines) == 1
    assert lines[0].startswith(says)


@pytest.mark.parametrize(
    "text",
    [
        "[backup]\nschedule = '*/15 0-6,12 1 jan,jul-sep mon-fri'",
        "[backup]\nschedule = '0 0 * * 7'",
        "[neo4j]\nuri = 'neo4j+s://graph.example.com:7687'\nuser = 'w'\npassword_file = '~/.secret'",
        "[host]\nroot = '/mnt/host'\nname = 'nas'",
        "[store]\npath = '~/state'\nsize_cap_mb = 100",
        "[packages]\npython_paths = ['/opt/venvs', '/srv/work']",
        "[daemon]\nlinger_seconds = 0\ncommand_path = '/opt/bin:/usr/bin'",
    ],
)
def test_good_values_are_taken(write: Write, text: str) -> None:
    table, keys = next(iter(tomllib.loads(text).items()))
    found = load(write(text)).model_dump(mode="json")[table]

    assert keys == {key: found[key] for key in keys}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"a = 1\nb = = 2\n", "line 2: Invalid value"),
        (b"a = 1\n[b", "line 2: "),
        (b"a = 1\na = 2\n", "line 2: Cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "line 2: is not UTF-8"),
        (b"a = " + b"[" * 5_000, ": "),
        (b"a = " + b"9" * 5_000, "is not TOML that can be read"),
        (b"#" * 1_048_577, "is not a regular file of at most 1048576 bytes"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_its_line(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(raw)

    message = refusal(str(path))
    assert message.startswith(str(path))
    assert says in message
    assert len(message) < 400


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert "No such file or directory" in refusal(str(tmp_path / "missing.toml"))
    assert "is not a regular file" in refusal(str(tmp_path / "pipe"))
    assert "directory" in refusal(str(tmp_path)).lower()
    assert "null" in refusal("a\0b")


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=some.binary(max_size=200) | some.text(max_size=100).map(str.encode))
def test_no_file_does_anything_but_load_or_be_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(raw)

    try:
        assert load(str(path)) == Settings()
    except InvalidRequest as refused:
        assert str(refused).startswith(str(path))


def test_variables_count_only_when_the_environment_is_given(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("[monitoring]\nmetrics_interval = 30")
    monkeypatch.setenv("WATCHMAN_MONITORING__METRICS_INTERVAL", "90")

    assert load(path).monitoring.metrics_interval == 30
    assert load(path, dict(os.environ)).monitoring.metrics_interval == 90


def test_variables_are_read_as_their_keys_types() -> None:
    found = load(
        "",
        {
            "WATCHMAN_FEATURES__SECURITY_MONITORING": "True",
            "WATCHMAN_NETWORK__MONITOR_INTERFACES": "eth0, wlan0",
            "WATCHMAN_PACKAGES__PYTHON_PATHS": '["/opt/a,b"]',
            "WATCHMAN_BACKUP__S3__BUCKET": "123",
            "WATCHMAN_BACKUP__NEO4J__RETENTION_DAYS": "7",
            "WATCHMAN_CONFIG": "/elsewhere",
            "WATCHMAN_TEST_SOAK": "full",
            "OTHER__KEY": "x",
        },
    )

    assert found.features.security_monitoring
    assert found.network.monitor_interfaces == ("eth0", "wlan0")
    assert found.packages.python_paths == ("/opt/a,b",)
    assert found.backup.s3.bucket == "123"
    assert found.backup.neo4j.retention_days == 7


def test_mistakes_in_variables_name_the_variable() -> None:
    environ = {
        "WATCHMAN_MONITORING__METRICS_INTERVAL": "often",
        "WATCHMAN_MONITORNG__METRICS_INTERVAL": "60",
        "WATCHMAN_BACKUP__S3": "x",
        "WATCHMAN_NETWORK__MONITOR_INTERFACES": "[1]",
    }

    assert sorted(told("", environ)) == [
        "WATCHMAN_BACKUP__S3: backup.s3: should be a table",
        "WATCHMAN_MONITORING__METRICS_INTERVAL: monitoring.metrics_interval: should be a valid integer",
        "WATCHMAN_MONITORNG__METRICS_INTERVAL: monitorng: unknown key; the nearest valid one is monitoring",
        "WATCHMAN_NETWORK__MONITOR_INTERFACES: network.monitor_interfaces[0]: should be a valid string",
    ]


@pytest.mark.parametrize(
    "name", ["WATCHMAN_CHANGES__ALLOW", "WATCHMAN_CHANGES__CONFIRM", "WATCHMAN_CHANGES__X__Y"]
)
def test_the_policy_never_comes_from_the_environment(name: str) -> None:
    assert told("", {name: "services"}) == [
        f"{name}: [changes] is never taken from the environment; use the file"
    ]


def test_keys_of_the_storage_come_from_the_variables_that_the_document_names(write: Write) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}

    assert load(write(SPEC), environ).backup.s3.secret_access_key.get_secret_value() == "secret"
    assert load(write(SPEC)).backup.s3.secret_access_key.get_secret_value() == ""
    assert (
        load(write("[backup.s3]\naccess_key_id = 'own'"), environ).backup.s3.access_key_id.get_secret_value()
        == "own"
    )


def test_a_secret_is_in_no_text_and_no_error(write: Write) -> None:
    found = load(write("[backup.s3]\nsecret_access_key = 'S3CRET'"))

    assert "S3CRET" not in repr(found) + str(found) + found.model_dump_json()
    assert "S3CRET" not in refusal(write("[backup.s3]\nsecret_access_key = ['S3CRET']"))
    assert "S3CRET" not in refusal(write("[neo4j]\nuri = 'neo4j://u:S3CRET@h'"))


POLICY = "[changes]\nallow = ['services']\n"


def test_a_policy_in_a_well_kept_file_is_honoured(write: Write) -> None:
    assert load(write(POLICY)).changes.allow == ("services",)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_policy_that_others_can_write_is_refused_with_the_command(write: Write, mode: int) -> None:
    path = write(POLICY)
    os.chmod(path, mode)

    assert told(path) == [
        f"changes: is honoured only where nobody else can write; others may write {path}: chmod go-w {path}"
    ]


def test_a_policy_in_a_directory_that_others_can_write_is_refused_with_the_command(write: Write) -> None:
    path = write(POLICY)
    folder = os.path.dirname(path)
    os.chmod(folder, 0o770)
    assert told(path)[0].endswith(f"others may write {folder}: chmod go-w {folder}")

    os.chmod(folder, 0o1777)
    assert told(path)[0].endswith(
        f"everybody may write in {folder}: move the file to a directory of your own"
    )


def test_a_policy_behind_a_link_is_judged_at_both_ends(write: Write, tmp_path: Path) -> None:
    path = write(POLICY)
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "link.toml").symlink_to(path)
    loose.chmod(0o700)
    assert load(str(loose / "link.toml")).changes.allow == ("services",)

    loose.chmod(0o777)
    assert f"others may write {loose}" in refusal(str(loose / "link.toml"))

    loose.chmod(0o700)
    os.chmod(os.path.dirname(path), 0o770)
    assert f"others may write {os.path.dirname(path)}:" in refusal(str(loose / "link.toml"))

    os.chmod(os.path.dirname(path), 0o700)
    os.chmod(path, 0o666)
    assert f"others may write {path}" in refusal(str(loose / "link.toml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_policy_of_another_user_is_refused_with_the_command(write: Write) -> None:
    path = write(POLICY)
    os.chown(path, 12345, -1)

    assert told(path)[0].endswith(f"{path} belongs to another user: chown 0 {path}")


def test_a_file_without_policy_may_be_anyones(write: Write) -> None:
    path = write("[monitoring]\nmetrics_interval = 30")
    os.chmod(path, 0o666)

    assert load(path).monitoring.metrics_interval == 30


def test_every_key_has_a_type_a_default_that_is_toml_and_a_sentence() -> None:
    rows = schema_rows()

    assert len({key for key, _, _, _ in rows}) == len(rows)
    for key, kind, default, says in rows:
        assert kind
        assert "|" not in kind + default + says, "the reference page is a table"
        assert says.endswith(".") and says[0].isupper()
        assert "value" in tomllib.loads(f"value = {default}"), key


def test_the_defaults_as_written_are_a_valid_file(write: Write) -> None:
    text = "".join(f"{key} = {default}\n" for key, _, default, _ in schema_rows())

    assert load(write(text)) == Settings()


def test_rows_tell_types_and_bounds() -> None:
    rows = {key: (kind, default) for key, kind, default, _ in schema_rows()}

    assert rows["monitoring.metrics_interval"] == ("integer, 5 to 3600", "60")
    assert rows["features.security_monitoring"] == ("true or false", "false")
    assert rows["backup.s3.secret_access_key"] == ("secret text", '""')
    assert rows["changes.allow"] == ("list, each one of backup, configs, containers, mcp, services", "[]")
    assert rows["changes.confirm"] == ("one of person, client", '"person"')


def test_a_place_in_one_s_own_home_is_found_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/own")
    file = tmp_path / "config.toml"
    file.write_text("[packages]\npython_paths = ['~/work']\n")

    assert load(str(file)).packages.python_paths == ("/home/own/work",)
