"""Newer versions of a real pip, whose pages of an index on the spot are read where it keeps them."""

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at
from tests.rigs.cache import missing
from tests.rigs.languages import Home, wheel_file
from watchman_mcp.collectors import python
from watchman_mcp.schema.packages import PackageIndex, Software

pytestmark = pytest.mark.real


class _Index(BaseHTTPRequestHandler):
    """Answers as PyPI does: JSON, packed, with a mark by which it tells that a page is the same."""

    def do_GET(self) -> None:
        kind, name, *_ = [*self.path.strip("/").split("/")[-2:], ""]
        place: Path = self.server.place  # type: ignore[attr-defined] # of this test's server
        if kind == "files":
            self._send((place / name).read_bytes(), "application/octet-stream")
            return
        files = sorted(one.name for one in place.glob(f"{name.replace('-', '_')}-*.whl"))
        listed = [{"filename": one, "url": f"../../files/{one}", "hashes": {}} for one in files]
        page = json.dumps({"meta": {"api-version": "1.0"}, "name": name, "files": listed}).encode()
        tag = f'"{len(page)}"'
        if self.headers["If-None-Match"] == tag:
            self._send(b"", "", 304, ETag=tag)
        elif not files:
            self._send(b"", "text/plain", 404)
        else:
            packed = {"ETag": tag, "Content-Encoding": "gzip", "Cache-Control": "max-age=0, public"}
            self._send(gzip.compress(page), "application/vnd.pypi.simple.v1+json", **packed)

    def _send(self, content: bytes, kind: str, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "made").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Index)
    server.place = tmp_path / "made"  # type: ignore[attr-defined] # of this test's server
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_newer_versions_are_those_that_pip_lists_as_outdated(tmp_path: Path, index: str) -> None:
    home = Home(tmp_path)
    home.path.mkdir()
    prefix = tmp_path / "srv/app/.venv"
    home.run(sys.executable, "-m", "venv", prefix)
    pip = (prefix / "bin/python", "-m", "pip", "--disable-pip-version-check")
    try:  # the pip that a venv brings may be older than the pages
        home.run(*pip, "install", "--quiet", "--upgrade", "pip", cwd=tmp_path)
    except AssertionError:
        missing("pip 23.3 or newer", "pip must reach its index")
    (home.path / ".config/pip").mkdir(parents=True)
    configuration = f"[global]\nindex-url = {index}\ntrusted-host = 127.0.0.1\n"
    (home.path / ".config/pip/pip.conf").write_text(configuration)
    for name, version in [("rig_old", "1.9"), ("rig_old", "1.10"), ("rig_new", "2.0"), ("rig_gone", "1.0")]:
        wheel_file(home, name, version)
    home.run(*pip, "install", "--quiet", "rig_old==1.9", "rig_new", "rig_gone")
    wheel_file(home, "rig_new", "2.1rc1")
    wheel_file(home, "rig_old", "1.11")
    (tmp_path / "made/rig_gone-1.0-py3-none-any.whl").unlink()
    outdated = json.loads(home.run(*pip, "list", "--outdated", "--format=json"))

    first = look_at(tmp_path, "python")
    list(python.collect(first))
    look = look_at(tmp_path, "python", marks=first.marks)
    seen = list(python.collect(look))

    expected = {one["name"].replace("_", "-"): one["latest_version"] for one in outdated}
    found = {one.key: one.available for one in seen if isinstance(one, Software) and one.available}
    assert found == expected == {"rig-old": "1.11"}
    (kept,) = (one for one in seen if isinstance(one, PackageIndex))
    assert (kept.manager, kept.location) == ("pip", "/srv/app/.venv")
    assert [one.what for one in look.unobserved] == ["python:updates"]  # of pip itself there is no page
