//! What a Kubernetes failure means: one table.

use crate::error::{Error, ErrorKind};

/// Which sort of call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// It changes nothing.
    Read,
    /// It changes something.
    Mutating,
}

/// The kind of an HTTP status.
pub(super) fn kind_of_status(code: u16, call: Call) -> ErrorKind {
    match code {
        401 | 403 => ErrorKind::Denied,
        404 | 410 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        400 | 405 | 406 | 413 | 415 | 422 => ErrorKind::Invalid,
        429 => ErrorKind::Throttled,
        // It may have been performed before the server failed.
        500..=599 if call == Call::Mutating => ErrorKind::InDoubt,
        500..=599 => ErrorKind::Unavailable,
        _ if call == Call::Mutating => ErrorKind::InDoubt,
        _ => ErrorKind::Unavailable,
    }
}

/// The kind of a failure without an answer: was the request sent?
fn kind_of_transport(text: &str, call: Call) -> ErrorKind {
    // The connection was never made: the server saw nothing of it.
    let unsent =
        text.contains("(Connect)") || text.contains("onnection refused") || text.contains("dns error");
    if call == Call::Read || unsent { ErrorKind::Unavailable } else { ErrorKind::InDoubt }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

/// `error` of `what` (such as `list nodes`) as one of ours.
pub(super) fn convert(error: &::kube::Error, what: &str, call: Call) -> Error {
    match error {
        ::kube::Error::Api(status) => {
            let kind = kind_of_status(status.code, call);
            let made = Error::new(kind, format!("{what}: {}", status.message))
                .with("api", format!("kubernetes:{what}"));
            match status.code {
                401 => made.hint("the cluster does not know this identity: it needs an EKS access entry, or another kubeconfig user"),
                403 => made.hint("give this identity the Role of the documentation in the namespace that is named"),
                _ => made,
            }
        }
        ::kube::Error::SerdeError(e) => {
            let kind = if call == Call::Mutating { ErrorKind::InDoubt } else { ErrorKind::Unavailable };
            Error::new(kind, format!("{what}: the answer is not what a Kubernetes API says: {e}"))
        }
        other => {
            let text = chain(other);
            let said = if text.contains("deadline") || text.contains("imed out") {
                "no answer in time"
            } else {
                text.as_str()
            };
            let kind = kind_of_transport(&text, call);
            Error::new(kind, format!("{what}: {said}")).with("api", format!("kubernetes:{what}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_kind() {
        use Call::{Mutating, Read};
        use ErrorKind as K;
        for (code, call, kind) in [
            (401, Read, K::Denied),
            (403, Mutating, K::Denied),
            (404, Read, K::NotFound),
            (409, Mutating, K::Conflict),
            (422, Mutating, K::Invalid),
            (400, Read, K::Invalid),
            (429, Mutating, K::Throttled),
            (500, Read, K::Unavailable),
            (503, Mutating, K::InDoubt),
            (504, Mutating, K::InDoubt),
            (302, Read, K::Unavailable),
        ] {
            assert_eq!(kind_of_status(code, call), kind, "{code} {call:?}");
        }
        assert_eq!(kind_of_transport("client error (Connect): tcp connect error", Mutating), K::Unavailable);
        assert_eq!(kind_of_transport("connection reset by peer", Mutating), K::InDoubt);
        assert_eq!(kind_of_transport("connection reset by peer", Read), K::Unavailable);
    }
}
