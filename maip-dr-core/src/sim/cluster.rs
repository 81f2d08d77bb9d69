//! One cluster: nodes that take time, pods that need room, roll-outs that go in batches.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::after;
use crate::error::{Error, Result};
use crate::service::{
    Autoscaler, Node, NodeGroup, PodProblem, Scaling, Scope, UpdateStatus, Workload, WorkloadKind,
};
use crate::sim::scenario::Durations;
use crate::topology::{Cluster, ClusterIn, Replicas};

const PODS_PER_NODE: usize = 10;
const ZONES: [&str; 3] = ["a", "b", "c"];

/// A cluster's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Its name in the cloud.
    pub name: String,
    /// Node groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Namespaces by name.
    pub namespaces: BTreeMap<String, Vec<Load>>,
    /// Nodes that belong to no group we scale.
    pub other_nodes: usize,
}

/// A node group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its sizes.
    pub scaling: Scaling,
    /// Sizes that an update is about to set, and when; with its id and token.
    pub update: Option<(Scaling, Timestamp, String, String)>,
    /// Updates that were made: id by token.
    pub done: BTreeMap<String, String>,
    /// When each node is Ready.
    pub nodes: Vec<Timestamp>,
    /// Why there are not more.
    pub issues: Vec<String>,
}

/// A workload and its pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// Why it must be left alone.
    pub keep: Option<String>,
    /// The autoscaler that owns it.
    pub autoscaler: Option<Autoscaler>,
    /// Wanted replicas.
    pub replicas: u32,
    /// For each pod, when it is Ready; absent = no node has room.
    pub pods: Vec<Option<Timestamp>>,
    /// The last restart: token and when.
    pub restart: Option<(String, Timestamp)>,
}

impl ClusterState {
    pub(super) fn new(logical: &str, cluster: &Cluster, here: &ClusterIn, at: Timestamp) -> Self {
        let groups: BTreeMap<String, Group> = here
            .node_groups
            .iter()
            .map(|(name, wanted)| {
                let desired = (wanted.desired / 3).max(1);
                let scaling = Scaling { min: desired.min(wanted.min).min(1), desired, max: wanted.max };
                let group = Group {
                    scaling,
                    update: None,
                    done: BTreeMap::new(),
                    nodes: vec![at; desired as usize],
                    issues: Vec::new(),
                };
                (name.clone(), group)
            })
            .collect();
        let namespaces = cluster
            .workloads
            .iter()
            .map(|(namespace, wanted)| {
                let mut names: BTreeMap<String, u32> =
                    [("api".to_owned(), 2), ("worker".to_owned(), 2)].into();
                names.extend(wanted.deployments.keys().map(|n| (n.clone(), 2)));
                let mut loads: Vec<Load> = names
                    .into_iter()
                    .filter(|(n, _)| !matches!(wanted.deployments.get(n), Some(Replicas::Keep(_))))
                    .map(|(n, replicas)| load(n, WorkloadKind::Deployment, replicas, at))
                    .collect();
                let kept = wanted.deployments.iter().filter(|(_, r)| matches!(r, Replicas::Keep(_)));
                loads.extend(kept.map(|(n, _)| load(n.clone(), WorkloadKind::Deployment, 1, at)));
                let mut scheduler = load("scheduler".to_owned(), WorkloadKind::Deployment, 1, at);
                scheduler.keep = Some("its strategy is Recreate".to_owned());
                if !loads.iter().any(|l| l.name == scheduler.name) {
                    loads.push(scheduler);
                }
                if let Some(worker) = loads.iter_mut().find(|l| l.name == "worker") {
                    worker.autoscaler = Some(Autoscaler { name: "worker".to_owned(), min: 2, max: 10 });
                }
                loads.extend(
                    wanted.stateful_sets.keys().map(|n| load(n.clone(), WorkloadKind::StatefulSet, 1, at)),
                );
                (namespace.clone(), loads)
            })
            .collect();
        let other_nodes = if groups.is_empty() { 3 } else { 0 };
        Self { name: here.eks.clone().unwrap_or_else(|| logical.to_owned()), groups, namespaces, other_nodes }
    }

    pub(super) fn advance(&mut self, now: Timestamp, d: &Durations, capacity: Option<u32>) {
        for group in self.groups.values_mut() {
            if let Some((scaling, at, id, token)) = group.update.clone().filter(|u| u.1 <= now) {
                group.scaling = scaling;
                group.done.insert(token, id);
                group.update = None;
                let wanted = capacity.map_or(scaling.desired, |c| scaling.desired.min(c)) as usize;
                while group.nodes.len() < wanted {
                    // One after the other, half a second apart.
                    let gap =
                        std::time::Duration::from_millis(500) * u32::try_from(group.nodes.len()).unwrap_or(0);
                    group.nodes.push(after(at, d.nodes.0 + gap));
                }
                if (group.nodes.len() as u32) < scaling.desired {
                    group.issues = vec![
                        "AsgInstanceLaunchFailures: Could not launch On-Demand Instances. InsufficientInstanceCapacity".to_owned(),
                    ];
                }
            }
        }
        self.schedule(now, d);
    }

    /// Gives every pod without a place the first room there is.
    fn schedule(&mut self, now: Timestamp, d: &Durations) {
        let mut ready: Vec<Timestamp> =
            self.groups.values().flat_map(|g| g.nodes.iter().copied()).filter(|at| *at <= now).collect();
        ready.extend(std::iter::repeat_n(Timestamp::MIN, self.other_nodes));
        ready.sort_unstable();
        let mut used: usize =
            self.namespaces.values().flatten().flat_map(|l| &l.pods).filter(|p| p.is_some()).count();
        for load in self.namespaces.values_mut().flatten() {
            let wanted = match &load.autoscaler {
                Some(owner) if load.replicas > 0 => load.replicas.max(owner.min),
                _ => load.replicas,
            };
            load.replicas = wanted;
            load.pods.resize((wanted as usize).max(load.pods.len()), None);
            for pod in load.pods.iter_mut().filter(|p| p.is_none()) {
                let Some(node) = ready.get(used / PODS_PER_NODE) else { break };
                *pod = Some(after(now.max(*node), d.pods.0));
                used += 1;
            }
        }
    }

    /// When something here changes next by itself.
    pub(super) fn next_event(&self, now: Timestamp, d: &Durations) -> Option<Timestamp> {
        let groups =
            self.groups.values().flat_map(|g| g.nodes.iter().copied().chain(g.update.as_ref().map(|u| u.1)));
        let loads = self.namespaces.values().flatten();
        let pods = loads.clone().flat_map(|l| l.pods.iter().flatten().copied());
        let restarts = loads
            .filter_map(|l| l.restart.as_ref())
            .flat_map(|(_, at)| (1..=4).map(move |i| after(*at, d.pods.0 * i)));
        groups.chain(pods).chain(restarts).filter(|at| *at > now).min()
    }

    pub(super) fn group(&self, name: &str) -> Result<NodeGroup> {
        let group = self.groups.get(name).ok_or_else(|| no_group(&self.name, name))?;
        let status = if group.update.is_some() {
            "UPDATING"
        } else if group.issues.is_empty() {
            "ACTIVE"
        } else {
            "DEGRADED"
        };
        Ok(NodeGroup {
            name: name.to_owned(),
            status: status.to_owned(),
            scaling: group.scaling,
            issues: group.issues.clone(),
        })
    }

    pub(super) fn scale(
        &mut self,
        name: &str,
        wanted: Scaling,
        token: &str,
        now: Timestamp,
        d: &Durations,
    ) -> Result<String> {
        let missing = no_group(&self.name, name);
        let group = self.groups.get_mut(name).ok_or(missing)?;
        if wanted.min > wanted.desired || wanted.desired > wanted.max {
            return Err(Error::invalid(format!("{wanted}: minimum, desired and maximum size must rise")));
        }
        if let Some(id) = group.done.get(token) {
            return Ok(id.clone());
        }
        if let Some((_, _, id, running)) = &group.update {
            if running == token {
                return Ok(id.clone());
            }
            return Err(Error::conflict(format!("node group {name} is being updated")));
        }
        let id = format!("update-{}", group.done.len() + 1);
        group.update = Some((wanted, after(now, d.update.0), id.clone(), token.to_owned()));
        Ok(id)
    }

    pub(super) fn update_status(&self, name: &str, id: &str) -> Result<UpdateStatus> {
        let group = self.groups.get(name).ok_or_else(|| no_group(&self.name, name))?;
        if group.update.as_ref().is_some_and(|u| u.2 == id) {
            return Ok(UpdateStatus::InProgress);
        }
        if group.done.values().any(|done| done == id) {
            return Ok(UpdateStatus::Successful);
        }
        Err(Error::not_found(format!("there is no update {id}")))
    }

    pub(super) fn nodes(&self, now: Timestamp) -> Vec<Node> {
        let grouped = self.groups.iter().flat_map(|(name, g)| {
            g.nodes.iter().enumerate().map(move |(i, ready)| Node {
                name: format!("{name}-{i}"),
                group: Some(name.clone()),
                zone: Some(ZONES[i % 3].to_owned()),
                ready: *ready <= now,
            })
        });
        let others = (0..self.other_nodes).map(|i| Node {
            name: format!("node-{i}"),
            group: None,
            zone: Some(ZONES[i % 3].to_owned()),
            ready: true,
        });
        grouped.chain(others).collect()
    }

    pub(super) fn loads(&self, namespace: &str) -> Result<&Vec<Load>> {
        self.namespaces
            .get(namespace)
            .ok_or_else(|| Error::not_found(format!("there is no namespace {namespace}")))
    }

    pub(super) fn loads_mut(&mut self, namespace: &str) -> Result<&mut Vec<Load>> {
        self.namespaces
            .get_mut(namespace)
            .ok_or_else(|| Error::not_found(format!("there is no namespace {namespace}")))
    }

    pub(super) fn workloads(
        &self,
        namespace: &str,
        kind: WorkloadKind,
        now: Timestamp,
        d: &Durations,
    ) -> Result<Vec<Workload>> {
        Ok(self.loads(namespace)?.iter().filter(|l| l.kind == kind).map(|l| l.view(now, d)).collect())
    }

    pub(super) fn raise(
        &mut self,
        namespace: &str,
        kind: WorkloadKind,
        name: &str,
        replicas: u32,
    ) -> Result<()> {
        let load = self.find(namespace, kind, name)?;
        match &mut load.autoscaler {
            Some(owner) => {
                owner.min = owner.min.max(replicas);
                owner.max = owner.max.max(owner.min);
            }
            None => load.replicas = load.replicas.max(replicas),
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, namespace: &str, name: &str, token: &str, now: Timestamp) -> Result<()> {
        let load = self.find(namespace, WorkloadKind::Deployment, name)?;
        if load.restart.as_ref().is_none_or(|(old, _)| old != token) {
            load.restart = Some((token.to_owned(), now));
        }
        Ok(())
    }

    fn find(&mut self, namespace: &str, kind: WorkloadKind, name: &str) -> Result<&mut Load> {
        let found = self.loads_mut(namespace)?.iter_mut().find(|l| l.kind == kind && l.name == name);
        found.ok_or_else(|| Error::not_found(format!("there is no {kind:?} {name} in {namespace}")))
    }

    pub(super) fn problems(&self, namespace: &str, now: Timestamp) -> Result<Vec<PodProblem>> {
        let nodes = self.nodes(now).iter().filter(|n| n.ready).count();
        let message = format!("0/{nodes} nodes are available: {nodes} Too many pods.");
        Ok(self
            .loads(namespace)?
            .iter()
            .flat_map(|l| {
                l.pods
                    .iter()
                    .enumerate()
                    .filter(|(_, p)| p.is_none())
                    .map(move |(i, _)| format!("{}-{i}", l.name))
            })
            .map(|pod| PodProblem { pod, reason: "Unschedulable".to_owned(), message: message.clone() })
            .collect())
    }

    /// What a watcher of `scope` would see, as one opaque mark.
    pub(super) fn version(&self, scope: &Scope, now: Timestamp, d: &Durations) -> Result<String> {
        let text = match scope {
            Scope::Nodes => format!("{:?}", self.nodes(now)),
            Scope::Deployments(ns) => format!("{:?}", self.workloads(ns, WorkloadKind::Deployment, now, d)?),
            Scope::StatefulSets(ns) => {
                format!("{:?}", self.workloads(ns, WorkloadKind::StatefulSet, now, d)?)
            }
        };
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Ok(hasher.finish().to_string())
    }

    pub(super) fn ready_pods(&self, namespace: &str, now: Timestamp) -> usize {
        let loads = self.namespaces.get(namespace).into_iter().flatten();
        loads.flat_map(|l| &l.pods).filter(|p| p.is_some_and(|at| at <= now)).count()
    }

    pub(super) fn summary(&self, now: Timestamp) -> Value {
        let groups: BTreeMap<&String, Value> = self
            .groups
            .iter()
            .map(|(n, g)| (n, json!({ "scaling": g.scaling, "ready": g.nodes.iter().filter(|at| **at <= now).count(), "issues": g.issues })))
            .collect();
        let workloads: BTreeMap<&String, Vec<String>> = self
            .namespaces
            .iter()
            .map(|(n, loads)| {
                let line = |l: &Load| {
                    let ready = l.pods.iter().filter(|p| p.is_some_and(|at| at <= now)).count();
                    format!("{} {ready}/{}", l.name, l.replicas)
                };
                (n, loads.iter().map(line).collect())
            })
            .collect();
        json!({ "name": self.name, "node_groups": groups, "workloads": workloads })
    }
}

fn no_group(cluster: &str, name: &str) -> Error {
    Error::not_found(format!("cluster {cluster} has no node group {name}"))
}

fn load(name: String, kind: WorkloadKind, replicas: u32, at: Timestamp) -> Load {
    Load {
        name,
        kind,
        keep: None,
        autoscaler: None,
        replicas,
        pods: vec![Some(at); replicas as usize],
        restart: None,
    }
}

impl Load {
    fn view(&self, now: Timestamp, d: &Durations) -> Workload {
        let ready = u32::try_from(self.pods.iter().filter(|p| p.is_some_and(|at| at <= now)).count())
            .unwrap_or(u32::MAX);
        // A restart surges: a quarter of the pods at a time are replaced, and the others go on serving.
        let updated = match &self.restart {
            Some((_, at)) => {
                let batch = self.replicas.div_ceil(4).max(1);
                let passed = now.duration_since(*at).as_millis()
                    / d.pods.0.as_millis().max(1).try_into().unwrap_or(i128::MAX);
                batch.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX)).min(self.replicas)
            }
            None => self.replicas,
        };
        Workload {
            name: self.name.clone(),
            kind: self.kind,
            replicas: self.replicas,
            updated,
            available: ready,
            total: self.replicas,
            observed: true,
            keep: self.keep.clone(),
            autoscaler: self.autoscaler.clone(),
            stuck: None,
            restart_token: self.restart.as_ref().map(|(token, _)| token.clone()),
        }
    }
}
