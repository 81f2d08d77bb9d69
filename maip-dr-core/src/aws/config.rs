//! How a Region is reached: credentials, endpoint, and the patience that a Region deserves that may be dead.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use crate::aws::errors::chain;
use crate::clock::{SystemClock, timeout};
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::topology::RegionAccess;

/// TCP and TLS to an endpoint of a healthy Region take well under a second from anywhere.
const CONNECT: Duration = Duration::from_secs(2);
/// A read that has not been answered by then is asked once more.
const READ_ATTEMPT: Duration = Duration::from_secs(3);
/// A read is over by then, so that four signals side by side give a verdict within ten seconds.
const READ: Duration = Duration::from_secs(5);
/// A mutating call is sent once and waited for longer: giving up early leaves a doubt.
const MUTATE: Duration = Duration::from_secs(15);

/// One Region's configuration, for calls that read and for calls that change something. They share connections.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    pub(super) region: RegionId,
    pub(super) read: SdkConfig,
    pub(super) mutate: SdkConfig,
    pub(super) credentials: SharedCredentialsProvider,
}

impl Reach {
    /// Loads what `access` names. The only calls are those of the credential chain.
    pub(super) async fn of(region: RegionId, access: &RegionAccess) -> Result<Self> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.as_str().to_owned()))
            .timeout_config(patience(READ_ATTEMPT, READ))
            // Asked once more at once: the usual pause of up to a second is a tenth of the verdict's time.
            .retry_config(
                RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(100)),
            );
        if let Some(profile) = &access.profile {
            // Named, it is what is used: keys that happen to be in the environment may be another account's.
            let region = aws_config::Region::new(region.as_str().to_owned());
            let named = ProfileFileCredentialsProvider::builder()
                .configure(
                    &ProviderConfig::without_region()
                        .with_region(Some(region))
                        .with_timeout_config(patience(READ_ATTEMPT, READ)),
                )
                .profile_name(profile)
                .build();
            loader = loader.profile_name(profile).credentials_provider(named);
        }
        if let Some(url) = &access.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let base = loader.load().await;
        let own = base.credentials_provider().ok_or_else(|| no_credentials(&region, access))?;
        // Only what no Region's recovery would mend ends it here: a sign-in that goes through a lost Region fails the
        // calls to that Region, and no others.
        if let Ok(Err(error)) = timeout(&SystemClock, READ, own.provide_credentials()).await
            && matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
            )
        {
            return Err(unusable(&error, &region, access));
        }
        let read = match &access.role_arn {
            None => base,
            Some(role) => {
                // The Region's own STS; the global endpoint is in us-east-1.
                let assumed = AssumeRoleProvider::builder(role)
                    .region(aws_config::Region::new(region.as_str().to_owned()))
                    .session_name("maip-dr")
                    .configure(&base)
                    .build()
                    .await;
                base.into_builder().credentials_provider(SharedCredentialsProvider::new(assumed)).build()
            }
        };
        let credentials = read.credentials_provider().ok_or_else(|| no_credentials(&region, access))?;
        let mutate = read
            .to_builder()
            .timeout_config(patience(MUTATE, MUTATE))
            .retry_config(RetryConfig::disabled())
            .build();
        Ok(Self { region, read, mutate, credentials })
    }

    /// The same Region reached with another Region's credentials: those of a role are asked for at a Region's STS,
    /// and Route 53 must be reached when the STS beside it is lost.
    pub(super) fn with_credentials_of(&self, other: &Self) -> Self {
        let with =
            |config: &SdkConfig| config.to_builder().credentials_provider(other.credentials.clone()).build();
        Self {
            region: self.region.clone(),
            read: with(&self.read),
            mutate: with(&self.mutate),
            credentials: other.credentials.clone(),
        }
    }

    /// A client's configuration over a connection that answers from a script.
    #[cfg(test)]
    pub(super) fn scripted(client: impl aws_smithy_runtime_api::client::http::HttpClient + 'static) -> Self {
        use aws_credential_types::Credentials;
        let credentials =
            SharedCredentialsProvider::new(Credentials::new("AKIDTEST", "secret", None, None, "test"));
        let read = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_config::Region::new("us-west-2"))
            .credentials_provider(credentials.clone())
            .http_client(client)
            .retry_config(RetryConfig::disabled())
            .build();
        Self { region: RegionId::from("us-west-2"), mutate: read.clone(), read, credentials }
    }
}

fn patience(attempt: Duration, whole: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(whole)
        .build()
}

fn no_credentials(region: &RegionId, access: &RegionAccess) -> Error {
    let source = access.profile.as_ref().map_or_else(
        || "the environment, the shared configuration and the instance's role".to_owned(),
        |p| format!("profile {p}"),
    );
    Error::denied(format!("no AWS credentials for {region}: none in {source}"))
        .hint("`aws sts get-caller-identity` shows what the same settings give the aws command; `aws sso login` renews a session")
        .with("region", region)
}

fn unusable(error: &CredentialsError, region: &RegionId, access: &RegionAccess) -> Error {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => no_credentials(region, access),
        _ => {
            let e = no_credentials(region, access);
            Error { message: format!("the AWS credentials for {region} cannot be used"), ..e }
                .caused_by(chain(error))
        }
    }
}
