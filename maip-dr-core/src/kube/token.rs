//! The bearer token of EKS, made here: a pre-signed question "who am I?" that the cluster asks in our name.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::id::RegionId;

/// `k8s-aws-v1.` and the URL of a GetCallerIdentity at the Region's own STS, good for 60 s as a URL and for a
/// quarter of an hour as a token. Pure arithmetic: no call is made, whatever AWS_ENDPOINT_URL says.
/// <https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>
pub(super) fn eks_token(
    credentials: Credentials,
    region: &RegionId,
    cluster: &str,
    at: Timestamp,
) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::internal(format!("cannot sign a token for cluster {cluster}: {e}"))
    };
    let suffix = if region.as_str().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let host = format!("sts.{region}.{suffix}");
    let url = format!("https://{host}/?Action=GetCallerIdentity&Version=2011-06-15");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region.as_str())
        .name("sts")
        .time(UNIX_EPOCH + Duration::from_millis(at.as_millisecond().unsigned_abs()))
        .settings(settings)
        .build()
        .map_err(|e| failed(&e))?
        .into();
    let headers = [("host", host.as_str()), ("x-k8s-aws-id", cluster)];
    let request = SignableRequest::new("GET", url.as_str(), headers.into_iter(), SignableBody::empty())
        .map_err(|e| failed(&e))?;
    let (instructions, _) = sign(request, &params).map_err(|e| failed(&e))?.into_parts();
    let mut signed = url;
    for (name, value) in instructions.params() {
        signed.push('&');
        signed.push_str(name);
        signed.push('=');
        signed.push_str(&escaped(value));
    }
    Ok(format!("k8s-aws-v1.{}", BASE64_URL_SAFE_NO_PAD.encode(signed)))
}

/// Percent-encoded as SigV4 wants it: everything but letters, digits and `-_.~`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(session: Option<&str>) -> String {
        let credentials =
            Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI", session.map(str::to_owned), None, "test");
        let at = "2026-11-23T03:12:00Z".parse().unwrap();
        let token = eks_token(credentials, &RegionId::from("us-west-2"), "dr", at).unwrap();
        let encoded = token.strip_prefix("k8s-aws-v1.").unwrap();
        assert!(!encoded.contains('='), "no padding");
        String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
    }

    #[test]
    fn it_names_the_regions_own_sts_and_signs_the_clusters_name() {
        let url = url(None);
        assert!(
            url.starts_with(
                "https://sts.us-west-2.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&"
            ),
            "{url}"
        );
        for part in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "X-Amz-Credential=AKIDEXAMPLE%2F20261123%2Fus-west-2%2Fsts%2Faws4_request",
            "X-Amz-Date=20261123T031200Z",
            "X-Amz-Expires=60",
            "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id",
            "X-Amz-Signature=",
        ] {
            assert!(url.contains(part), "{part} is not in {url}");
        }
        assert!(!url.contains("wJalrXUtnFEMI"));
    }

    #[test]
    fn a_session_goes_with_it() {
        assert!(url(Some("tok/en+")).contains("X-Amz-Security-Token=tok%2Fen%2B"));
    }
}
