"""Files that simulators need besides their packages: downloaded with resumption, written by a script, or named."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from videopolicy.contracts.benchmark import AssetPack, Assets, WorkerSpec
from videopolicy.errors import SimulationError
from videopolicy.simulators import environments
from videopolicy.simulators.assets import assets_folder


def packed(**files: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for name, text in files.items():
            written.writestr(name, text)
    return archive.getvalue()


class Publisher:
    """Serves archives by range; ``breaks`` is how many answers end after half of what they promise."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.breaks, self.knows_ranges = 0, True
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                publisher.asked.append((self.path, wanted))
                content = publisher.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                begin = int(wanted[6:].rstrip("-")) if wanted and publisher.knows_ranges else 0
                if begin >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                rest = content[begin:]
                publisher.breaks -= 1
                self.wfile.write(rest if publisher.breaks < 0 else rest[: len(rest) // 2])

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def publisher():
    there = Publisher()
    yield there
    there.server.shutdown()
    there.server.server_close()


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.delenv("VPOLICY_THING_ASSETS", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def spec(publisher, tmp_path):
    publisher.files = {"/walls.zip": packed(**{"walls/red.png": "r" * 5000}), "/chairs.zip": packed(chair="c")}
    script = tmp_path / "written.py"
    script.write_text("import sys\nopen(sys.argv[1] + '/stand-in', 'w').write('flat')\n")
    digest = hashlib.sha256(publisher.files["/chairs.zip"]).hexdigest()
    packs = (
        AssetPack(name="walls", url=f"{publisher.url}/walls.zip"),
        AssetPack(name="chairs", url=f"{publisher.url}/chairs.zip", folder="things", sha256=digest),
    )
    assets = Assets(name="official", packs=packs, size="about 5 kB", stand_in=Assets(name="stand-in", script=script))
    return WorkerSpec(environment="thing", module=tmp_path / "x.py", simulator="X", assets=assets)


def test_packs_are_downloaded_on_request_alone_and_the_worker_is_given_their_folder(
    spec, publisher, tmp_path, monkeypatch
):
    home, said = tmp_path / "home", []
    with pytest.raises(SimulationError, match=r"packs are not here: walls, chairs \(about 5 kB together\)") as caught:
        environments.to_be_made(spec, home)
    assert "vpolicy env assets" in caught.value.hint and "VPOLICY_THING_ASSETS" in caught.value.hint
    environments.interpreter(spec, home)
    assert publisher.asked == [] and not environments.is_ready(spec, home)
    folder = environments.fetch_assets(spec, home, said.append)
    assert (folder / "walls" / "red.png").read_text() == "r" * 5000 and (folder / "things" / "chair").is_file()
    assert len(said) == len(publisher.asked) == 2 and not list(folder.rglob("*.zip"))
    assert environments.fetch_assets(spec, home) == folder and len(publisher.asked) == 2
    assert environments.is_ready(spec, home) and environments.to_be_made(spec, home) == ""
    monkeypatch.setenv("VPOLICY_HOME", str(home))
    assert environments.worker_variables(spec, tmp_path)["VPOLICY_THING_ASSETS"] == str(folder)


def test_a_download_that_breaks_off_goes_on_where_it_was(spec, publisher, tmp_path):
    publisher.breaks = 3
    with pytest.raises(SimulationError, match=r"'walls' could not be downloaded from .*: the connection ended early"):
        environments.fetch_assets(spec, tmp_path)
    half = len(publisher.files["/walls.zip"]) // 2
    assert publisher.asked[:2] == [("/walls.zip", None), ("/walls.zip", f"bytes={half}-")]
    folder = environments.fetch_assets(spec, tmp_path)
    assert publisher.asked[3][1] is not None and (folder / "walls" / "red.png").stat().st_size == 5000
    assert [path for path, _ in publisher.asked[4:]] == ["/chairs.zip"]


def test_a_server_without_ranges_sends_all_of_it_again(spec, publisher, tmp_path):
    publisher.breaks, publisher.knows_ranges = 1, False
    folder = environments.fetch_assets(spec, tmp_path)
    assert (folder / "walls" / "red.png").stat().st_size == 5000


def test_what_is_no_archive_or_another_one_is_deleted_and_said(spec, publisher, tmp_path):
    whole = publisher.files["/walls.zip"]
    publisher.files["/walls.zip"] = b"<html>please log in</html>"
    with pytest.raises(SimulationError, match=r"is not the pack 'walls': it is no zip archive. It was deleted"):
        environments.fetch_assets(spec, tmp_path)
    publisher.files |= {"/walls.zip": whole, "/chairs.zip": packed(chair="another")}
    with pytest.raises(SimulationError, match="is not the pack 'chairs': its SHA-256 is"):
        environments.fetch_assets(spec, tmp_path)
    del publisher.files["/chairs.zip"]
    with pytest.raises(SimulationError, match=r"'chairs' could not be downloaded from .*: 404 Not Found"):
        environments.fetch_assets(spec, tmp_path)
    with pytest.raises(SimulationError, match="packs are not here: chairs "):
        environments.to_be_made(spec, tmp_path)


def test_what_a_script_writes_is_made_on_first_use(spec, publisher, tmp_path):
    instead, home, said = spec.model_copy(update={"assets": spec.assets.stand_in}), tmp_path / "home", []
    assert environments.to_be_made(instead, home) == "The stand-in assets of 'thing' have to be written."
    assert not environments.is_ready(instead, home)
    environments.interpreter(instead, home, said.append)
    folder = assets_folder(instead, home)
    assert (folder / "stand-in").read_text() == "flat" and len(said) == 1
    assert folder != assets_folder(spec, home) and environments.is_ready(instead, home) and publisher.asked == []
    instead.assets.script.write_text("print('no room for a wall')\nraise SystemExit(1)\n")
    assert assets_folder(instead, home) != folder
    with pytest.raises(SimulationError, match=r"could not be written by .*\n  \| no room for a wall"):
        environments.interpreter(instead, home)


def test_a_folder_that_the_user_has_is_used_as_it_is(spec, publisher, tmp_path, monkeypatch):
    monkeypatch.setenv("VPOLICY_THING_ASSETS", str(tmp_path / "mine"))
    with pytest.raises(SimulationError, match=r"VPOLICY_THING_ASSETS is .*mine, which does not exist"):
        environments.to_be_made(spec, tmp_path / "home")
    (tmp_path / "mine").mkdir()
    assert environments.fetch_assets(spec, tmp_path / "home") == tmp_path / "mine"
    assert environments.is_ready(spec, tmp_path / "home") and publisher.asked == []
    plain = spec.model_copy(update={"assets": None})
    with pytest.raises(SimulationError, match="needs no assets"):
        environments.fetch_assets(plain, tmp_path / "home")
