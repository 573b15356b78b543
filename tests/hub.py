"""A model hub on this machine, for the real client: a few files, a gated and a broken repository.

    with serve() as hub:
        subprocess.run(command, env=client_environment(hub.url, cache))

The client reads HF_ENDPOINT when it is imported, so it needs a process of its own.
"""

import contextlib
import hashlib
import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"hidden": 1}',
    "model.gguf": bytes(range(256)) * 4096,
    "folder/weights.bin": b"weights",
    "folder/deep/tokens.txt": b"a b c",
    "folder/[odd]/x.txt": b"brackets",
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def client_environment(url: str, cache: Path, token: str = "") -> dict[str, str]:
    """Environment of a process whose hub is the one at `url`."""
    return {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src"),
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
    }


class Hub(http.server.ThreadingHTTPServer):
    """As much of the hub's protocol as a download needs, with a gated and a private repository.

    Attributes:
        files: what its own repositories hold, at whatever commit.
        others: more repositories, by name: what they hold at whatever commit.
        branches: the commit that each branch is at.
        requests: method, path and Range header of every request.
        cut: files whose next response stops after that many bytes.
        refused: files whose next download fails.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.requests: list[tuple[str, str, str | None]] = []
        self.files = dict(FILES)
        self.others: dict[str, dict[str, bytes]] = {}
        self.branches = {"main": COMMIT}
        self.cut: dict[str, int] = {}
        self.refused: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class HubHandler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers["Range"]))
        path = self.path.partition("?")[0].lstrip("/").replace("%5B", "[").replace("%5D", "]")
        found = re.fullmatch(
            r"(?:api/(?:models|datasets)/|datasets/|)([^/]+/[^/]+)/"
            r"(tree|resolve|revision)/([^/]+)/?(.*)",
            path,
        )
        if not found:
            return self.reply(404)
        repo, verb, commit, name = found.groups()
        if repo == "owner/gated" and self.headers["Authorization"] != "Bearer good":
            return self.reply(403, X_Error_Code="GatedRepo")
        if repo == "owner/late-gated" and verb == "resolve":
            return self.reply(401, X_Error_Code="GatedRepo")
        if repo == "owner/broken":
            return self.reply(400)
        files = self.server.others.get(repo)
        if files is None and repo not in ("owner/model", "owner/gated", "owner/late-gated"):
            return self.reply(401, X_Error_Code="RepoNotFound")
        files = self.server.files if files is None else files
        # Of the other repositories every commit is there: params.yaml pins those of the real ones.
        known = commit in (COMMIT, *self.server.branches.values()) or (
            repo in self.server.others and re.fullmatch(r"[0-9a-f]{40}", commit)
        )
        if verb == "revision" and (known or commit in self.server.branches):
            about = {"id": repo, "sha": self.server.branches.get(commit, commit), "siblings": []}
            return self.reply(200, json.dumps(about).encode(), Content_Type="application/json")
        if not known:
            return self.reply(404, X_Error_Code="RevisionNotFound")
        if verb == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": digest(data)[:40]}
                for name, data in files.items()
            ]
            return self.reply(200, json.dumps(entries).encode(), Content_Type="application/json")
        if self.command == "GET" and name in self.server.refused:
            self.server.refused.remove(name)
            return self.reply(400)
        return self.send_file(name, files[name])

    def send_file(self, name: str, data: bytes) -> None:
        start = int((self.headers["Range"] or "bytes=0-")[6:].split("-")[0])
        status = 206 if self.headers["Range"] else 200
        self.send_response(status)
        self.send_header("ETag", f'"{digest(data)[:40]}"')
        self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            cut = self.server.cut.pop(name, None)
            self.wfile.write(data[start:cut])
            self.close_connection = cut is not None


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub of its own until the block ends."""
    with Hub() as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()
