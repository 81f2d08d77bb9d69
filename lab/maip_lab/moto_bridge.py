"""moto in this process, behind the world's one lock: it serves what needs no physics of ours."""

from __future__ import annotations

import io
import json
import os
from email.message import Message
from typing import Any
from urllib.parse import unquote

from .http import Request, Response
from .names import ACCESS_KEY
from .world import World

os.environ.setdefault("MOTO_ACCOUNT_ID", "123456789012")

from moto.backends import get_backend  # noqa: E402  (the account is read at import)
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    create_backend_app,
)

ALLOWED = {
    "sts": {"GetCallerIdentity", "AssumeRole"},
    "dynamodb": {
        "CreateTable", "DeleteTable", "DescribeTable", "ListTables", "UpdateTable",
        "DescribeTimeToLive", "UpdateTimeToLive",
        "DescribeContinuousBackups", "UpdateContinuousBackups",
        "TagResource", "UntagResource", "ListTagsOfResource",
        "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan",
        "BatchGetItem", "BatchWriteItem", "TransactGetItems", "TransactWriteItems",
    },
}  # fmt: skip


class Moto:
    def __init__(self, world: World) -> None:
        self.world = world
        self._app = DomainDispatcherApplication(create_backend_app)

    def allows(self, service: str, operation: str) -> bool:
        return operation in ALLOWED.get(service, set())

    def forward(self, request: Request) -> Response:
        environ = _environ(request)
        answered: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            answered["status"] = int(status.split()[0])
            answered["headers"] = dict(headers)

        with self.world.lock:
            body = b"".join(self._app(environ, start_response))
        headers = {
            name: value
            for name, value in answered["headers"].items()
            if name.lower() not in ("content-length", "connection", "date", "server")
        }
        return Response(answered["status"], body, headers)

    def call(self, service: str, target: str, region: str, body: dict[str, Any]) -> dict[str, Any]:
        """A JSON call of the lab's own, past faults and logs."""
        headers = Message()
        headers["Host"] = f"{service}.{region}.amazonaws.com"
        headers["X-Amz-Target"] = target
        headers["Content-Type"] = "application/x-amz-json-1.0"
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/{region}/{service}/aws4_request, "
            "SignedHeaders=host, Signature=0"
        )
        response = self.forward(Request("POST", "/", headers, json.dumps(body).encode()))
        if response.status >= 400:
            raise RuntimeError(f"moto refused {target}: {response.body!r}")
        return json.loads(response.body or b"{}")

    def reset(self) -> None:
        with self.world.lock:
            for service in ALLOWED:
                get_backend(service).reset()


def _environ(request: Request) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(request.path),
        "RAW_URI": request.target,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ["CONTENT_TYPE"] = value
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            environ[f"HTTP_{key}"] = value
    return environ
