"""The owner's settings: one frozen model, every key with a default and a sentence."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from watchman_mcp import config_file, rules
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.machine import sources
from watchman_mcp.settings.kinds import (
    AddressSource,
    Days,
    Domain,
    OwnPath,
    Path,
    Paths,
    Root,
    Schedule,
    SearchPath,
    Server,
    Storage,
    Target,
    Texts,
    known_rule,
)


class _Table(BaseModel):
    """A table of the file: frozen, without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Features(_Table):
    """What is watched at all."""

    system_monitoring: bool = Field(True, description="Watch packages, services and containers.")
    network_scanning: bool = Field(True, description="Watch interfaces, routes, firewall, DNS and VPN.")
    backup_management: bool = Field(True, description="Offer backups and watch their state.")
    config_management: bool = Field(True, description="Keep versions of configuration files.")
    resource_monitoring: bool = Field(True, description="Measure CPU, memory, disks, network and processes.")
    security_monitoring: bool = Field(False, description="Watch logins, permissions, exposure and CVEs.")


class Monitoring(_Table):
    """How often is measured, and what is done with failures."""

    metrics_interval: int = Field(60, ge=5, le=3_600, description="Seconds between two measurements.")
    log_analysis_enabled: bool = Field(True, description="Find errors and warnings in logs.")
    alert_on_service_failure: bool = Field(True, description="Raise an alert when a service fails.")


class Alerts(_Table):
    """What people are told of by itself."""

    enabled: bool = Field(True, description="Open alerts.")
    off: Annotated[tuple[Annotated[str, AfterValidator(known_rule)], ...], Field(strict=False)] = Field(
        (), description=f"Rules that open none, out of: {', '.join(rules.NAMES)}."
    )


class Network(_Table):
    """What of the network is watched."""

    scan_interval: int = Field(300, ge=10, le=86_400, description="Seconds between two looks at the network.")
    monitor_interfaces: Texts = Field((), description="Interfaces to measure; empty: all.")
    track_vpn: bool = Field(True, description="Watch VPN connections.")
    external_ip: bool = Field(True, description="Ask others by which address the internet sees this machine.")
    external_ip_interval: int = Field(
        900, ge=60, le=86_400, description="Seconds until the external address is asked for again."
    )
    external_ip_sources: Annotated[tuple[AddressSource, ...], Field(strict=False)] = Field(
        sources.DEFAULT, description="Who is asked in turn: dns:NAME[/TYPE[/CLASS]]@SERVER, or a page's URL."
    )
    quality_targets: Annotated[tuple[Target, ...], Field(strict=False, max_length=16)] = Field(
        (), description="Whom latency and loss are measured to: gateway, names, addresses; empty: nobody."
    )


class BackupNeo4j(_Table):
    """Dumps of the Neo4j database."""

    enabled: bool = Field(True, description="Back up the Neo4j database.")
    retention_days: Days = Field(90, description="Days that dumps are kept.")
    compression: Literal["gzip", "zstd", "none"] = Field("gzip", description="How dumps are compressed.")


class BackupConfigs(_Table):
    """Archives of configuration files."""

    enabled: bool = Field(True, description="Back up configuration files.")
    paths: Paths = Field(("/etc", "~/.config", "~/.ssh"), description="Files and directories to back up.")
    retention_days: Days = Field(365, description="Days that archives are kept.")


class BackupVolumes(_Table):
    """Archives of Docker volumes."""

    enabled: bool = Field(True, description="Back up Docker volumes.")
    exclude: Texts = Field((), description="Names of volumes to leave out.")
    retention_days: Days = Field(30, description="Days that archives are kept.")


class BackupS3(_Table):
    """The S3-compatible storage."""

    endpoint: Storage = Field("https://s3.amazonaws.com", description="Address of the storage.")
    bucket: str = Field("", description="Bucket that holds the backups.")
    region: str = Field("us-east-1", description="Region of the bucket.")
    access_key_id: SecretStr = Field(SecretStr(""), description="Key id; empty: AWS_ACCESS_KEY_ID of serve.")
    secret_access_key: SecretStr = Field(
        SecretStr(""), description="Secret key; empty: AWS_SECRET_ACCESS_KEY of serve."
    )


class Backup(_Table):
    """What is backed up, when and where."""

    enabled: bool = Field(False, description="Make backups on schedule.")
    schedule: Schedule = Field("0 2 * * *", description="When, as five cron fields in the host's time.")
    storage_provider: Literal["local", "s3", "rsync", "git"] = Field("s3", description="Where backups go.")
    encryption_enabled: bool = Field(True, description="Encrypt backups before they leave the machine.")
    neo4j: BackupNeo4j = BackupNeo4j()
    configs: BackupConfigs = BackupConfigs()
    docker_volumes: BackupVolumes = BackupVolumes()
    s3: BackupS3 = BackupS3()


class Host(_Table):
    """The machine that is looked at."""

    root: Root = Field("/", description="Where the machine's files are read: / or a mounted host or image.")
    name: str = Field("", max_length=253, description="Name of the machine in answers; empty: its host name.")


class Store(_Table):
    """The database."""

    path: Path = Field(
        "",
        description="State directory, as a full path; empty: ~/.local/state/watchman.",
    )
    size_cap_mb: int = Field(
        2_048, ge=16, le=1_048_576, description="Megabytes; beyond, the oldest samples go first."
    )


class Daemon(_Table):
    """The process that watches."""

    linger_seconds: int = Field(
        300,
        ge=0,
        le=86_400,
        description="Seconds that a daemon started on demand outlives its last client.",
    )
    command_path: SearchPath = Field(
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        description="Directories in which commands of the system are found.",
    )


class Changes(_Table):
    """What may be changed: honoured from a file that nobody else can write, never from variables."""

    allow: Annotated[tuple[Domain, ...], Field(strict=False)] = Field(
        (), description="Domains in which approved plans may be applied; empty: nothing is changed."
    )
    confirm: Literal["person", "client"] = Field(
        "person",
        description="Who approves: a person in a dialog or on a terminal, or the client's own prompt.",
    )


class Retention(_Table):
    """How long things are kept."""

    events_days: Days = Field(365, description="Days that events are kept; those of packages stay for good.")
    journal_days: Days = Field(365, description="Days for which the state at a past time is known.")
    samples_raw_days: Days = Field(7, description="Days that every single measurement is kept.")
    samples_days: Days = Field(400, description="Days that hourly summaries of measurements are kept.")
    tombstones_days: Days = Field(365, description="Days that vanished things are remembered.")


class Packages(_Table):
    """Where packages are looked for."""

    python_paths: Annotated[tuple[OwnPath, ...], Field(strict=False)] = Field(
        (), description="More directories in which Python environments are looked for."
    )


class Neo4j(_Table):
    """The database of the fleet; without uri it is not used."""

    uri: Server = Field("", description="Address, such as neo4j://host:7687; empty: no mirror.")
    user: str = Field("neo4j", description="User that writes.")
    password_file: Path = Field("", description="File that holds the password of the user.")
    password: SecretStr = Field(SecretStr(""), description="The password itself, where there is no file.")
    database: str = Field("neo4j", description="Database within the server.")
    query_user: str = Field(
        "", description="User that may only read, for Cypher of clients; empty: no Cypher."
    )
    query_password_file: Path = Field("", description="File that holds the password of query_user.")
    query_password: SecretStr = Field(
        SecretStr(""), description="The password of query_user itself, where there is no file."
    )


class Settings(_Table):
    """Everything that config.toml may say."""

    features: Features = Features()
    monitoring: Monitoring = Monitoring()
    network: Network = Network()
    alerts: Alerts = Alerts()
    backup: Backup = Backup()
    host: Host = Host()
    store: Store = Store()
    daemon: Daemon = Daemon()
    changes: Changes = Changes()
    retention: Retention = Retention()
    packages: Packages = Packages()
    neo4j: Neo4j = Neo4j()


def load(path: str, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from a file, or the defaults where the path is empty.

    With `environ`, WATCHMAN_SECTION__KEY variables come on top: only who starts the daemon by hand owns them.

    Raises:
        InvalidRequest: the file cannot be read or trusted, or holds mistakes; the message has them all.
    """
    document, problems = config_file.read(path) if path else ({}, [])
    known = dict(config_file.fields(Settings))
    origins: dict[str, str] = {}
    if environ is not None:
        problems += config_file.overlay(document, environ, known, origins)
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        problems += config_file.explain(error, path, known, origins)
    if problems:
        raise InvalidRequest("\n".join(problems))
    return settings


def schema_rows() -> list[tuple[str, str, str, str]]:
    """Every key as (dotted key, type, default as TOML, description), in the order of the model."""
    return [
        (key, config_file.kind(field), config_file.toml(field.default), field.description or "")
        for key, field in config_file.fields(Settings)
    ]
