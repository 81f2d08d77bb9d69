"""From HTTP to (service, operation, parameters) and back, in every protocol the services speak.

botocore's models say what is in a request and an answer; moto's parsers and serializers know the
formats. What is ours is the routing, the errors, and Smithy RPC v2 CBOR.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import cbor2
from moto.core.model import OperationModel, ServiceModel
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.serialize import SerializationContext, get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.datastructures import Headers, MultiDict

from .errors import AwsError
from .http import Request, Response

# The signing name in a credential scope, where it is not the service's name.
SIGNED_AS = {"monitoring": "cloudwatch", "elasticloadbalancing": "elbv2"}
PROTOCOLS = {
    "rds": "query",
    "sts": "query",
    "elbv2": "query",
    "autoscaling": "query",
    "eks": "rest-json",
    "kafka": "rest-json",
    "route53": "rest-xml",
    "dynamodb": "json",
    "cloudwatch": "query",  # or json, or cbor: see `protocol_of`
}
_CBOR_PATH = re.compile(r"/service/(\w+)/operation/(\w+)$")
_SCOPE = re.compile(r"Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")


@dataclass
class Scope:
    """Who signed a request, and for what."""

    access_key: str
    region: str
    service: str


def scope_of(request: Request) -> Scope | None:
    signed = request.headers.get("Authorization") or unquote(request.query).replace("X-Amz-", "")
    found = _SCOPE.search(signed)
    if not found:
        return None
    access_key, _, region, service = found.groups()
    return Scope(access_key, region, SIGNED_AS.get(service, service))


def protocol_of(service: str, request: Request) -> str:
    if service == "cloudwatch":
        if request.headers.get("smithy-protocol") == "rpc-v2-cbor" or _CBOR_PATH.search(request.path):
            return "cbor"
        if request.headers.get("X-Amz-Target"):
            return "json"
    return PROTOCOLS[service]


def operation_of(service: str, protocol: str, request: Request) -> str | None:
    """The operation that is asked for; None for what is no operation of the service."""
    if protocol == "cbor":
        found = _CBOR_PATH.search(request.path)
        name = found[2] if found else ""
    elif protocol == "query":
        name = dict(_form(request)).get("Action", "")
    elif protocol == "json":
        name = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
    else:
        name = _route(service, request)[0]
    return name if name in get_service_model(service).operation_names else None


def parameters(service: str, protocol: str, operation: str, request: Request) -> dict[str, Any]:
    """The operation's parameters, named as in the AWS API."""
    model = operation_model(service, operation)
    if protocol == "cbor":
        parsed = cbor2.loads(request.body) if request.body else {}
    else:
        rest = protocol.startswith("rest-")
        parsed = PROTOCOL_PARSERS[protocol](model).parse(
            {
                "body": request.body,
                "headers": Headers(list(request.headers.items())),
                "method": request.method,
                "url_params": _route(service, request)[1] if rest else {},
                "url_path": request.path,
                "values": MultiDict(_form(request)),
            }
        )
    parsed = {name: value for name, value in (parsed or {}).items() if value is not None}
    missing = set(model.input_shape.required_members if model.input_shape else ()) - set(parsed)
    if missing:
        raise AwsError("ValidationError", f"missing required parameters: {', '.join(sorted(missing))}")
    return parsed


def _form(request: Request) -> list[tuple[str, str]]:
    values = parse_qsl(request.query, keep_blank_values=True)
    if request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        values += parse_qsl(request.body.decode(), keep_blank_values=True)
    return values


@cache
def operation_model(service: str, name: str) -> OperationModel:
    return get_service_model(service).operation_model(name)


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    """The REST operations, the most literal path first."""
    model: ServiceModel = get_service_model(service)
    routes = []
    for name in model.operation_names:
        http = operation_model(service, name).http
        path = http["requestUri"].partition("?")[0]
        literal = len(re.sub(r"\{[^}]+\}", "", path))
        pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", path)
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
        routes.append((literal, http["method"], re.compile(pattern.rstrip("/") + "/?$"), name))
    routes.sort(key=lambda route: -route[0])
    return [route[1:] for route in routes]


def _route(service: str, request: Request) -> tuple[str, dict[str, str]]:
    for method, pattern, name in _routes(service):
        found = pattern.match(request.path) if method == request.method else None
        if found:
            return name, {key: unquote(value) for key, value in found.groupdict().items()}
    return "", {}


def answer(service: str, protocol: str, operation: str, result: dict[str, Any]) -> Response:
    request_id = str(uuid.uuid4())
    model = operation_model(service, operation)
    if protocol == "cbor":
        body = cbor2.dumps(_cbor_value(result, model.output_shape))
        return Response(200, body, _cbor_headers(request_id))
    serializer = get_serializer_class(service, protocol)(model, SerializationContext(request_id))
    serialized = serializer.serialize(result)
    headers = {str(name): str(value) for name, value in serialized["headers"].items()}
    headers["x-amzn-RequestId"] = request_id
    text = serialized["body"]
    return Response(serialized["status_code"], text.encode() if isinstance(text, str) else text, headers)


def _cbor_headers(request_id: str) -> dict[str, str]:
    return {
        "Content-Type": "application/cbor",
        "smithy-protocol": "rpc-v2-cbor",
        "x-amzn-RequestId": request_id,
    }


def _cbor_value(value: Any, shape: Any) -> Any:
    if shape is None or value is None:
        return value if value is not None else {}
    if shape.type_name == "structure":
        return {
            name: _cbor_value(value[name], member)
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if shape.type_name == "list":
        return [_cbor_value(item, shape.member) for item in value]
    if shape.type_name == "map":
        return {key: _cbor_value(item, shape.value) for key, item in value.items()}
    if shape.type_name == "timestamp":
        seconds = value.timestamp() if isinstance(value, datetime) else float(value)
        return cbor2.CBORTag(1, seconds)  # Smithy: always tag 1, epoch seconds
    if shape.type_name in ("double", "float"):
        return float(value)
    return value


def failure(service: str, protocol: str, error: AwsError, bare: bool = False) -> Response:
    """The error in the form that this protocol gives it on the wire."""
    request_id = str(uuid.uuid4())
    if protocol == "cbor":
        body = cbor2.dumps({"__type": f"com.amazonaws.cloudwatch#{error.code}", "message": error.message})
        headers = _cbor_headers(request_id)
        headers["x-amzn-query-error"] = f"{error.code};{_fault_of(error)}"
        return Response(error.status, body, headers)
    if protocol in ("json", "rest-json"):
        return _json_failure(service, protocol, error, request_id)
    if bare and error.messages:
        return _bare_failure(error, request_id)
    namespace = get_service_model(service).metadata.get("xmlNamespace", "")
    listed = "".join(f"<Message>{escape(message)}</Message>" for message in error.messages or [])
    text = (
        f'<?xml version="1.0"?>\n<ErrorResponse xmlns="{namespace}"><Error><Type>{_fault_of(error)}</Type>'
        f"<Code>{error.code}</Code><Message>{escape(error.message)}</Message>"
        f"{'<Messages>' + listed + '</Messages>' if listed else ''}</Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return Response(error.status, text.encode(), {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})


def _fault_of(error: AwsError) -> str:
    return "Sender" if error.status < 500 else "Receiver"


def _json_failure(service: str, protocol: str, error: AwsError, request_id: str) -> Response:
    metadata = get_service_model(service).metadata
    headers = {"x-amzn-RequestId": request_id}
    if protocol == "rest-json":
        headers |= {"Content-Type": "application/json", "x-amzn-ErrorType": error.code}
        return Response(error.status, json.dumps({"message": error.message}).encode(), headers)
    prefix = "com.amazonaws.dynamodb.v20120810" if service == "dynamodb" else metadata.get("targetPrefix", "")
    headers["Content-Type"] = f"application/x-amz-json-{metadata.get('jsonVersion', '1.0')}"
    body = {"__type": f"{prefix}#{error.code}", "message": error.message}
    return Response(error.status, json.dumps(body).encode(), headers)


def _bare_failure(error: AwsError, request_id: str) -> Response:
    """Route 53's other form of a refused batch: no wrapper, a list of messages."""
    listed = "".join(f"<Message>{escape(message)}</Message>" for message in error.messages or [])
    body = (
        f'<?xml version="1.0"?>\n<{error.code} xmlns="https://route53.amazonaws.com/doc/2013-04-01/">'
        f"<Messages>{listed}</Messages><RequestId>{request_id}</RequestId></{error.code}>"
    )
    return Response(error.status, body.encode(), {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})
