"""An error as AWS answers it, before it is put into a protocol's form."""

from __future__ import annotations


class AwsError(Exception):
    def __init__(self, code: str, message: str, status: int = 400, messages: list[str] | None = None):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.messages = messages  # Route 53's InvalidChangeBatch carries a list


class Unsupported(AwsError):
    """The lab does not do this: said loudly, with a status that no SDK retries."""

    def __init__(self, what: str) -> None:
        super().__init__("LabUnsupportedOperation", f"the lab does not support {what}", 400)


def throttled(service: str) -> AwsError:
    if service in ("eks", "kafka"):
        code = "ThrottlingException" if service == "eks" else "TooManyRequestsException"
        return AwsError(code, "Rate exceeded", 429)
    if service in ("dynamodb", "cloudwatch"):
        return AwsError("ThrottlingException", "Rate exceeded", 400)
    return AwsError("Throttling", "Rate exceeded", 400)


def denied(service: str, operation: str) -> AwsError:
    action = f"{service}:{operation}"
    message = f"User: arn:aws:iam::123456789012:user/maip-dr is not authorized to perform: {action}"
    if service == "dynamodb":
        return AwsError("AccessDeniedException", message, 400)
    if service in ("eks", "kafka", "cloudwatch"):
        code = "AccessDenied" if service == "cloudwatch" else "AccessDeniedException"
        return AwsError(code, message, 403)
    return AwsError("AccessDenied", message, 403)
