//! The service traits over the simulated world.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::region::{Region, World};
use crate::service::*;
use crate::sim::clock::SimClock;
use crate::sim::probe::AUTHORITIES;
use crate::sim::scenario::FaultKind;
use crate::sim::state::{ACCOUNT, Mutation, WorldState};
use crate::sim::store::Store;
use crate::topology::{NotifyTarget, Topology};

/// The world's services, as the engine sees them.
pub(super) fn world(store: &Arc<Store>, clock: &Arc<SimClock>, topology: &Arc<Topology>) -> World {
    let home = RegionId::from("us-east-1");
    let at =
        |id: &RegionId| Arc::new(SimRegion { id: id.clone(), store: store.clone(), clock: clock.clone() });
    let global = at(&home);
    let regions: BTreeMap<RegionId, Arc<dyn Region>> =
        topology.region_ids().map(|id| (id.clone(), at(id) as Arc<dyn Region>)).collect();
    World {
        name: "sandbox",
        regions,
        dns: global.clone(),
        dns_region: home,
        probe: global.clone(),
        notify: global,
        clock: clock.clone(),
    }
}

/// One Region, and every service of it.
#[derive(Debug, Clone)]
struct SimRegion {
    id: RegionId,
    store: Arc<Store>,
    clock: Arc<SimClock>,
}

/// One cluster of one Region.
#[derive(Debug)]
struct SimCluster {
    at: SimRegion,
    cluster: String,
}

impl SimRegion {
    /// A call that changes nothing.
    async fn read<T: Send>(
        &self,
        api: &str,
        f: impl FnOnce(&mut WorldState) -> Result<T> + Send,
    ) -> Result<T> {
        self.call(api, None, f).await
    }

    /// A call as a client meets it: latency, silence and faults first.
    async fn call<T: Send>(
        &self,
        api: &str,
        mutates: Option<&str>,
        f: impl FnOnce(&mut WorldState) -> Result<T> + Send,
    ) -> Result<T> {
        let (latency, silence) = self.store.with(|s| (s.durations().call.0, s.durations().silence.0))?;
        self.clock.sleep(latency).await;
        let answer =
            self.store.with(|state| match (state.strike(&self.id, api, mutates.is_some()), mutates) {
                (None, None) => Answer::Of(f(state)),
                (None, Some(resource)) => Answer::Of(performed(state, &self.id, api, resource, f)),
                (Some(FaultKind::LostAnswer), Some(resource)) => {
                    // Refused calls lose their answers too; whichever it was, the client does not know.
                    let _ = performed(state, &self.id, api, resource, f);
                    Answer::Lost
                }
                (Some(fault), _) => Answer::Struck(fault),
            })?;
        let silent = || {
            Error::unavailable(format!(
                "{api} in {}: no answer within {}",
                self.id,
                crate::duration::Span(silence)
            ))
        };
        match answer {
            Answer::Of(result) => result,
            Answer::Lost => {
                self.clock.sleep(silence).await;
                Err(Error::in_doubt(format!("{api} in {}: the answer was lost", self.id)))
            }
            Answer::Struck(FaultKind::Silent | FaultKind::LostAnswer) => {
                self.clock.sleep(silence).await;
                Err(silent())
            }
            Answer::Struck(FaultKind::Throttle) => {
                Err(Error::throttled(format!("{api} in {}: rate exceeded", self.id)))
            }
            Answer::Struck(FaultKind::Error) => {
                Err(Error::unavailable(format!("{api} in {}: internal failure", self.id)))
            }
            Answer::Struck(FaultKind::Deny) => {
                Err(Error::denied(format!("{api} in {}: access denied", self.id))
                    .hint(format!("allow {api} to the role that runs maip-dr")))
            }
        }
    }
}

enum Answer<T> {
    Of(Result<T>),
    Lost,
    Struck(FaultKind),
}

fn performed<T>(
    state: &mut WorldState,
    region: &RegionId,
    api: &str,
    resource: &str,
    f: impl FnOnce(&mut WorldState) -> Result<T>,
) -> Result<T> {
    let result = f(state);
    if result.is_ok() {
        let at = state.now;
        state.mutations.push(Mutation {
            at,
            region: region.clone(),
            api: api.to_owned(),
            resource: resource.to_owned(),
        });
    }
    result
}

impl Region for SimRegion {
    fn id(&self) -> &RegionId {
        &self.id
    }
    fn identity(&self) -> Arc<dyn IdentityService> {
        Arc::new(self.clone())
    }
    fn database(&self) -> Arc<dyn DatabaseService> {
        Arc::new(self.clone())
    }
    fn node_groups(&self) -> Arc<dyn NodeGroupService> {
        Arc::new(self.clone())
    }
    fn workloads(&self, cluster: &str) -> Result<Arc<dyn WorkloadService>> {
        let there =
            self.store.with(|s| s.region(&self.id).is_ok_and(|r| r.clusters.contains_key(cluster)))?;
        if !there {
            return Err(Error::not_found(format!("there is no cluster `{cluster}` in {}", self.id)));
        }
        Ok(Arc::new(SimCluster { at: self.clone(), cluster: cluster.to_owned() }))
    }
    fn streams(&self) -> Arc<dyn StreamService> {
        Arc::new(self.clone())
    }
    fn tables(&self) -> Arc<dyn TableService> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl IdentityService for SimRegion {
    async fn caller(&self) -> Result<Caller> {
        let account = self.read("sts:GetCallerIdentity", |s| Ok(s.topology.access(&self.id).account)).await?;
        let account = account.unwrap_or_else(|| ACCOUNT.to_owned());
        Ok(Caller { arn: format!("arn:aws:iam::{account}:role/sandbox"), account })
    }
}

#[async_trait]
impl DatabaseService for SimRegion {
    async fn describe(&self, id: &str) -> Result<Instance> {
        self.read("rds:DescribeDBInstances", |s| s.instance(&self.id, id)).await
    }
    async fn promote(&self, id: &str, retention_days: u32) -> Result<()> {
        self.call("rds:PromoteReadReplica", Some(id), |s| s.promote(&self.id, id, retention_days)).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.call("rds:ModifyDBInstance", Some(from), |s| s.rename(&self.id, from, to)).await
    }
    async fn replica_lag(&self, id: &str, since: Timestamp) -> Result<Vec<LagSample>> {
        self.read("cloudwatch:GetMetricData", |s| s.lag(&self.id, id, since)).await
    }
    async fn events(&self, id: &str, since: Timestamp) -> Result<Vec<DatabaseEvent>> {
        let events = self.read("rds:DescribeEvents", |s| s.db_events(&self.id, id, since)).await?;
        Ok(events.into_iter().map(|(at, message)| DatabaseEvent { at, message }).collect())
    }
}

impl SimRegion {
    /// The logical cluster that is called `name` in the cloud.
    fn logical(state: &WorldState, region: &RegionId, name: &str) -> Result<String> {
        let clusters = &state.region(region)?.clusters;
        let found = clusters.iter().find(|(_, c)| c.name == name).map(|(logical, _)| logical.clone());
        found.ok_or_else(|| Error::not_found(format!("there is no cluster {name} in {region}")))
    }
}

#[async_trait]
impl NodeGroupService for SimRegion {
    async fn cluster(&self, name: &str) -> Result<ClusterDescription> {
        self.read("eks:DescribeCluster", |s| Self::logical(s, &self.id, name)).await?;
        Ok(ClusterDescription {
            name: name.to_owned(),
            status: "ACTIVE".to_owned(),
            endpoint: Some(format!("https://{name}.sandbox")),
            certificate_authority: None,
        })
    }
    async fn describe(&self, cluster: &str, group: &str) -> Result<NodeGroup> {
        self.read("eks:DescribeNodegroup", |s| {
            let logical = Self::logical(s, &self.id, cluster)?;
            s.region(&self.id)?.clusters[&logical].group(group)
        })
        .await
    }
    async fn scale(&self, cluster: &str, group: &str, scaling: Scaling, token: &str) -> Result<String> {
        self.call("eks:UpdateNodegroupConfig", Some(group), |s| {
            let logical = Self::logical(s, &self.id, cluster)?;
            let (now, d) = (s.now, s.durations().clone());
            let clusters = &mut s.region_mut(&self.id)?.clusters;
            let found = clusters.get_mut(&logical).ok_or_else(|| Error::not_found("no such cluster"))?;
            found.scale(group, scaling, token, now, &d)
        })
        .await
    }
    async fn update_status(&self, cluster: &str, group: &str, id: &str) -> Result<UpdateStatus> {
        self.read("eks:DescribeUpdate", |s| {
            let logical = Self::logical(s, &self.id, cluster)?;
            s.region(&self.id)?.clusters[&logical].update_status(group, id)
        })
        .await
    }
}

#[async_trait]
impl StreamService for SimRegion {
    async fn describe(&self, name: &str) -> Result<Stream> {
        let state = self
            .read("kafka:ListClustersV2", |s| {
                let found = s.region(&self.id)?.streams.get(name).cloned();
                found.ok_or_else(|| {
                    Error::not_found(format!("there is no Kafka cluster {name} in {}", self.id))
                })
            })
            .await?;
        Ok(Stream {
            name: name.to_owned(),
            arn: format!("arn:aws:kafka:{}:{ACCOUNT}:cluster/{name}/1", self.id),
            state,
        })
    }
}

#[async_trait]
impl TableService for SimRegion {
    async fn describe(&self, name: &str) -> Result<Table> {
        self.read("dynamodb:DescribeTable", |s| s.table(&self.id, name)).await
    }
    async fn replication_latency(
        &self,
        name: &str,
        receiving: &RegionId,
        since: Timestamp,
    ) -> Result<Vec<LatencySample>> {
        self.read("cloudwatch:GetMetricData", |s| {
            // Metrics know no names: what is not there has no samples.
            let there = s.table(&self.id, name).is_ok() && s.region(receiving).is_ok();
            Ok(if there { s.latency(&self.id, since) } else { Vec::new() })
        })
        .await
    }
}

#[async_trait]
impl DnsService for SimRegion {
    async fn zones(&self, name: &str) -> Result<Vec<Zone>> {
        self.read("route53:ListHostedZonesByName", |s| {
            Ok(s.zones.values().filter(|z| z.zone.name == name).map(|z| z.zone.clone()).collect())
        })
        .await
    }
    async fn zone(&self, id: &str) -> Result<Zone> {
        self.read("route53:GetHostedZone", |s| s.zone(id).map(|z| z.zone.clone())).await
    }
    async fn records(&self, zone_id: &str, name: &str) -> Result<Vec<RecordSet>> {
        self.read("route53:ListResourceRecordSets", |s| {
            Ok(s.zone(zone_id)?.records.iter().filter(|r| r.name == name).cloned().collect())
        })
        .await
    }
    async fn change(&self, zone_id: &str, _comment: &str, changes: &[RecordChange]) -> Result<String> {
        self.call("route53:ChangeResourceRecordSets", Some(zone_id), |s| s.change(zone_id, changes)).await
    }
    async fn change_status(&self, id: &str) -> Result<ChangeStatus> {
        self.read("route53:GetChange", |s| s.change_status(id)).await
    }
}

#[async_trait]
impl ProbeService for SimRegion {
    async fn http(&self, question: &HttpQuestion) -> Result<HttpAnswer> {
        let host = question.url.split("://").nth(1).unwrap_or(&question.url);
        let host = host.split(['/', ':', '?']).next().unwrap_or(host).to_owned();
        let latency = self.store.with(|s| s.durations().call.0)?;
        self.clock.sleep(latency).await;
        let answer = self.store.with(|s| s.http(&host, question.connect.as_deref()))?;
        if answer.is_err() {
            self.clock.sleep(question.limit).await;
        }
        answer
    }
    async fn dns(&self, name: &str, record_type: RecordType, server: Option<String>) -> Result<DnsAnswer> {
        self.clock.sleep(Duration::from_millis(20)).await;
        self.store.with(|s| s.dns(name, record_type, server.as_deref()))
    }
    async fn authorities(&self, _zone: &str, _resolvers: &[String]) -> Result<Vec<String>> {
        Ok(AUTHORITIES.map(str::to_owned).to_vec())
    }
}

#[async_trait]
impl NotifyService for SimRegion {
    async fn send(&self, _target: &NotifyTarget, notice: &Notice) -> Result<()> {
        self.store.with(|s| s.notices.push(notice.clone()))
    }
}

impl SimCluster {
    async fn read<T: Send>(
        &self,
        api: &str,
        f: impl FnOnce(&crate::sim::cluster::ClusterState, Timestamp, &crate::sim::Durations) -> Result<T> + Send,
    ) -> Result<T> {
        self.at
            .read(api, |s| {
                let cluster = s.region(&self.at.id)?.clusters.get(&self.cluster);
                let cluster = cluster
                    .ok_or_else(|| Error::not_found(format!("there is no cluster {}", self.cluster)))?;
                f(cluster, s.now, s.durations())
            })
            .await
    }

    async fn write<T: Send>(
        &self,
        api: &str,
        resource: &str,
        f: impl FnOnce(&mut crate::sim::cluster::ClusterState, Timestamp) -> Result<T> + Send,
    ) -> Result<T> {
        self.at
            .call(api, Some(resource), |s| {
                let (now, d, capacity) = (s.now, s.durations().clone(), s.scenario.capacity);
                let cluster = s.region_mut(&self.at.id)?.clusters.get_mut(&self.cluster);
                let cluster = cluster
                    .ok_or_else(|| Error::not_found(format!("there is no cluster {}", self.cluster)))?;
                let value = f(cluster, now)?;
                // The scheduler does not wait for the next second.
                cluster.advance(now, &d, capacity);
                Ok(value)
            })
            .await
    }
}

#[async_trait]
impl WorkloadService for SimCluster {
    async fn ready(&self) -> Result<()> {
        self.read("kubernetes:get /readyz", |_, _, _| Ok(())).await
    }
    async fn nodes(&self) -> Result<Listing<Node>> {
        self.read("kubernetes:list nodes", |c, now, d| {
            Ok(Listing { items: c.nodes(now), version: c.version(&Scope::Nodes, now, d)? })
        })
        .await
    }
    async fn deployments(&self, namespace: &str) -> Result<Listing<Workload>> {
        self.read("kubernetes:list deployments", |c, now, d| {
            let version = c.version(&Scope::Deployments(namespace.to_owned()), now, d)?;
            Ok(Listing { items: c.workloads(namespace, WorkloadKind::Deployment, now, d)?, version })
        })
        .await
    }
    async fn stateful_sets(&self, namespace: &str) -> Result<Listing<Workload>> {
        self.read("kubernetes:list statefulsets", |c, now, d| {
            let version = c.version(&Scope::StatefulSets(namespace.to_owned()), now, d)?;
            Ok(Listing { items: c.workloads(namespace, WorkloadKind::StatefulSet, now, d)?, version })
        })
        .await
    }
    async fn raise(&self, namespace: &str, kind: WorkloadKind, name: &str, replicas: u32) -> Result<()> {
        self.write("kubernetes:patch deployments/scale", name, |c, _| {
            c.raise(namespace, kind, name, replicas)
        })
        .await
    }
    async fn restart(&self, namespace: &str, name: &str, token: &str) -> Result<()> {
        self.write("kubernetes:patch deployments", name, |c, now| c.restart(namespace, name, token, now))
            .await
    }
    async fn problems(&self, namespace: &str) -> Result<Vec<PodProblem>> {
        self.read("kubernetes:list pods", |c, now, _| c.problems(namespace, now)).await
    }
    async fn changed(&self, scope: &Scope, version: &str) -> Result<()> {
        loop {
            let (now, seen, next) = self.at.store.with(|s| {
                let d = s.durations().clone();
                let cluster = s.region(&self.at.id)?.clusters.get(&self.cluster);
                let cluster = cluster
                    .ok_or_else(|| Error::not_found(format!("there is no cluster {}", self.cluster)))?;
                Ok::<_, Error>((s.now, cluster.version(scope, s.now, &d)?, cluster.next_event(s.now, &d)))
            })??;
            if seen != version {
                return Ok(());
            }
            // Nothing is due: somebody else's call may still change it.
            let wait =
                next.and_then(|at| Duration::try_from(at - now).ok()).unwrap_or(Duration::from_secs(5));
            self.at.clock.sleep(wait.min(Duration::from_secs(5))).await;
        }
    }
}
