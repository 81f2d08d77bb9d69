"""The front door of a Region: who asks for what, which fault strikes, who answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import wire
from .errors import AwsError, Unsupported, denied, throttled
from .faults import Fault
from .http import NoAnswer, Request, Response
from .names import EAST

if TYPE_CHECKING:
    from .lab import Lab

log = logging.getLogger(__name__)


class Front:
    """Answers what arrives at one Region's port."""

    def __init__(self, lab: Lab, region: str) -> None:
        self.lab = lab
        self.region = region

    def answer(self, request: Request) -> Response:
        scope = wire.scope_of(request)
        service = scope.service if scope else None
        protocol = wire.protocol_of(service, request) if service in wire.PROTOCOLS else "query"
        operation = wire.operation_of(service, protocol, request) if service in wire.PROTOCOLS else None
        call = self.lab.calls.arrived(self.region, service, operation)
        fault = self.lab.faults.match(self.region, service, operation)
        call["fault"] = fault.mode if fault else None
        try:
            if fault and fault.mode in ("error", "throttle", "deny"):
                raise fault_error(fault, service or "", operation or "")
            response = self._meet(fault, lambda: self._serve(scope, protocol, operation, request, call))
            call["status"] = response.status
            if fault and fault.mode == "lost_answer":
                raise NoAnswer()
            return response
        except AwsError as error:
            call["status"] = error.status
            if isinstance(error, Unsupported):
                call["unsupported"] = True
                log.warning("unsupported: %s %s at %s: %s", service, operation, self.region, error.message)
            bare = self.lab.settings.route53_error_form == "bare"
            return wire.failure(service if service in wire.PROTOCOLS else "sts", protocol, error, bare)
        finally:
            self.lab.calls.done(call)

    def _meet(self, fault: Fault | None, serve: Callable[[], Response]) -> Response:
        if fault is None or fault.mode == "lost_answer":
            try:
                return serve()
            except AwsError:
                if fault:
                    raise NoAnswer() from None
                raise
        if fault.mode == "silent":
            raise NoAnswer(reset=False, silent_until=fault.lifted)
        if fault.mode in ("reset", "refuse"):
            raise NoAnswer()
        fault.lifted.wait(fault.delay_s)
        return serve()

    def _serve(
        self, scope: wire.Scope | None, protocol: str, operation: str | None, request: Request, call: dict[str, Any]
    ) -> Response:
        if scope is None:
            raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        service = scope.service
        if service not in wire.PROTOCOLS or operation is None:
            raise Unsupported(f"{service} {request.method} {request.target}")
        self._check_credentials(scope)
        parameters = wire.parameters(service, protocol, operation, request)
        call["params"] = parameters
        handler = getattr(self.lab.services.get(service), operation, None)
        with self.lab.world.lock:
            self.lab.world.advance()
            if handler is not None:
                return wire.answer(service, protocol, operation, handler(self.region, parameters))
            if not self.lab.moto.allows(service, operation):
                raise Unsupported(f"{service} {operation}")
            response = self.lab.moto.forward(request)
            return self.lab.after_moto(service, self.region, operation, parameters, response)

    def _check_credentials(self, scope: wire.Scope) -> None:
        settings = self.lab.settings
        home = EAST if scope.service == "route53" else self.region
        if scope.service == "route53" and self.region != EAST:
            raise Unsupported(f"route53 at {self.region}: its control plane is in {EAST} only")
        if settings.check_scope and scope.region != home:
            raise AwsError(
                "SignatureDoesNotMatch", f"Credential should be scoped to a valid region, not '{scope.region}'.", 403
            )
        if settings.check_key and scope.access_key not in self.lab.keys:
            code = (
                "UnrecognizedClientException"
                if scope.service in ("dynamodb", "eks", "kafka")
                else "InvalidClientTokenId"
            )
            raise AwsError(code, "The security token included in the request is invalid.", 403)


def fault_error(fault: Fault, service: str, operation: str) -> AwsError:
    if fault.mode == "throttle":
        return throttled(service)
    if fault.mode == "deny":
        return denied(service, operation)
    status = fault.status or 500
    code = fault.code or ("ServiceUnavailable" if status == 503 else "InternalFailure")
    return AwsError(code, "a fault that the test asked for", status)


_ISSUED = re.compile(rb"<AccessKeyId>([^<]+)</AccessKeyId>.*?<SecretAccessKey>([^<]+)<", re.S)


def issued_key(response: Response) -> tuple[str, str] | None:
    """The credentials in an answer of AssumeRole, so that they are known from now on."""
    found = _ISSUED.search(response.body)
    return (found[1].decode(), found[2].decode()) if found else None
