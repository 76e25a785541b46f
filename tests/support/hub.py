"""A stand-in of the Hugging Face Hub: a small HTTP server that speaks to the Hub's own client as the Hub does.

Paths, headers and answers are those that huggingface_hub asks for and reads; large files go by the LFS protocol.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

LICENCES = ("apache-2.0", "mit", "unknown", "other")
_REPOSITORY = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass
class Commit:
    """What a repository holds at a commit: contents by path."""

    sha: str
    files: dict[str, bytes]
    message: str = ""


@dataclass
class Repository:
    """A repository with one branch.

    Args:
        private: Whether only its owner may read it.
        commits: The oldest first.
    """

    private: bool = False
    commits: list[Commit] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        text = f"{len(self.commits)} {sorted((name, hashlib.sha1(data).hexdigest()) for name, data in files.items())}"
        self.commits.append(Commit(hashlib.sha1(text.encode()).hexdigest(), files, message))
        return self.commits[-1].sha

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        return next((one for one in self.commits if one.sha == revision), None)


class StandIn:
    """The Hub's state, and the server that answers for it.

    Args:
        cache: The client's local cache of repositories.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.repositories: dict[str, Repository] = {}
        self.tokens = {"hf_alice": ("alice", True), "hf_reader": ("alice", False), "hf_bob": ("bob", True)}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.failing: dict[str, int] = {}
        self.connections: list[socket.socket] = []
        hub = self

        class Handler(_Handler):
            state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def add(self, name: str, files: dict[str, bytes], private: bool = False) -> str:
        """Put files into a repository, as a new commit."""
        there = self.repositories.setdefault(name, Repository(private))
        return there.commit(dict(files))

    def close(self) -> None:
        """The network is down from here on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        for one in self.connections:  # those that a client keeps outlive the server
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def hub_running(cache: Path) -> Iterator[StandIn]:
    """A stand-in to which this process's client of the Hub speaks.

    Args:
        cache: The client's folder, in which it has nothing yet.
    """
    from huggingface_hub import close_session, constants

    standin = StandIn(cache / "hub")
    variables = {"HF_ENDPOINT": standin.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        importlib.reload(constants)  # the client reads them when it is imported
        try:
            yield standin
        finally:
            standin.close()
            close_session()
    importlib.reload(constants)


def _lfs(path: str) -> bool:
    return path.endswith(".safetensors")


def _oid(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if _lfs(path) else _git(data)


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    state: StandIn
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.state.connections.append(self.connection)

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self._read()
        self.state.asked.append(f"{self.command} {path}")
        for pattern, status in self.state.failing.items():
            if re.search(pattern, path):
                return self._error(status, f"injected {status}")
        for pattern, method in (
            (r"/api/repos/create", self._create),
            (r"/api/validate-yaml", self._validate),
            (rf"/api/models/{_REPOSITORY}(?:/revision/(?P<revision>.+))?", self._info),
            (rf"/api/models/{_REPOSITORY}/tree/(?P<revision>[^/]+)", self._tree),
            (rf"/api/models/{_REPOSITORY}/preupload/main", self._preupload),
            (rf"/api/models/{_REPOSITORY}/commit/main", self._commit),
            (rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", self._batch),
            (rf"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<file>.+)", self._resolve),
            (r"/lfs/(?P<oid>[0-9a-f]{64})", self._stored),
        ):
            if found := re.fullmatch(pattern, path):
                return method(**found.groupdict())
        self._error(404, "no such page")

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: int, message: str, code: str = "") -> None:
        self._answer({"error": message}, status, **({"X_Error_Code": code} if code else {}), X_Error_Message=message)

    def _user(self) -> tuple[str, bool] | None:
        """Whose token it is and whether it may write; None for none, which an unknown one is answered as."""
        return self.state.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _readable(self, repo: str) -> Repository | None:
        there, user = self.state.repositories.get(repo), self._user()
        if "Authorization" in self.headers and user is None:
            self._error(401, "Invalid credentials in Authorization header")
            return None
        if there is None or (there.private and (user is None or user[0] != repo.split("/")[0])):
            self._error(404 if user else 401, "Repository not found", "RepoNotFound")
            return None
        return there

    def _writable(self, repo: str) -> bool:
        user = self._user()
        if user is None:
            self._error(401, "Invalid credentials in Authorization header")
        elif user != (repo.split("/")[0], True):
            self._error(403, f"You don't have the rights to write to {repo}")
        return user == (repo.split("/")[0], True)

    def _create(self) -> None:
        asked = json.loads(self.body)
        repo = f"{asked['organization']}/{asked['name']}"
        if not self._writable(repo):
            return
        if repo in self.state.repositories:
            return self._answer(
                {"error": "You already created this model repo", "url": f"{self.state.url}/{repo}"}, 409
            )
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.state.add(repo, {".gitattributes": b"*.safetensors filter=lfs\n"}, private)
        self._answer({"url": f"{self.state.url}/{repo}"})

    def _validate(self) -> None:
        text = json.loads(self.body)["content"]
        found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        try:
            data = yaml.safe_load(found[1]) if found else {}
            wrong = [] if data.get("license", "other") in LICENCES else [f'"license" must be one of {LICENCES}']
        except yaml.YAMLError as error:
            wrong = [str(error)]
        self._answer({"errors": [{"message": text} for text in wrong], "warnings": []}, 400 if wrong else 200)

    def _at(self, repo: str, revision: str | None) -> tuple[Repository, Commit] | None:
        if (there := self._readable(repo)) is None:
            return None
        if (commit := there.at(revision or "main")) is None:
            self._error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
            return None
        return there, commit

    def _info(self, repo: str, revision: str | None) -> None:
        if found := self._at(repo, revision):
            there, commit = found
            siblings = [{"rfilename": name} for name in commit.files]
            self._answer({"id": repo, "sha": commit.sha, "private": there.private, "siblings": siblings, "tags": []})

    def _tree(self, repo: str, revision: str) -> None:
        if found := self._at(repo, revision):
            entries = []
            for name, data in found[1].files.items():
                entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _git(data)}
                if _lfs(name):
                    entry["lfs"] = {"oid": _oid(name, data), "size": len(data), "pointerSize": 130}
                entries.append(entry)
            self._answer(entries)

    def _preupload(self, repo: str) -> None:
        if not self._writable(repo):
            return
        files = self.state.repositories[repo].files
        self._answer(
            {
                "files": [
                    {
                        "path": (path := one["path"]),
                        "uploadMode": "lfs" if _lfs(path) else "regular",
                        "shouldIgnore": False,
                        "oid": _oid(path, files[path]) if path in files else None,
                    }
                    for one in json.loads(self.body)["files"]
                ]
            }
        )

    def _batch(self, repo: str) -> None:
        if not self._writable(repo):
            return
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.state.url}/lfs/{one['oid']}", "header": {}}}}
            for one in json.loads(self.body)["objects"]
        ]
        self._answer({"transfer": "basic", "objects": objects})

    def _stored(self, oid: str) -> None:
        if self.command == "PUT":
            assert hashlib.sha256(self.body).hexdigest() == oid
            self.state.uploads[oid] = self.body
            return self._answer(b"")
        self._answer(self.state.uploads[oid], ETag=f'"{oid}"')

    def _commit(self, repo: str) -> None:
        if not self._writable(repo):
            return
        there = self.state.repositories[repo]
        files, message = dict(there.files), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    message = value["summary"]
                    if value.get("parentCommit") not in (None, there.commits[-1].sha):
                        return self._error(412, "A commit has happened since.")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.state.uploads[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        sha = there.commit(files, message)
        self._answer({"commitUrl": f"{self.state.url}/{repo}/commit/{sha}", "commitOid": sha, "success": True})

    def _resolve(self, repo: str, revision: str, file: str) -> None:
        if (found := self._at(repo, revision)) is None:
            return
        commit = found[1]
        if (data := commit.files.get(file)) is None:
            return self._error(404, "Entry not found", "EntryNotFound")
        oid, headers = _oid(file, data), {"X_Repo_Commit": commit.sha}
        if not _lfs(file):
            return self._answer(data, ETag=f'"{oid}"', **headers)
        self.state.uploads[oid] = data
        elsewhere = self.state.url.replace("127.0.0.1", "localhost")  # large files lie on other hosts
        linked = {"X_Linked_Etag": f'"{oid}"', "X_Linked_Size": str(len(data)), "Location": f"{elsewhere}/lfs/{oid}"}
        self._answer(b"", 302, **linked, **headers)
