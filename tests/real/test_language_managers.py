"""The managers of languages, run for real: what is read is what they list, versions sort as with them."""

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.collectors.test_cases import look_at
from tests.rigs.cache import missing, need_programs
from tests.rigs.languages import Home, crate, from_npm, gem_file, go_proxy, node_package
from tests.story import serving
from watchman_mcp.collectors import load
from watchman_mcp.machine.versions import gem, go, semver
from watchman_mcp.schema import Edge
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.real, pytest.mark.anyio]
PAIRS = 50_000
GO_CACHE = os.environ.get("GOCACHE", str(Path.home() / ".cache/go-build"))
"""What Go built before is not built again for each test."""
Rule = Callable[[str, str], int]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.path.mkdir()
    return made


class Watch:
    """A collector that looks at the home when asked, and what it told since."""

    def __init__(self, store: Store, scan: Callable[[list[str]], Any], name: str) -> None:
        self._store, self._scan, self._name, self._known = store, scan, name, 0

    async def news(self) -> list[tuple[str, str, str | None, str]]:
        """The events since the last question."""
        with anyio.fail_after(30):
            await self._scan([self._name])
        rows = self._store.read(
            "SELECT type, package_name, previous, version FROM Event ORDER BY seq LIMIT -1 OFFSET ?",
            (self._known,),
        )
        self._known += len(rows)
        return [(row["type"], row["package_name"], row["previous"], row["version"]) for row in rows]


@pytest.fixture
async def watch(home: Home) -> AsyncIterator[Callable[[str], Any]]:
    """Begins to watch the home with one collector: its first look is the baseline."""
    store = Store(None)
    async with serving(
        store, home.root, *[one for one in load() if one.name in ("npm", "cargo", "gem", "go")]
    ) as server:

        async def begin(name: str) -> Watch:
            watching = Watch(store, server.runner.scan, name)
            await watching.news()
            return watching

        yield begin
    store.close()


def seen(home: Home, name: str) -> list[Software]:
    (collector,) = (one for one in load() if one.name == name)
    return [one for one in collector.collect(look_at(home.root, name)) if isinstance(one, Software)]


def edges(home: Home, name: str) -> set[tuple[str, str]]:
    (collector,) = (one for one in load() if one.name == name)
    found = list(collector.collect(look_at(home.root, name)))
    names = {one.node_id: f"{one.key} {one.version}" for one in found if isinstance(one, Software)}
    return {(names[one.start], names[one.end]) for one in found if isinstance(one, Edge)}


async def test_global_packages_of_npm_are_those_that_npm_lists(home: Home, watch: Any) -> None:
    prefix = home.path / ".npm-global"
    tool = {version: node_package(home, "rig-tool", version) for version in ("1.0.0", "1.10.0", "1.9.0")}
    scoped = node_package(home, "@rig/scoped", "2.0.0-rc.1", peerDependencies={"rig-tool": "*"})

    def npm(*words: str | Path) -> str:
        return home.run(
            "npm",
            *words,
            "--global",
            "--offline",
            "--legacy-peer-deps",
            "--no-audit",
            "--silent",
            NPM_CONFIG_PREFIX=prefix,
        )

    def listed() -> dict[str, str]:
        return {
            name: one["version"]
            for name, one in json.loads(npm("ls", "--json")).get("dependencies", {}).items()
        }

    npm("install", scoped)
    watching = await watch("npm")
    steps = [
        (("install", tool["1.9.0"]), ("package_install", "rig-tool", None, "1.9.0")),
        (("install", tool["1.10.0"]), ("package_update", "rig-tool", "1.9.0", "1.10.0")),
        (("install", tool["1.0.0"]), ("package_downgrade", "rig-tool", "1.10.0", "1.0.0")),
        (("uninstall", "rig-tool"), ("package_remove", "rig-tool", None, "1.0.0")),
    ]
    for words, event in steps:
        npm(*words)
        assert await watching.news() == [event]
        assert {one.key: one.version for one in seen(home, "npm")} == listed()

    npm("install", tool["1.0.0"])
    assert edges(home, "npm") == {("@rig/scoped 2.0.0-rc.1", "rig-tool 1.0.0")}
    home.run("npm", "link", "--offline", "--silent", cwd=tool["1.9.0"].parent, NPM_CONFIG_PREFIX=prefix)
    linked = {one.key: one.version for one in seen(home, "npm") if one.state == "linked"}
    assert linked == {"rig-tool": "1.9.0"}
    assert {one.key: one.version for one in seen(home, "npm")} == listed()


async def test_global_packages_of_pnpm_are_those_that_pnpm_lists(home: Home, watch: Any) -> None:
    programs, place = from_npm(home, "pnpm", "10"), home.path / ".local/share/pnpm"
    place.mkdir(parents=True)

    def pnpm(*words: str) -> str:
        path = f"{place}:{place}/bin:{programs}:{os.environ['PATH']}"
        return home.run("pnpm", *words, "--global", PNPM_HOME=place, PATH=path)

    def listed() -> dict[str, str]:
        found: dict[str, str] = {}
        for project in json.loads(pnpm("ls", "--json")):
            found |= {name: one["version"] for name, one in project.get("dependencies", {}).items()}
        return found

    pnpm("add", "is-odd@3.0.1", "@sindresorhus/is@6.3.1")
    watching = await watch("npm")
    for words, event in [
        (("add", "is-odd@3.0.0"), ("package_downgrade", "is-odd", "3.0.1", "3.0.0")),
        (("add", "is-number@7.0.0"), ("package_install", "is-number", None, "7.0.0")),
        (("remove", "@sindresorhus/is"), ("package_remove", "@sindresorhus/is", None, "6.3.1")),
    ]:
        pnpm(*words)
        assert await watching.news() == [event]
        assert {one.key: one.version for one in seen(home, "npm") if one.manager == "pnpm"} == listed()


async def test_global_packages_of_yarn_are_those_that_it_was_asked_for(home: Home, watch: Any) -> None:
    programs, place = from_npm(home, "yarn", "1"), home.path / ".config/yarn/global"

    def yarn(*words: str) -> str:
        path = f"{programs}:{os.environ['PATH']}"
        return home.run(
            "yarn",
            "global",
            *words,
            "--global-folder",
            str(place),
            "--prefix",
            str(home.path / "yarn"),
            PATH=path,
        )

    yarn("add", "is-even@1.0.0")
    watching = await watch("npm")
    yarn("add", "semver@7.6.0")
    assert await watching.news() == [("package_install", "semver", None, "7.6.0")]
    yarn("add", "semver@7.5.0")
    assert await watching.news() == [("package_downgrade", "semver", "7.6.0", "7.5.0")]

    listed = re.findall(r'info "(\S+)@(\S+)" has binaries', yarn("list"))  # it lists those with programs only
    found = {one.key: one.version for one in seen(home, "npm") if one.manager == "yarn"}
    assert dict(listed) == {"semver": "7.5.0"}
    assert found == {"is-even": "1.0.0", "semver": "7.5.0"}
    yarn("remove", "semver")
    assert await watching.news() == [("package_remove", "semver", None, "7.5.0")]


async def test_installed_crates_are_those_that_cargo_lists(home: Home, watch: Any) -> None:
    crates = {version: crate(home, "rig-crate", version) for version in ("0.1.0", "0.10.0", "0.9.0-rc.1")}
    other = crate(home, "rig-other", "1.0.0")
    rustup = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))

    def cargo(*words: str | Path) -> str:
        return home.run("cargo", *words, RUSTUP_HOME=rustup, CARGO_HOME=home.path / ".cargo")

    def listed() -> dict[str, str]:
        return dict(re.findall(r"^(\S+) v(\S+)", cargo("install", "--list"), re.MULTILINE))

    cargo("install", "--offline", "--quiet", "--path", other)
    watching = await watch("cargo")
    for version, event in [
        ("0.9.0-rc.1", ("package_install", "rig-crate", None, "0.9.0-rc.1")),
        ("0.10.0", ("package_update", "rig-crate", "0.9.0-rc.1", "0.10.0")),
        ("0.1.0", ("package_downgrade", "rig-crate", "0.10.0", "0.1.0")),
    ]:
        cargo("install", "--offline", "--quiet", "--force", "--path", crates[version])
        assert await watching.news() == [event]
        assert {one.key: one.version for one in seen(home, "cargo")} == listed()
    cargo("uninstall", "--quiet", "rig-crate")
    cargo("uninstall", "--quiet", "rig-other")
    assert sorted(await watching.news()) == [
        ("package_remove", "rig-crate", None, "0.1.0"),
        ("package_remove", "rig-other", None, "1.0.0"),
    ]


async def test_installed_gems_are_those_that_rubygems_lists(home: Home, watch: Any) -> None:
    place = home.path / ".gem/ruby/3.1.0"
    gems = {version: gem_file(home, "rig-gem", version) for version in ("1.9.0", "1.10.0", "2.0.0.pre1")}
    needing = gem_file(home, "rig-needs", "1.0", "rig-gem")
    native = gem_file(home, "rig-native", "3.0", platform="x86_64-linux")

    def run(*words: str | Path) -> str:
        return home.run("gem", *words, GEM_HOME=place, GEM_PATH=place)

    def listed() -> set[tuple[str, str]]:
        found = re.findall(r"^(\S+) \((.*)\)$", run("list", "--local", "--no-verbose"), re.MULTILINE)
        pairs = {(name, word.split(" ")[0]) for name, words in found for word in words.split(", ")}
        # The gems that came with Ruby lie elsewhere.
        return {(name, version) for name, version in pairs if name.startswith("rig-")}

    def install(*files: Path) -> None:
        run("install", "--local", "--no-document", "--force", *files)

    install(gems["1.9.0"], native)
    watching = await watch("gem")
    install(gems["1.10.0"])
    assert await watching.news() == [("package_install", "rig-gem", None, "1.10.0")]
    install(gems["2.0.0.pre1"], needing)
    assert len(await watching.news()) == 2
    assert {(one.key, one.version) for one in seen(home, "gem")} == listed()
    assert edges(home, "gem") == {("rig-needs 1.0", "rig-gem 2.0.0.pre1")}
    run("uninstall", "--force", "rig-gem", "--version", "1.9.0")
    assert await watching.news() == [("package_remove", "rig-gem", None, "1.9.0")]
    assert {(one.key, one.version) for one in seen(home, "gem")} == listed()
    assert {one.summary for one in seen(home, "gem")} == {'made for a "test"'}


async def test_installed_go_programs_say_what_go_reads_in_them(home: Home, watch: Any) -> None:
    proxy = go_proxy(home, "example.org/rig", ["v1.0.0", "v1.9.0", "v1.10.0"])
    cache = {"GOCACHE": GO_CACHE, "GOPATH": home.path / "go"}

    def run(*words: str | Path) -> str:
        return home.run("go", *words, **proxy, **cache)

    run("install", "example.org/rig/cmd/tool@v1.9.0")
    watching = await watch("go")
    for version, event in [
        ("v1.10.0", ("package_update", "example.org/rig/cmd/tool", "v1.9.0", "v1.10.0")),
        ("v1.0.0", ("package_downgrade", "example.org/rig/cmd/tool", "v1.10.0", "v1.0.0")),
    ]:
        run("install", f"example.org/rig/cmd/tool@{version}")
        assert await watching.news() == [event]
    program = home.path / "go/bin/tool"
    told = run("version", "-m", program)
    (found,) = seen(home, "go")
    assert f"\tpath\t{found.key}\n" in told
    assert f"\tmod\t{found.source_package}\t{found.version}\t" in told
    assert f"\tbuild\tGOARCH={found.architecture}\n" in told
    program.unlink()
    assert await watching.news() == [("package_remove", "example.org/rig/cmd/tool", None, "v1.0.0")]


class Versions:
    """Makes versions of one kind, and pairs of versions that are alike."""

    NUMBERS = ("0", "1", "2", "9", "10", "11", "100", "2024010112")
    WORDS = ("a", "b", "alpha", "beta", "rc", "pre", "dev", "x", "A", "RC", "0a", "a0", "1a1", "rc1", "a-b")

    def __init__(self, kind: str) -> None:
        self.chance, self._make = random.Random(f"versions of {kind}"), getattr(self, f"_{kind}")

    def pairs(self) -> list[tuple[str, str]]:
        made: list[tuple[str, str]] = []
        while len(made) < PAIRS:
            one = self._make()
            made.append((one, self._make() if self.chance.random() < 0.4 else self._near(one)))
        return made

    def _near(self, version: str) -> str:
        at = self.chance.randrange(len(version))
        letter = self.chance.choice("019.ab-+")
        kinds = [version, version[:at] + letter + version[at + 1 :], version[:at] + version[at + 1 :]]
        return self.chance.choice([*kinds, version + self.chance.choice([".0", "-0", ".a"])])

    def _part(self) -> str:
        return self.chance.choice(self.chance.choice([self.NUMBERS, self.WORDS]))

    def _semver(self) -> str:
        version = ".".join(self.chance.choice(self.NUMBERS) for _ in range(3))
        if self.chance.random() < 0.5:
            version += "-" + ".".join(self._part() for _ in range(self.chance.randrange(1, 4)))
        if self.chance.random() < 0.2:
            version += "+" + ".".join(self._part() for _ in range(self.chance.randrange(1, 3)))
        return self.chance.choice(["", "", "v"]) + version

    def _gem(self) -> str:
        more = (
            self.chance.choice([".", ".", "-", ""]) + self._part() for _ in range(self.chance.randrange(5))
        )
        return self.chance.choice(self.NUMBERS) + "".join(more)

    def _go(self) -> str:
        major, minor = (
            self.chance.choice([1, 1, 1, 2]),
            self.chance.choice(["", "0", "9", "18", "20", "21", "22"]),
        )
        patch = self.chance.choice(["", "", ".0", ".1", ".10", "rc1", "rc2", "beta1", "rc10"])
        return f"go{major}" + (f".{minor}{patch}" if minor else "")


def ours(rule: Rule, pairs: list[tuple[str, str]]) -> list[int | None]:
    def order(one: str, other: str) -> int | None:
        try:
            return rule(one, other)
        except ValueError:
            return None

    return [order(*pair) for pair in pairs]


def theirs(
    home: Home, pairs: list[tuple[str, str]], *words: str | Path, **variables: str | Path
) -> list[int | None]:
    (home.path / "pairs.json").write_text(json.dumps(pairs))
    found: list[int | None] = json.loads(home.run(*words, **variables))
    return found


def agree(pairs: list[tuple[str, str]], mine: list[int | None], told: list[int | None]) -> None:
    assert [row for row in zip(pairs, mine, told, strict=True) if row[1] != row[2]] == []
    assert all(told.count(order) > PAIRS / 100 for order in (-1, 0, 1))


def test_semantic_versions_sort_as_npm_sorts_them(home: Home) -> None:
    need_programs("npm", "npm", "node", how="apt-get install npm")
    own = Path(str(shutil.which("npm"))).resolve().parents[1] / "node_modules/semver"
    places = [own, Path("/usr/share/nodejs/semver"), Path("/usr/share/npm/node_modules/semver")]
    library = next((place for place in places if place.is_dir()), None)
    if library is None:
        missing("npm's own semver", "install npm as its makers do")
    program = f"""const semver = require({json.dumps(str(library))});
        const pairs = JSON.parse(require("fs").readFileSync("pairs.json"));
        const order = ([a, b]) => {{ try {{ return semver.compare(a, b) }} catch (e) {{ return null }} }};
        console.log(JSON.stringify(pairs.map(order)))"""
    pairs = [pair for pair in Versions("semver").pairs() if not re.search(r"\d{16}", "".join(pair))]

    agree(pairs, ours(semver.compare, pairs), theirs(home, pairs, "node", "-e", program))


def test_versions_of_gems_sort_as_rubygems_sorts_them(home: Home) -> None:
    need_programs("RubyGems", "ruby", how="apt-get install ruby")
    program = """puts JSON.generate(JSON.parse(File.read("pairs.json")).map { |a, b|
        begin; Gem::Version.new(a) <=> Gem::Version.new(b); rescue ArgumentError; nil; end })"""
    pairs = Versions("gem").pairs()

    agree(pairs, ours(gem.compare, pairs), theirs(home, pairs, "ruby", "-rjson", "-e", program))


def test_versions_of_go_itself_sort_as_go_sorts_them(home: Home) -> None:
    need_programs("Go", "go", how="install Go, such as apt-get install golang")
    if not (Path(home.run("go", "env", "GOROOT").strip()) / "src/go/version").is_dir():
        pytest.skip("Go before 1.22 does not tell how its own versions are sorted")
    (home.path / "main.go").write_text("""package main
import ("encoding/json"; "fmt"; "go/version"; "os")
func main() {
    text, _ := os.ReadFile("pairs.json")
    var pairs [][2]string
    json.Unmarshal(text, &pairs)
    found := []any{}
    for _, pair := range pairs {
        if version.IsValid(pair[0]) && version.IsValid(pair[1]) {
            found = append(found, version.Compare(pair[0], pair[1]))
        } else {
            found = append(found, nil)
        }
    }
    out, _ := json.Marshal(found)
    fmt.Println(string(out))
}
""")
    chance = Versions("go")
    pairs = [(chance._go(), chance._go()) for _ in range(PAIRS)]
    try:
        told = theirs(home, pairs, "go", "run", "main.go", GOTOOLCHAIN="local", GOFLAGS="", GOCACHE=GO_CACHE)
    except subprocess.TimeoutExpired:
        missing("a Go that builds within two minutes", "run it on a quieter machine")

    agree(pairs, ours(go.compare, pairs), told)
