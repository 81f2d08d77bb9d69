"""The EKS token check: a pre-signed STS URL, bound to one cluster by a signed header."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from .names import REGIONS

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
MAX_EXPIRES_S = 60
FRESH = timedelta(minutes=15)


class Refused(Exception):
    pass


def review(
    body: Mapping[str, Any], cluster: str, keys: Mapping[str, str], sts_is_down: Callable[[str], bool]
) -> dict[str, Any]:
    """Answers a Kubernetes TokenReview for the cluster of this name."""
    status: dict[str, Any]
    try:
        check(str(body.get("spec", {}).get("token", "")), cluster, keys, sts_is_down)
        user = {"username": "maip-dr", "uid": "maip-dr", "groups": ["maip-dr"]}
        status = {"authenticated": True, "user": user}
    except Refused as refused:
        status = {"authenticated": False, "error": str(refused)}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}


def check(token: str, cluster: str, keys: Mapping[str, str], sts_is_down: Callable[[str], bool]) -> None:
    if not token.startswith(PREFIX):
        raise Refused("not an EKS token")
    encoded = token[len(PREFIX) :]
    if "=" in encoded:
        raise Refused("the token is padded")
    try:
        url = urlsplit(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode())
        query = dict(parse_qsl(url.query, strict_parsing=True))
        access_key, date, region, service, end = query["X-Amz-Credential"].split("/")
        signed = query["X-Amz-SignedHeaders"].split(";")
        at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        expires = int(query["X-Amz-Expires"])
        signature = query.pop("X-Amz-Signature")
    except (ValueError, KeyError) as error:
        raise Refused(f"not a pre-signed URL: {error!r}") from None

    if url.scheme != "https" or url.path not in ("", "/"):
        raise Refused("not https at the root")
    if region not in REGIONS or url.netloc != f"sts.{region}.amazonaws.com":
        raise Refused(f"{url.netloc} is not the STS endpoint of the signed Region {region}")
    if sts_is_down(region):
        raise Refused(f"the STS of {region}, which the token names, is down")
    if (query.get("Action"), service, end) != ("GetCallerIdentity", "sts", "aws4_request"):
        raise Refused("not GetCallerIdentity of STS")
    if CLUSTER_HEADER not in signed or "host" not in signed:
        raise Refused(f"host and {CLUSTER_HEADER} must be signed")
    if not 0 < expires <= MAX_EXPIRES_S:
        raise Refused(f"X-Amz-Expires {expires} is not in 1..{MAX_EXPIRES_S}")
    if abs(datetime.now(timezone.utc) - at) > FRESH:
        raise Refused("the token is not fresh")
    if access_key not in keys:
        raise Refused("the access key is not known")

    headers = {"host": url.netloc, CLUSTER_HEADER: cluster}
    unknown = [name for name in signed if name not in headers]
    if unknown:
        raise Refused(f"signed headers that a caller cannot replay: {unknown}")
    scope = f"{date}/{region}/{service}/{end}"
    text = _canonical(url.path, query, headers, signed)
    expected = _signature(keys[access_key], scope, query["X-Amz-Date"], text)
    if not hmac.compare_digest(expected, signature):
        raise Refused(f"the signature is not for the cluster {cluster}")


def _canonical(path: str, query: Mapping[str, str], headers: Mapping[str, str], signed: list[str]) -> str:
    def encoded(text: str) -> str:
        return quote(text, safe="-_.~")

    return "\n".join(
        [
            "GET",
            path or "/",
            "&".join(f"{name}={value}" for name, value in sorted((encoded(n), encoded(v)) for n, v in query.items())),
            *(f"{name}:{headers[name]}" for name in signed),
            "",
            ";".join(signed),
            hashlib.sha256(b"").hexdigest(),
        ]
    )


def _signature(secret: str, scope: str, at: str, canonical: str) -> str:
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join(["AWS4-HMAC-SHA256", at, scope, digest])
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
