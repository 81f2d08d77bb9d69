//! What a failure of AWS means: one table for all services, because their codes do not collide.

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::error::{Error, ErrorKind};
use crate::id::RegionId;

/// Which sort of call failed, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// `rds:PromoteReadReplica`.
    pub(super) api: &'static str,
    /// Whether it changes something.
    pub(super) mutates: bool,
    /// Where it was sent.
    pub(super) region: &'a RegionId,
}

impl<'a> Call<'a> {
    pub(super) fn reads(api: &'static str, region: &'a RegionId) -> Self {
        Self { api, mutates: false, region }
    }
    pub(super) fn mutates(api: &'static str, region: &'a RegionId) -> Self {
        Self { api, mutates: true, region }
    }

    /// The failure of this call as one of ours: use it with `map_err`.
    pub(super) fn failed<E>(self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let made = match &error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let body = context.raw().body().bytes().unwrap_or_default();
                self.answered(context.err().code(), context.err().message(), status, body)
            }
            SdkError::TimeoutError(_) => self.unanswered("no answer in time"),
            SdkError::ResponseError(context) => {
                let status = context.raw().status();
                self.unanswered(&format!("the answer (status {status}) is not what the service says"))
            }
            other => self.not_dispatched(other),
        };
        made.with("api", self.api).with("region", self.region)
    }

    fn answered(self, code: Option<&str>, message: Option<&str>, status: u16, body: &[u8]) -> Error {
        let code = code.unwrap_or_default();
        let kind = kind_of(code, status, self.mutates);
        let said = match message.map(str::trim) {
            Some(text) if !text.is_empty() => shortened(text),
            _ => bare_messages(body).unwrap_or_else(|| format!("status {status}")),
        };
        let text = if code.is_empty() {
            format!("{}: {said}", self.api)
        } else {
            format!("{}: {code}: {said}", self.api)
        };
        let made = Error::new(kind, text);
        match hint_of(code, kind) {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }

    /// Sent, and not answered in a way that tells what happened.
    fn unanswered(self, what: &str) -> Error {
        let kind = if self.mutates { ErrorKind::InDoubt } else { ErrorKind::Unavailable };
        Error::new(kind, format!("{}: {what}", self.api))
    }

    fn not_dispatched(self, error: &(dyn std::error::Error + 'static)) -> Error {
        let said = chain(error);
        if let Some(inner) = source::<CredentialsError>(error) {
            let kind = if unreachable(inner) { ErrorKind::Unavailable } else { ErrorKind::Denied };
            let made = Error::new(kind, format!("{}: no credentials", self.api)).caused_by(chain(inner));
            return made
                .hint("`aws sts get-caller-identity` shows what the same settings give the aws command");
        }
        // The connection was never made: the service saw nothing of it.
        let unsent = ["(Connect)", "connect timeout", "dns error", "onnection refused"];
        if unsent.iter().any(|mark| said.contains(mark)) {
            return Error::unavailable(format!("{}: no connection", self.api)).caused_by(said);
        }
        self.unanswered("the connection failed").caused_by(said)
    }
}

/// What the service's code says about what to do next; the status where it has no code that we know.
fn kind_of(code: &str, status: u16, mutates: bool) -> ErrorKind {
    let lost = if mutates { ErrorKind::InDoubt } else { ErrorKind::Unavailable };
    // The codes of Faults are written with and without the suffix.
    match code.strip_suffix("Fault").unwrap_or(code) {
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "UnauthorizedException"
        | "ForbiddenException"
        | "NotAuthorized"
        | "AuthFailure"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "OptInRequired"
        | "KMSKeyNotAccessible" => ErrorKind::Denied,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "ProvisionedThroughputExceededException"
        | "TooManyRequestsException"
        | "SlowDown" => ErrorKind::Throttled,
        "DBInstanceNotFound"
        | "DBClusterNotFound"
        | "ResourceNotFoundException"
        | "ResourceNotFound"
        | "NotFoundException"
        | "NoSuchHostedZone"
        | "NoSuchChange"
        | "HostedZoneNotFound" => ErrorKind::NotFound,
        "InvalidDBInstanceState"
        | "DBInstanceAlreadyExists"
        | "ResourceInUseException"
        | "ConflictException"
        | "PriorRequestNotComplete"
        | "ConflictingDomainExists" => ErrorKind::Conflict,
        "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServerErrorException"
        | "InternalError"
        | "ServerException" => lost,
        _ => match status {
            401 | 403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            409 => ErrorKind::Conflict,
            429 => ErrorKind::Throttled,
            400..=499 => ErrorKind::Invalid,
            _ => lost,
        },
    }
}

fn hint_of(code: &str, kind: ErrorKind) -> Option<&'static str> {
    match (code, kind) {
        ("ExpiredToken" | "ExpiredTokenException", _) => {
            Some("the session has run out: renew it, for example with `aws sso login`")
        }
        ("RequestExpired" | "InvalidSignatureException" | "SignatureDoesNotMatch", _) => {
            Some("is this machine's clock right? A signature carries the time")
        }
        ("InvalidClientTokenId" | "UnrecognizedClientException", _) => Some(
            "the access key is not known there: is it the right profile, and is the Region enabled for the account?",
        ),
        (_, ErrorKind::Denied) => {
            Some("give this identity the permission that is named, or use another profile")
        }
        _ => None,
    }
}

/// Route 53 may answer a refused batch with a bare `InvalidChangeBatch` document that has no code in the usual
/// place: its messages are what a person needs.
/// <https://docs.aws.amazon.com/Route53/latest/APIReference/API_ChangeResourceRecordSets.html#API_ChangeResourceRecordSets_Errors>
fn bare_messages(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body.get(..body.len().min(16 * 1024))?).ok()?;
    let said: Vec<&str> = text
        .split("<Message>")
        .skip(1)
        .filter_map(|part| part.split("</Message>").next())
        .filter(|part| !part.trim().is_empty())
        .collect();
    (!said.is_empty()).then(|| shortened(&said.join("; ")))
}

/// What a service says may be a page long.
fn shortened(text: &str) -> String {
    const LIMIT: usize = 1000;
    if text.chars().count() <= LIMIT {
        return text.to_owned();
    }
    text.chars().take(LIMIT).chain("...".chars()).collect()
}

/// `error` and its sources on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = inner.source();
    }
    shortened(&text)
}

fn source<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref::<T>() {
            return Some(found);
        }
        next = inner.source();
    }
    None
}

/// Whether credentials are missing only because whoever gives them did not answer, such as a lost Region's STS.
pub(crate) fn unreachable(error: &CredentialsError) -> bool {
    let said = chain(error).to_lowercase();
    matches!(error, CredentialsError::ProviderTimedOut(_))
        || ["timeout", "timed out", "dispatch failure", "(connect)", "dns error", "connection"]
            .iter()
            .any(|mark| said.contains(mark))
}

/// The error for a member that the service always sends and did not.
pub(super) fn lacks(api: &str, member: &str) -> Error {
    Error::unavailable(format!("{api}: the answer has no {member}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_kind() {
        use ErrorKind as K;
        for (code, status, mutates, kind) in [
            ("DBInstanceNotFound", 404, false, K::NotFound),
            ("DBInstanceNotFoundFault", 404, false, K::NotFound),
            ("InvalidDBInstanceState", 400, true, K::Conflict),
            ("InvalidDBInstanceStateFault", 400, true, K::Conflict),
            ("DBInstanceAlreadyExists", 400, true, K::Conflict),
            ("InvalidParameterCombination", 400, true, K::Invalid),
            ("ResourceInUseException", 409, true, K::Conflict),
            ("ResourceNotFoundException", 404, false, K::NotFound),
            ("InvalidParameterException", 400, true, K::Invalid),
            ("ServerException", 500, true, K::InDoubt),
            ("ServerException", 500, false, K::Unavailable),
            ("NoSuchHostedZone", 404, false, K::NotFound),
            ("NoSuchChange", 404, false, K::NotFound),
            ("InvalidChangeBatch", 400, true, K::Invalid),
            ("InvalidInput", 400, true, K::Invalid),
            // Route 53 answers it with status 400: it is no mistake of ours.
            ("PriorRequestNotComplete", 400, true, K::Conflict),
            ("Throttling", 400, true, K::Throttled),
            ("ThrottlingException", 400, false, K::Throttled),
            ("TooManyRequestsException", 429, false, K::Throttled),
            ("AccessDenied", 403, true, K::Denied),
            ("AccessDeniedException", 400, false, K::Denied),
            ("ExpiredToken", 403, false, K::Denied),
            ("InvalidClientTokenId", 403, false, K::Denied),
            ("UnrecognizedClientException", 400, false, K::Denied),
            ("ForbiddenException", 403, false, K::Denied),
            ("ServiceUnavailable", 503, true, K::InDoubt),
            ("ServiceUnavailableException", 503, false, K::Unavailable),
            ("", 503, true, K::InDoubt),
            ("", 502, false, K::Unavailable),
            ("", 404, false, K::NotFound),
            ("", 400, true, K::Invalid),
            ("Whatever", 418, true, K::Invalid),
            ("", 302, true, K::InDoubt),
        ] {
            assert_eq!(kind_of(code, status, mutates), kind, "{code:?} {status} mutates={mutates}");
        }
    }

    #[test]
    fn a_refused_batch_keeps_its_reasons() {
        let body = b"<InvalidChangeBatch><Messages><Message>first</Message><Message>second</Message></Messages></InvalidChangeBatch>";
        assert_eq!(bare_messages(body).as_deref(), Some("first; second"));
        assert_eq!(bare_messages(b"<html>Bad Gateway</html>"), None);
    }
}
