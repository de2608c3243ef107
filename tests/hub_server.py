"""A small Hub on loopback: as much of its API as huggingface_hub and transformers ask for, and faults on demand.

    with HubServer({"hf_ann": Account("ann")}) as hub:
        hub.url                                       # for HF_ENDPOINT; clients need HF_HUB_DISABLE_XET=1
        hub.fail("commit", 500)                       # the next commit is answered 500, the one after it as ever
        hub.fail("upload", "cut", times=FOREVER)      # every upload of a large file loses its connection
        hub.repositories["ann/model"].files           # what the newest commit holds: {name: bytes}

Places of faults are the names in ROUTES. Kinds: a status, "cut" (the connection ends before anything is done), "lost" (it is
done, and the connection ends before the answer), or a function that is called first, after which nothing fails.
"""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

FOREVER = 10**9
LARGE = (".safetensors", ".bin", ".png")  # stored as LFS files, whatever their size

# In this order; `repo` is user/name.
ROUTES = [
    ("whoami", "GET", r"/api/whoami-v2"),
    ("create", "POST", r"/api/repos/create"),
    ("validate", "POST", r"/api/validate-yaml"),
    ("preupload", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)"),
    ("commit", "POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)"),
    ("tree", "GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?"),
    ("info", "GET", r"/api/models/(?P<repo>[^/]+/[^/]+?)(?:/revision/(?P<revision>[^/]+))?"),
    ("batch", "POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    ("upload", "PUT", r"/lfs/(?P<digest>[0-9a-f]{64})"),
    ("verify", "POST", r"/lfs/(?P<digest>[0-9a-f]{64})/verify"),
    ("download", "GET", r"/lfs/(?P<digest>[0-9a-f]{64})"),
    ("resolve", "GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
]


@dataclass(frozen=True)
class Account:
    """Whose token it is and what it may: "write" or "read"."""

    user: str
    role: str = "write"


@dataclass
class Repository:
    """Commits, oldest first, each an id and the whole of the files: {name: bytes}."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        digests = [f"{name} {hashlib.sha1(content).hexdigest()}" for name, content in sorted(files.items())]
        oid = hashlib.sha1("\n".join([str(len(self.commits)), *digests]).encode()).hexdigest()
        self.commits.append((oid, files))
        self.messages.append(message)
        return oid

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        if revision in (None, "main"):
            return self.commits[-1]
        return dict((oid, (oid, files)) for oid, files in self.commits).get(revision)


class Refusal(Exception):
    """An answer that is an error: status, the Hub's code of it, its message."""

    def __init__(self, status: int, code: str = "", message: str = "", headers: dict | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers or {}


class Cut(Exception):
    """The connection ends without an answer."""


class HubServer:
    """See the top of the file. Attributes: `url`, `repositories`, `stored` (large files by digest), `asked` (how often)."""

    def __init__(self, tokens: dict[str, Account]):
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.faults: dict[str, list] = {}
        self.lock = threading.RLock()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def fail(self, place: str, kind: int | str | Callable, times: int = 1):
        """The next `times` requests of that place fail in that way."""
        assert place in {name for name, _, _ in ROUTES}, place
        self.faults[place] = [kind, times]

    def recover(self):
        self.faults.clear()
        self.asked.clear()

    def fault(self, place: str) -> int | str | Callable | None:
        with self.lock:
            kind, left = self.faults.get(place, [None, 0])
            if left > 0:
                self.faults[place][1] -= 1
                return kind
        return None

    def make(self, name: str, private: bool = False, files: dict[str, bytes] | None = None) -> Repository:
        """A repository, with the first commit that the Hub makes by itself."""
        repository = self.repositories[name] = Repository(private)
        repository.commit({".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})}, "initial commit")
        return repository


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement of its headers

    def log_message(self, *args):
        pass

    def do_request(self):
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        method = "GET" if self.command == "HEAD" else self.command
        routes = [(place, re.fullmatch(pattern, url.path)) for place, its, pattern in ROUTES if its == method]
        place, match = next(((place, match) for place, match in routes if match), (None, None))
        if match is None:
            return self.answer(404, {"error": f"no such address: {url.path}"})
        self.hub.asked[place] += 1
        fault = self.hub.fault(place)
        try:
            if fault == "cut":
                raise Cut
            body = self.body()
            if isinstance(fault, int):
                return self.answer(fault, b"<html>Something went wrong</html>", {"Content-Type": "text/html"})
            parts = {name: unquote(value) if value else value for name, value in match.groupdict().items()}
            if callable(fault):
                fault()
            with self.hub.lock:
                answer = getattr(self, f"do_{place}")(body, **parts)
            if fault == "lost":
                raise Cut
            return self.answer(*answer)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message, **refusal.headers}
            return self.answer(refusal.status, {"error": refusal.message}, headers)
        except Cut:
            self.close_connection = True
            self.connection.shutdown(2)

    do_GET = do_HEAD = do_POST = do_PUT = do_request

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, content=b"", headers: dict | None = None):
        if not isinstance(content, bytes):
            content, headers = json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # ---------------------------------------------------------------------------------------------- who may what

    def account(self) -> Account | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.hub.tokens:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        return self.hub.tokens[token]

    def readable(self, repo: str) -> Repository:
        """The repository, if who asks may see it; a private one is not to be told from none."""
        account, repository = self.account(), self.hub.repositories.get(repo)
        if repository is None or repository.private and (account is None or account.user != repo.split("/")[0]):
            raise Refusal(401 if account is None else 404, "RepoNotFound", "Repository not found")
        return repository

    def writable(self, repo: str) -> Repository:
        repository, account = self.readable(repo), self.account()
        if account is None:
            raise Refusal(401, message="Unauthorized")
        if account.role != "write" or account.user != repo.split("/")[0]:
            raise Refusal(403, message="Forbidden: you must use a write token to upload to this repository")
        return repository

    # ------------------------------------------------------------------------------------------------- addresses

    def do_whoami(self, body):
        account = self.account()
        if account is None:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        access = {"accessToken": {"displayName": "test", "role": account.role}}
        return 200, {"type": "user", "name": account.user, "orgs": [], "auth": access}

    def do_create(self, body):
        asked, account = json.loads(body), self.account()
        if account is None:
            raise Refusal(401, message="Unauthorized")
        repo = f"{asked.get('organization') or account.user}/{asked['name']}"
        if account.role != "write" or account.user != repo.split("/")[0]:
            raise Refusal(403, message="You don't have the rights to create a model under this namespace")
        url = {"url": f"{self.hub.url}/{repo}"}
        if repo in self.hub.repositories:
            return 409, {**url, "error": "You already created this model repo"}
        self.hub.make(repo, private=asked.get("private") or asked.get("visibility") == "private")
        return 200, url

    def do_validate(self, body):
        content = json.loads(body)["content"]
        if not content.startswith("---\n"):
            return 400, {"errors": [{"message": "no metadata"}], "warnings": []}
        return 200, {"errors": [], "warnings": []}

    def do_info(self, body, repo, revision):
        repository = self.readable(repo)
        found = repository.at(revision)
        if found is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        oid, files = found
        siblings = [{"rfilename": name} for name in files]
        if "blobs" in self.query:
            siblings = [{"rfilename": name, **described(name, content)} for name, content in files.items()]
        facts = {"id": repo, "modelId": repo, "sha": oid, "private": repository.private, "tags": [], "siblings": siblings}
        return 200, facts

    def do_tree(self, body, repo, revision, path):
        oid, files = self.readable(repo).at(revision) or (None, {})
        entries = [
            {"type": "file", "path": name, "oid": described(name, content)["blobId"], **described(name, content)}
            for name, content in files.items()
            if path is None or name.startswith(f"{path}/")
        ]
        if oid is None or path is not None and not entries:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist on {revision}", {"X-Repo-Commit": oid or ""})
        return 200, entries

    def do_resolve(self, body, repo, revision, path):
        found = self.readable(repo).at(revision)
        if found is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        oid, files = found
        headers = {"X-Repo-Commit": oid, "Accept-Ranges": "bytes"}
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found", headers)
        content = files[path]
        if not path.endswith(LARGE):
            return 200, content, {**headers, "ETag": f'"{git_digest(content)}"'}
        digest = hashlib.sha256(content).hexdigest()
        # As on the Hub, large files come from another host: the client follows redirects to the same one when it asks for a
        # file's facts, and would not find them there.
        address = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/lfs/{digest}"
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content)), "Location": address}
        return 302, b"", {**headers, **linked}

    def do_download(self, body, digest):
        content = self.hub.stored[digest]
        return 200, content, {"ETag": f'"{digest}"'}

    def do_preupload(self, body, repo, revision):
        _, held = self.writable(repo).at(revision)
        files = []
        for file in json.loads(body)["files"]:
            name, large = file["path"], file["path"].endswith(LARGE)
            content = held.get(name)
            digest = None if content is None else hashlib.sha256(content).hexdigest() if large else git_digest(content)
            files.append({"path": name, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": digest})
        return 200, {"files": files}

    def do_batch(self, body, repo):
        self.writable(repo)
        objects = []
        for wanted in json.loads(body)["objects"]:
            entry, address = dict(wanted), f"{self.hub.url}/lfs/{wanted['oid']}"
            if wanted["oid"] not in self.hub.stored:
                entry["actions"] = {"upload": {"href": address}, "verify": {"href": f"{address}/verify"}}
            objects.append(entry)
        return 200, {"transfer": "basic", "objects": objects}

    def do_upload(self, body, digest):
        if hashlib.sha256(body).hexdigest() != digest:
            raise Refusal(400, message="content does not have the digest")
        self.hub.stored[digest] = body
        return 200, b""

    def do_verify(self, body, digest):
        if digest not in self.hub.stored:
            raise Refusal(404, message="not uploaded")
        return 200, {}

    def do_commit(self, body, repo, revision):
        repository = self.writable(repo)
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, repository.head):
            raise Refusal(412, message="A commit has happened since. Please refresh and try again.")
        files = dict(repository.files)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.stored:
                    raise Refusal(400, message=f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.stored[value["oid"]]
            else:
                raise Refusal(400, message=f"unknown key {line['key']}")
        oid = repository.commit(files, header["summary"])
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}", "hookOutput": ""}


def git_digest(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def described(name: str, content: bytes) -> dict:
    """Size and digests of a file, as the Hub gives them."""
    facts = {"size": len(content), "blobId": git_digest(content)}
    if name.endswith(LARGE):
        digest = hashlib.sha256(content).hexdigest()
        facts["lfs"] = {"sha256": digest, "oid": digest, "size": len(content), "pointerSize": 130}
    return facts
