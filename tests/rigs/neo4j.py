"""A real Neo4j server (Community) from its jars on Maven Central; no container and nothing installed."""

import contextlib
import functools
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from tests.rigs import cache

VERSION = "5.26.30"
JAVAS = range(17, 25)  # its makers support 17 and 21
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>rig</groupId> <artifactId>neo4j</artifactId> <version>1</version> <packaging>pom</packaging>
  <properties> <neo>{VERSION}</neo> </properties>
  <dependencies>
    <dependency>
      <groupId>org.neo4j.app</groupId> <artifactId>neo4j-server</artifactId> <version>${{neo}}</version>
    </dependency>
    <dependency>
      <groupId>org.neo4j</groupId> <artifactId>neo4j</artifactId> <version>${{neo}}</version>
    </dependency>
  </dependencies>
</project>
"""
OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
CONF = {
    # one server for many tests, some of which give a wrong password on purpose
    "dbms.security.auth_max_failed_attempts": "0",
    "dbms.usage_report.enabled": "false",
    "server.http.enabled": "false",
    "server.memory.heap.max_size": "512m",
    "server.memory.pagecache.size": "128m",
    "db.tx_log.preallocate": "false",  # or an empty store is 770 MB
    # a stop waits this long for clients and for threads, 5 s each unless told
    "internal.server.bolt.connection_shutdown_wait_time": "1s",
    "internal.server.bolt.thread_pool_shutdown_wait_time": "1s",
}
# The quick compiler only: a start and a first load cost three fifths of the processor time; what is
# asked for the hundredth time costs twice as much, but tests ask for little so often.
QUICK = "-XX:TieredStopAtLevel=1"
HOW = "apt-get install openjdk-17-jre-headless maven"
# No measure of speed: ten seconds on two idle processors, many times that where others want them too.
READY_SECONDS = 300.0
STOP_SECONDS = 30.0


class ServerError(AssertionError):
    """The server did not start or stop, or was asked for what it cannot do now; the message says which."""


class Server:
    """One server with a home and a port of its own; it can be stopped or killed, and started again."""

    user = "neo4j"

    def __init__(self, directory: Path, conf: Mapping[str, str] | None = None, *, quick: bool = True) -> None:
        """`quick` starts sooner and is slower after a while: leave it out where speed is measured."""
        self.quick = quick
        self.home = directory
        self.conf = {**CONF, **(conf or {})}
        self.port = _free_port()
        self.password = secrets.token_hex(12)
        self.log = directory / "logs/console.log"
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("conf", "data", "import", "logs", "plugins", "run"):
            (directory / name).mkdir(parents=True)
        set_password = ("org.neo4j.cli.AdminTool", "dbms", "set-initial-password", self.password)
        if self._java(*set_password).wait(READY_SECONDS) != 0:
            raise ServerError(f"Neo4j took no password\n{self._printed()}")

    @property
    def uri(self) -> str:
        """Where Bolt answers; the same after every start."""
        return f"bolt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process, None while it is stopped."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def driver(self, **options: Any) -> neo4j.Driver:
        """A driver that is signed in; the caller closes it."""
        given = {"notifications_min_severity": "OFF", **options}
        return neo4j.GraphDatabase.driver(self.uri, auth=(self.user, self.password), **given)

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises: ServerError where it ends or does not answer in time; the message ends with its log.
        """
        if self.pid:
            raise ServerError("the server runs already")
        lines = self.conf | {"server.bolt.listen_address": f"127.0.0.1:{self.port}"}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.home / "conf/neo4j.conf").write_text(text)
        home, conf = f"--home-dir={self.home}", f"--config-dir={self.home / 'conf'}"
        self._process = self._java("org.neo4j.server.CommunityEntryPoint", home, conf)
        try:
            self._wait_until_ready(self._process, time.monotonic() + READY_SECONDS)
        except ServerError as e:
            self.kill()
            raise ServerError(f"{e}\n{self._printed()}") from e

    def stop(self) -> None:
        """End it as an administrator does and wait until it is gone.

        Raises: ServerError where it does not end in time.
        """
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does: it writes nothing more."""
        self._end(signal.SIGKILL)

    def copy_data(self, to: Path) -> None:
        """Copy what it stores into a new directory, while it is stopped."""
        self._need_stopped()
        shutil.copytree(self.home / "data", to)

    def put_data(self, from_: Path) -> None:
        """Replace what it stores by an earlier copy of the same server's, while it is stopped."""
        self._need_stopped()
        shutil.rmtree(self.home / "data")
        shutil.copytree(from_, self.home / "data")

    def _java(self, *words: str) -> subprocess.Popen[bytes]:
        opens = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        # setpriv: a test run that is killed takes its server with it
        command = ["setpriv", "--pdeathsig", "KILL", str(java_home() / "bin/java"), *opens]
        command += [QUICK] if self.quick else []
        heap = f"-Xmx{self.conf['server.memory.heap.max_size']}"
        env = os.environ | {"NEO4J_HOME": str(self.home), "NEO4J_CONF": str(self.home / "conf")}
        command += [heap, "-cp", f"{jars()}/*", *words]
        with self.log.open("ab") as log:

            def start() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )

            return _starter().submit(start).result()

    def _printed(self) -> str:
        """The ends of all that it says: where it fails early the console, later its logs."""
        logs = [self.log, self.log.with_name("neo4j.log"), self.log.with_name("debug.log")]
        texts = {log.name: log.read_text(errors="backslashreplace") for log in logs if log.exists()}
        return "\n".join(f"{name}: {text[-3000:]}" for name, text in texts.items())

    def _wait_until_ready(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        last: Exception | None = None
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(f"Neo4j ended with {process.returncode} while it started")
            try:
                with self.driver(connection_timeout=5, max_transaction_retry_time=0) as driver:
                    driver.execute_query("RETURN 1")
            except (DriverError, Neo4jError) as e:
                last = e
            else:
                return
            time.sleep(0.05)
        raise ServerError(f"Neo4j did not answer within {READY_SECONDS:g} s: {last}")

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as e:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            raise ServerError(f"Neo4j did not end within {STOP_SECONDS:g} s of {number.name}") from e

    def _need_stopped(self) -> None:
        if self.pid:
            raise ServerError("its files change while it runs: stop or kill the server first")


@functools.cache
def _starter() -> ThreadPoolExecutor:
    """One thread that lives as long as the test run: a death signal comes when the starting thread ends."""
    return ThreadPoolExecutor(1, thread_name_prefix="neo4j-starter")


def _free_port() -> int:
    # Below the ports that the kernel hands to clients: one that retries while the server is down could be
    # given the server's own port, and would then be connected to itself.
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as taken, contextlib.suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port
    raise ServerError("no free port was found")


@functools.cache
def java_home() -> Path:
    """The oldest Java here that Neo4j runs on."""
    program = shutil.which("java")
    places = [*Path("/usr/lib/jvm").glob("*"), *([Path(program).resolve().parents[1]] if program else [])]
    found = {_java_version(place): place for place in sorted(places)}
    fitting = [version for version in found if version in JAVAS]
    if not fitting:
        cache.missing(f"Neo4j (a Java of {JAVAS[0]} to {JAVAS[-1]})", HOW)
    return found[min(fitting)]


def _java_version(home: Path) -> int:
    """The first number of its version, 0 where there is no such Java."""
    with contextlib.suppress(OSError):
        text = (home / "release").read_text()
        said = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
        if said and (home / "bin/java").exists():
            return int(said[1])
    return 0


def jars() -> Path:
    """The directory of the server's jars, fetched by Maven (a minute, 125 MB) when no run did yet."""
    java_home()
    cache.need_programs("Neo4j", "mvn", "setpriv", how=HOW)
    return cache.once("neo4j", f"{COPY} {POM}", _fetch)


def _fetch(into: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "pom.xml").write_text(POM)
        done = subprocess.run(
            ["mvn", "--quiet", "--batch-mode", COPY, f"-DoutputDirectory={into}"],
            env=os.environ | {"JAVA_HOME": str(java_home())}, cwd=scratch,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600,
        )  # fmt: skip
    if done.returncode != 0:
        raise ServerError(f"mvn ended with {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")


@contextlib.contextmanager
def serving(conf: Mapping[str, str] | None = None, *, quick: bool = True) -> Iterator[Server]:
    """A started server of one's own, to kill and restart; what it stores ends with it."""
    with tempfile.TemporaryDirectory(prefix="neo4j-") as directory:
        server = Server(Path(directory), conf, quick=quick)
        try:
            server.start()
            yield server
        finally:
            server.kill()


def wipe(server: Server) -> None:
    """Take out all nodes, constraints and indexes, so that the next test finds an empty graph."""
    with server.driver() as driver, driver.session() as session:
        # relationships first: one node may have more of them than a transaction can delete
        session.run("MATCH ()-[r]->() CALL (r) { DELETE r } IN TRANSACTIONS OF 10000 ROWS").consume()
        session.run("MATCH (n) CALL (n) { DELETE n } IN TRANSACTIONS OF 10000 ROWS").consume()
        for name in session.run("SHOW CONSTRAINTS YIELD name").value():
            session.run(f"DROP CONSTRAINT `{name}`").consume()
        # the two that Neo4j makes for every graph stay
        for name in session.run("SHOW INDEXES YIELD name, type WHERE type <> 'LOOKUP' RETURN name").value():
            session.run(f"DROP INDEX `{name}`").consume()
