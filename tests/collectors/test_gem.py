"""Specifications of gems that case files cannot lay out: requirements, hostile Ruby."""

import time

import pytest

from watchman_mcp.machine.gems import admits, gem_of, read_specification


@pytest.mark.parametrize(
    ("version", "wishes", "admitted"),
    [
        ("2.3.0", ("~> 2.1",), True),
        ("3.0.0", ("~> 2.1",), False),
        ("2.1.9", ("~> 2.1.3",), True),
        ("2.2.0", ("~> 2.1.3",), False),
        ("2.2.0.rc1", ("~> 2.1.3",), False),
        ("2.2.0.rc1", ("~> 2.2.0.rc1",), True),
        ("4.9", ("~> 4",), True),
        ("5.0", ("~> 4",), False),
        ("1.0", (">= 1", "< 2", "!= 1.5"), True),
        ("1.5", (">= 1", "< 2", "!= 1.5"), False),
        ("1.0", ("= 1",), True),
        ("1.0", ("1.0.0",), True),
        ("1.0", (), True),
        ("1.0", ("no version",), False),
        ("1.0", (">=",), False),
    ],
)
def test_a_version_is_admitted_as_rubygems_does(
    version: str, wishes: tuple[str, ...], admitted: bool
) -> None:
    assert admits(wishes, version) is admitted


@pytest.mark.parametrize(
    ("name", "gem"),
    [
        ("rack-2.2.9.gemspec", ("rack", "2.2.9", "ruby")),
        ("net-http-persistent-4.0.2.gemspec", ("net-http-persistent", "4.0.2", "ruby")),
        ("nokogiri-1.16.0-x86_64-linux.gemspec", ("nokogiri", "1.16.0", "x86_64-linux")),
        ("ox-2.0.0.pre1-java.gemspec", ("ox", "2.0.0.pre1", "java")),
        ("sqlite3-2.0.0.gemspec", ("sqlite3", "2.0.0", "ruby")),
        ("nothing.gemspec", None),
    ],
)
def test_the_name_of_a_specification_tells_its_gem(name: str, gem: tuple[str, str, str] | None) -> None:
    assert gem_of(name) == gem


@pytest.mark.parametrize(("begin", "end"), [("%q{", "}"), ('"', '"')])
def test_a_number_in_the_name_of_a_gem_is_not_its_version_in_a_specification_of_old(
    begin: str, end: str
) -> None:
    fields = (("name", "tidy-2-html"), ("version", "0.4"))
    lines = [f"  s.{name} = {begin}{value}{end}" for name, value in fields]
    text = "\n".join(["Gem::Specification.new do |s|", *lines, "end\n"])

    gem = read_specification(text, "tidy-2-html-0.4-x86-mswin32.gemspec")

    assert (gem.name, gem.version, gem.platform) == ("tidy-2-html", "0.4", "x86-mswin32")


def test_a_specification_of_a_megabyte_takes_no_longer_than_its_size() -> None:
    needs = "  s.add_dependency(%q<a>.freeze, [" * 30_000
    summary = '  s.summary = "' + "\\u{" * 100_000
    begun = time.process_time()

    read_specification(f"# stub: a 1 ruby lib\n{needs}\n{summary}", "a-1.gemspec")
    read_specification("# stub: a 1 ruby lib\n" + " \n" * 100_000, "a-1.gemspec")

    assert time.process_time() - begun < 5
