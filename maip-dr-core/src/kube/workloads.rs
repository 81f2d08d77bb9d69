//! [`WorkloadService`] over one cluster.

use std::fmt::Debug;
use std::sync::Arc;

use ::kube::Client;
use ::kube::api::{Api, ListParams, ObjectList, Patch, PatchParams, WatchEvent, WatchParams};
use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Namespace, Node as KubeNode, Pod};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::kube::access::{Access, Connection};
use crate::kube::convert::{self, Owners, RESTARTED_BY};
use crate::kube::errors::{Call, convert};
use crate::service::{Listing, Node, PodProblem, Scope, Workload, WorkloadKind, WorkloadService};

/// A list of pods that cannot start is cut there: it is read by a person.
const PROBLEMS: usize = 50;

/// A workload, and the versions of it and of its autoscaler that were seen.
struct Seen {
    workload: Workload,
    version: Option<String>,
    owner_version: Option<String>,
}

/// What runs in one cluster.
#[derive(Debug)]
pub struct KubeWorkloads {
    connection: Connection,
}

impl KubeWorkloads {
    /// Costs nothing: the client is made on first use.
    pub fn new(access: Access, clock: Arc<dyn Clock>) -> Self {
        Self { connection: Connection::new(access, clock) }
    }

    #[cfg(test)]
    pub(super) fn over(client: Client) -> Self {
        Self { connection: Connection::ready(client) }
    }

    /// A read; once more with a new token where the old one was refused.
    async fn read<T, F>(&self, what: &str, call: impl Fn(Client) -> F + Send + Sync) -> Result<T>
    where
        T: Send,
        F: Future<Output = ::kube::Result<T>> + Send,
    {
        match call(self.connection.client().await?).await {
            Err(::kube::Error::Api(status)) if status.code == 401 => {
                self.connection.renew().await;
                call(self.connection.client().await?).await
            }
            other => other,
        }
        .map_err(|e| convert(&e, what, Call::Read))
    }

    async fn list<K>(&self, what: &str, api: impl Fn(Client) -> Api<K> + Send + Sync) -> Result<ObjectList<K>>
    where
        K: Clone + DeserializeOwned + Debug + Send + 'static,
    {
        self.read(what, |client| {
            let api = api(client);
            async move { api.list(&ListParams::default()).await }
        })
        .await
    }

    /// An absent namespace lists as empty, so it is asked for by name.
    async fn namespace(&self, namespace: &str) -> Result<()> {
        self.read("get namespace", |client| async move {
            Api::<Namespace>::all(client).get(namespace).await.map(drop)
        })
        .await
        .map_err(|e| {
            if e.kind == ErrorKind::NotFound {
                Error::not_found(format!("there is no namespace {namespace}"))
                    .hint("check `workloads` in the topology")
            } else {
                e
            }
        })
    }

    async fn owners(&self, namespace: &str) -> Result<Owners> {
        let all = self
            .list("list horizontalpodautoscalers", |c| {
                Api::<HorizontalPodAutoscaler>::namespaced(c, namespace)
            })
            .await?;
        Ok(convert::owners(&all.items))
    }

    async fn one(&self, namespace: &str, kind: WorkloadKind, name: &str) -> Result<Seen> {
        let owners = self.owners(namespace).await?;
        let (workload, version, owner) = match kind {
            WorkloadKind::Deployment => {
                let get =
                    |client| async move { Api::<Deployment>::namespaced(client, namespace).get(name).await };
                let object = self.read("get deployment", get).await?;
                (convert::deployment(&object, &owners), object.metadata.resource_version, "Deployment")
            }
            WorkloadKind::StatefulSet => {
                let get =
                    |client| async move { Api::<StatefulSet>::namespaced(client, namespace).get(name).await };
                let object = self.read("get statefulset", get).await?;
                (convert::stateful_set(&object, &owners), object.metadata.resource_version, "StatefulSet")
            }
        };
        let owner = owners.get(&(owner.to_owned(), name.to_owned()));
        Ok(Seen { workload, version, owner_version: owner.and_then(|o| o.version.clone()) })
    }

    /// Patches what was seen, and only that: a newer version is a conflict.
    async fn raise_once(
        &self,
        namespace: &str,
        kind: WorkloadKind,
        name: &str,
        seen: &Seen,
        replicas: u32,
    ) -> Result<()> {
        let failed = |e: ::kube::Error| convert(&e, "patch scale", Call::Mutating);
        let client = self.connection.client().await.map_err(only_read)?;
        let Seen { workload, version, owner_version } = seen;
        if let Some(owner) = workload.autoscaler.as_ref().filter(|owner| owner.min < replicas) {
            let patch = json!({ "metadata": { "resourceVersion": owner_version },
                "spec": { "minReplicas": replicas, "maxReplicas": owner.max.max(replicas) } });
            let api = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
            let patched = api.patch(&owner.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(failed)?;
        }
        // At 0 replicas an autoscaler is switched off: it has to be begun by hand.
        let by_hand = workload.autoscaler.is_none() || workload.replicas == 0;
        if by_hand && workload.replicas < replicas {
            let patch =
                json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": replicas } });
            scale(client, namespace, kind, name, &patch).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn watch<K>(&self, api: impl Fn(Client) -> Api<K> + Send, version: &str) -> Result<()>
    where
        K: Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let api = api(self.connection.client().await?);
        let parameters = WatchParams::default();
        let started = api.watch(&parameters, version).await.map_err(|e| convert(&e, "watch", Call::Read));
        let events = match started {
            Ok(events) => events,
            // Too old a mark: whatever happened since, it has changed.
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            if !matches!(event, Ok(WatchEvent::Bookmark(_))) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A read inside a mutating verb leaves nothing in doubt.
fn only_read(e: Error) -> Error {
    if e.kind == ErrorKind::InDoubt { Error { kind: ErrorKind::Unavailable, ..e } } else { e }
}

#[async_trait]
impl WorkloadService for KubeWorkloads {
    async fn ready(&self) -> Result<()> {
        self.read("get /readyz", |client| async move {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(::kube::Error::HttpError)?;
            client.request_text(request).await.map(drop)
        })
        .await
    }

    async fn nodes(&self) -> Result<Listing<Node>> {
        let all = self.list("list nodes", Api::<KubeNode>::all).await?;
        Ok(Listing {
            items: all.items.iter().map(convert::node).collect(),
            version: all.metadata.resource_version.unwrap_or_default(),
        })
    }

    async fn deployments(&self, namespace: &str) -> Result<Listing<Workload>> {
        let (_, owners, all) = futures::try_join!(
            self.namespace(namespace),
            self.owners(namespace),
            self.list("list deployments", |c| Api::<Deployment>::namespaced(c, namespace)),
        )?;
        let items = all.items.iter().map(|d| convert::deployment(d, &owners)).collect();
        Ok(Listing { items, version: all.metadata.resource_version.unwrap_or_default() })
    }

    async fn stateful_sets(&self, namespace: &str) -> Result<Listing<Workload>> {
        let (_, owners, all) = futures::try_join!(
            self.namespace(namespace),
            self.owners(namespace),
            self.list("list statefulsets", |c| Api::<StatefulSet>::namespaced(c, namespace)),
        )?;
        let items = all.items.iter().map(|d| convert::stateful_set(d, &owners)).collect();
        Ok(Listing { items, version: all.metadata.resource_version.unwrap_or_default() })
    }

    async fn raise(&self, namespace: &str, kind: WorkloadKind, name: &str, replicas: u32) -> Result<()> {
        // Somebody else may write between our look and our patch; then the look is repeated, never the lowering.
        for _ in 0..3 {
            let seen = self.one(namespace, kind, name).await.map_err(only_read)?;
            if let Some(why) = &seen.workload.keep {
                return Err(Error::refused(format!("{name} is left alone: {why}")));
            }
            match self.raise_once(namespace, kind, name, &seen, replicas).await {
                Err(e) if e.kind == ErrorKind::Conflict => {}
                other => return other,
            }
        }
        Err(Error::conflict(format!("{name} in {namespace} changed at every try")))
    }

    async fn restart(&self, namespace: &str, name: &str, token: &str) -> Result<()> {
        let Seen { workload, .. } =
            self.one(namespace, WorkloadKind::Deployment, name).await.map_err(only_read)?;
        if workload.restart_token.as_deref() == Some(token) {
            return Ok(());
        }
        let client = self.connection.client().await.map_err(only_read)?;
        let patch =
            json!({ "spec": { "template": { "metadata": { "annotations": { RESTARTED_BY: token } } } } });
        let api = Api::<Deployment>::namespaced(client, namespace);
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(drop).map_err(|e| convert(&e, "patch deployment", Call::Mutating))
    }

    async fn problems(&self, namespace: &str) -> Result<Vec<PodProblem>> {
        let pods = self.list("list pods", |c| Api::<Pod>::namespaced(c, namespace)).await?;
        let mut problems: Vec<PodProblem> = pods.items.iter().filter_map(convert::problem).collect();
        problems.sort_by(|a, b| a.pod.cmp(&b.pod));
        problems.truncate(PROBLEMS);
        Ok(problems)
    }

    async fn changed(&self, scope: &Scope, version: &str) -> Result<()> {
        match scope {
            Scope::Nodes => self.watch(Api::<KubeNode>::all, version).await,
            Scope::Deployments(namespace) => {
                self.watch(|c| Api::<Deployment>::namespaced(c, namespace), version).await
            }
            Scope::StatefulSets(namespace) => {
                self.watch(|c| Api::<StatefulSet>::namespaced(c, namespace), version).await
            }
        }
    }
}

async fn scale(
    client: Client,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
    patch: &Value,
) -> ::kube::Result<()> {
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    match kind {
        WorkloadKind::Deployment => {
            Api::<Deployment>::namespaced(client, namespace).patch_scale(name, &parameters, &patch).await
        }
        WorkloadKind::StatefulSet => {
            Api::<StatefulSet>::namespaced(client, namespace).patch_scale(name, &parameters, &patch).await
        }
    }
    .map(drop)
}
