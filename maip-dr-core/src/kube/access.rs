//! How a cluster is reached: by a kubeconfig, or by what EKS says of it and a token made here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Mutex, OnceCell};

use crate::clock::{Clock, SystemClock, after, timeout};
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::kube::token;
use crate::service::{ClusterDescription, NodeGroupService};

/// A server that may be dead is not waited for: TCP in two seconds, no silence longer than five.
const CONNECT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(5);
/// A program that gives credentials, such as `aws eks get-token`, ends within so long.
const PROGRAM: Duration = Duration::from_secs(6);
/// A token is good for fourteen minutes; it is renewed well before.
/// <https://github.com/aws/aws-cli/blob/develop/awscli/customizations/eks/get_token.py>
const TOKEN_AGE: Duration = Duration::from_secs(10 * 60);

/// How a cluster is reached.
#[derive(Debug)]
pub enum Access {
    /// A kubeconfig file and the context in it (absent = its current one).
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context.
        context: Option<String>,
    },
    /// EKS.
    Eks(EksAccess),
}

/// What an EKS cluster's client is made from.
#[derive(Debug)]
pub struct EksAccess {
    /// Its Region.
    pub region: RegionId,
    /// Its name.
    pub name: String,
    /// Where endpoint and CA are asked for.
    pub service: Arc<dyn NodeGroupService>,
    /// Whom the token names.
    pub credentials: SharedCredentialsProvider,
}

/// A client that is made on first use and renewed before its token runs out.
#[derive(Debug)]
pub(super) struct Connection {
    access: Access,
    clock: Arc<dyn Clock>,
    description: OnceCell<ClusterDescription>,
    client: Mutex<Option<(Made, Timestamp)>>,
}

/// [`Client`] has no `Debug`.
#[derive(Clone)]
struct Made(Client);

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Connection {
    pub(super) fn new(access: Access, clock: Arc<dyn Clock>) -> Self {
        Self { access, clock, description: OnceCell::new(), client: Mutex::new(None) }
    }

    /// A connection that is there already, for tests.
    #[cfg(test)]
    pub(super) fn ready(client: Client) -> Self {
        let access = Access::Kubeconfig { path: PathBuf::new(), context: None };
        let made = Self::new(access, Arc::new(crate::clock::SystemClock));
        Self { client: Mutex::new(Some((Made(client), Timestamp::MAX))), ..made }
    }

    /// The client, with a token that is good for minutes to come.
    pub(super) async fn client(&self) -> Result<Client> {
        let mut kept = self.client.lock().await;
        if let Some((client, until)) = &*kept
            && self.clock.now() < *until
        {
            return Ok(client.0.clone());
        }
        let (mut config, until) = match &self.access {
            Access::Kubeconfig { path, context } => {
                (from_kubeconfig(path, context.clone()).await?, Timestamp::MAX)
            }
            Access::Eks(eks) => (self.described(eks).await?, after(self.clock.now(), TOKEN_AGE)),
        };
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        config.write_timeout = Some(SILENCE);
        // A kubeconfig may name a program that gives the token; it is waited for, but not for ever, and not here.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config));
        let client = timeout(&SystemClock, PROGRAM, made)
            .await
            .map_err(|e| e.context("the program that gives the cluster's credentials does not answer"))?
            .map_err(|e| Error::internal(format!("cannot make a Kubernetes client: {e}")))?
            .map_err(|e| Error::invalid(format!("cannot make a Kubernetes client: {e}")))?;
        *kept = Some((Made(client.clone()), until));
        Ok(client)
    }

    /// Forgets a token that was refused.
    pub(super) async fn renew(&self) {
        if matches!(self.access, Access::Eks(_)) {
            *self.client.lock().await = None;
        }
    }

    async fn described(&self, eks: &EksAccess) -> Result<Config> {
        let described = self.description.get_or_try_init(|| eks.service.cluster(&eks.name)).await?;
        let endpoint = described.endpoint.as_deref().ok_or_else(|| {
            Error::unavailable(format!(
                "cluster {} has no endpoint yet: it is {}",
                eks.name, described.status
            ))
        })?;
        let given = timeout(&SystemClock, SILENCE, eks.credentials.provide_credentials()).await?;
        let credentials = given.map_err(|e| {
            // Whether it is our fault or that of an STS which is lost, the calls to AWS itself will tell.
            let base = match e {
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                    Error::denied
                }
                _ => Error::unavailable,
            };
            base(format!("no AWS credentials for a token of cluster {}", eks.name)).caused_by(e)
        })?;
        let token = token::eks_token(credentials, &eks.region, &eks.name, self.clock.now())?;
        let mut cluster = json!({ "server": endpoint });
        if let Some(pem) = &described.certificate_authority {
            cluster["certificate-authority-data"] = json!(BASE64_STANDARD.encode(pem));
        }
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{ "name": "eks", "cluster": cluster }],
            "users": [{ "name": "eks", "user": { "token": token } }],
            "contexts": [{ "name": "eks", "context": { "cluster": "eks", "user": "eks" } }],
            "current-context": "eks",
        }))
        .map_err(|_| Error::internal("the access to the cluster cannot be described"))?;
        // The token is in it: the error's own text is not repeated.
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|_| Error::invalid(format!("endpoint or CA of cluster {} cannot be read", eks.name)))
    }
}

async fn from_kubeconfig(path: &PathBuf, context: Option<String>) -> Result<Config> {
    let shown = path.display();
    let file = Kubeconfig::read_from(path).map_err(|e| {
        Error::invalid(format!("kubeconfig {shown} cannot be read: {e}"))
            .hint("check `kubeconfig` in the topology")
    })?;
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(file, &options).await.map_err(|e| {
        let which = context.map(|c| format!("context {c} of ")).unwrap_or_default();
        Error::invalid(format!("{which}kubeconfig {shown} cannot be used: {e}"))
            .hint("`kubectl config get-contexts` lists what it has")
    })
}
