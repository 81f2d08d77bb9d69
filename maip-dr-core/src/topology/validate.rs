//! What must hold between the parts of a topology.

use std::collections::{BTreeMap, BTreeSet};

use crate::duration::Span;
use crate::id::RegionId;
use crate::service::Scaling;
use crate::topology::problem::Problem;
use crate::topology::secrets::shown;
use crate::topology::syntax::{
    is_account, is_application, is_kubernetes, is_loopback, is_rds, is_region, is_variable, named,
    role_account, spelled, url,
};
use crate::topology::{
    Cluster, ClusterIn, Failback, NamespaceWorkloads, NotifyTarget, RegionAccess, Replicas, Topology,
};

/// More replicas than this are a slip of the finger.
const MAX_REPLICAS: u32 = 10_000;
/// The longest deadline.
const MAX_TIMEOUT_S: u64 = 24 * 3600;

/// Everything that is wrong with `topology`, apart from types and ranges.
pub(super) fn validate(topology: &Topology) -> Vec<Problem> {
    let mut check = Check { topology, problems: Vec::new(), regions_are_sound: false };
    check.header();
    check.access();
    check.databases();
    check.clusters();
    check.streams_and_tables();
    for (name, traffic) in &topology.traffic {
        check.traffic(name, traffic);
    }
    check.failback(&topology.failback);
    check.durations();
    check.notify();
    check.problems
}

/// The problems found so far.
pub(super) struct Check<'t> {
    topology: &'t Topology,
    problems: Vec<Problem>,
    /// Whether `primary` and `standby` are right: only then the entries are held against them.
    regions_are_sound: bool,
}

impl<'t> Check<'t> {
    /// The value at `path` is wrong.
    pub(super) fn refuse(&mut self, path: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::new(path, message).hint(hint));
    }

    /// The last key of `path` is wrong.
    pub(super) fn refuse_key(&mut self, path: &[&str], message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem::key(path, message).hint(hint));
    }

    /// Refuses the value at `path` unless it is `right`.
    fn need(&mut self, right: bool, path: &[&str], value: &str, what: &str, hint: &str) {
        if !right {
            self.refuse(path, format!("{} is not {what}", shown(value)), hint);
        }
    }

    fn header(&mut self) {
        let topology = self.topology;
        let hint =
            "2 to 40 small letters, digits and hyphens, a letter first and no hyphen last, such as `maip`";
        let name = &topology.application;
        self.need(is_application(name), &["application"], name, "a name for the application", hint);
        let before = self.problems.len();
        self.standby();
        self.regions_are_sound = self.problems.len() == before;
    }

    fn standby(&mut self) {
        let topology = self.topology;
        self.region(&["primary"], &topology.primary);
        if topology.standby.is_empty() {
            self.refuse(&["standby"], "there is no standby Region", "name at least one, such as us-west-2");
        }
        for (i, standby) in topology.standby.iter().enumerate() {
            let path = ["standby", &i.to_string()];
            self.region(&path, standby);
            if *standby == topology.primary {
                let message =
                    format!("{} is the primary and cannot be its own standby", shown(standby.as_str()));
                self.refuse(&path, message, "name another Region");
            }
            if topology.standby[..i].contains(standby) {
                let message = format!("the standby {} is there twice", shown(standby.as_str()));
                self.refuse(&path, message, "name each Region once, best first");
            }
        }
    }

    fn region(&mut self, path: &[&str], region: &RegionId) {
        let name = region.as_str();
        self.need(
            is_region(name),
            path,
            name,
            "the name of a Region",
            "write it as AWS does, such as us-west-2",
        );
    }

    /// Refuses a key that is neither `primary` nor in `standby`.
    fn known_region(&mut self, path: &[&str], region: &RegionId) {
        if self.regions_are_sound && !self.topology.region_ids().any(|known| known == region) {
            let known: Vec<&str> = self.topology.region_ids().map(RegionId::as_str).collect();
            let message = format!("Region {} is neither the primary nor a standby", shown(region.as_str()));
            let hint = format!(
                "the topology has {}; add it to `standby`, or remove this entry",
                known.join(" and ")
            );
            self.refuse_key(&[path, &[region.as_str()]].concat(), message, hint);
        }
    }

    /// A resource must be in every Region of the topology and in no other.
    pub(super) fn regions_of<T>(&mut self, path: &[&str], what: &str, entries: &BTreeMap<RegionId, T>) {
        let path = [path, &["regions"]].concat();
        for region in entries.keys() {
            self.known_region(&path, region);
        }
        let missing = self.topology.region_ids().filter(|region| !entries.contains_key(*region));
        for region in missing.filter(|_| self.regions_are_sound).collect::<Vec<_>>() {
            let message = format!("{what} has no entry for Region {}", shown(region.as_str()));
            self.refuse(&path, message, "describe it in the primary and in every standby Region");
        }
    }

    /// The name the user gave to a resource: steps are called after it.
    fn logical(&mut self, kind: &str, names: impl Iterator<Item = &'t String>) {
        for name in names {
            if !named(name, 63, "-_.") {
                let message = format!("{} cannot name anything", shown(name));
                self.refuse_key(
                    &[kind, name],
                    message,
                    "up to 63 letters, digits, hyphens, underscores and dots",
                );
            }
        }
    }

    fn access(&mut self) {
        for (region, access) in &self.topology.regions {
            self.known_region(&["regions"], region);
            self.access_of(region.as_str(), access);
        }
    }

    fn access_of(&mut self, region: &str, access: &RegionAccess) {
        let at = |key| ["regions", region, key];
        if let Some(profile) = &access.profile {
            let hint = "the name of a profile in ~/.aws/config; leave the key out for the default one";
            self.need(!profile.trim().is_empty(), &at("profile"), profile, "a profile", hint);
        }
        if let Some(account) = &access.account {
            let hint = "exactly twelve digits, in quotes";
            self.need(is_account(account), &at("account"), account, "an account", hint);
        }
        if let Some(role) = &access.role_arn {
            self.role(&at("role_arn"), role, access.account.as_deref());
        }
        if let Some(endpoint) = &access.endpoint_url {
            self.endpoint(&at("endpoint_url"), endpoint);
        }
    }

    fn role(&mut self, path: &[&str], role: &str, account: Option<&str>) {
        match (role_account(role), account) {
            (None, _) => {
                let hint = "write arn:aws:iam::123456789012:role/NAME (or aws-cn, aws-us-gov)";
                self.need(false, path, role, "the ARN of a role", hint);
            }
            (Some(own), Some(account)) if own != account => {
                let message = format!("the role is in account {own}, and `account` is {}", shown(account));
                self.refuse(path, message, "make the two the same, or leave `account` out");
            }
            _ => {}
        }
    }

    fn endpoint(&mut self, path: &[&str], endpoint: &str) {
        match url(endpoint) {
            None => self.refuse(path, "this is not a URL", "write https://HOST:PORT"),
            Some(url) if url.user => {
                self.refuse(path, "a user stands in this URL", "write https://HOST:PORT, without USER@");
            }
            Some(url) if !(url.scheme == "https" || url.scheme == "http" && is_loopback(url.host)) => {
                let message = format!("the endpoint at {} is not https", shown(url.host));
                self.refuse(
                    path,
                    message,
                    "https; http is for this machine only (127.0.0.1, ::1, localhost)",
                );
            }
            Some(_) => {}
        }
    }

    fn databases(&mut self) {
        let topology = self.topology;
        self.logical("databases", topology.databases.keys());
        let mut seen = BTreeMap::new();
        for (name, database) in &topology.databases {
            self.regions_of(&["databases", name], &format!("the database `{name}`"), &database.regions);
            for (region, here) in &database.regions {
                let path = ["databases", name, "regions", region.as_str(), "instance"];
                let hint = "1 to 63 letters, digits and single hyphens, a letter first and no hyphen last";
                self.need(
                    is_rds(&here.instance),
                    &path,
                    &here.instance,
                    "an RDS instance's identifier",
                    hint,
                );
                let instance = (region, here.instance.to_ascii_lowercase());
                if let Some(other) = seen.insert(instance, name) {
                    let message =
                        format!("{} is already the database `{other}` in {region}", shown(&here.instance));
                    self.refuse(&path, message, "one instance is one database");
                }
            }
        }
    }

    fn clusters(&mut self) {
        let topology = self.topology;
        self.logical("clusters", topology.clusters.keys());
        for (name, cluster) in &topology.clusters {
            self.regions_of(&["clusters", name], &format!("the cluster `{name}`"), &cluster.regions);
            for (region, here) in &cluster.regions {
                self.cluster_in(&["clusters", name, "regions", region.as_str()], here);
            }
            self.workloads(name, cluster);
        }
    }

    fn cluster_in(&mut self, path: &[&str], here: &ClusterIn) {
        let at = |key| [path, &[key]].concat();
        if here.eks.is_none() && here.kubeconfig.is_none() {
            self.refuse(
                path,
                "nothing says how to reach this cluster",
                "add `eks: NAME`, or `kubeconfig: PATH`",
            );
        }
        if let Some(eks) = &here.eks {
            let hint = "1 to 100 letters, digits, hyphens and underscores, a letter or digit first";
            self.need(named(eks, 100, "-_"), &at("eks"), eks, "an EKS cluster's name", hint);
        }
        if here.kubeconfig.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            self.refuse(&at("kubeconfig"), "the path is empty", "the path of a kubeconfig file");
        }
        if here.context.is_some() && here.kubeconfig.is_none() {
            let hint = "add `kubeconfig: PATH`, or remove `context`";
            self.refuse(&at("context"), "a context is of a kubeconfig, and there is none", hint);
        }
        if here.eks.is_none() && !here.node_groups.is_empty() {
            let hint = "add `eks: NAME`, or remove `node_groups`";
            self.refuse(
                &at("node_groups"),
                "node groups belong to an EKS cluster, and `eks` is missing",
                hint,
            );
        }
        for (group, scaling) in &here.node_groups {
            self.node_group(&[path, &["node_groups", group]].concat(), group, *scaling);
        }
    }

    fn node_group(&mut self, path: &[&str], group: &str, scaling: Scaling) {
        if !named(group, 63, "-_") {
            let hint = "1 to 63 letters, digits, hyphens and underscores, a letter or digit first";
            self.refuse_key(path, format!("{} is not a node group's name", shown(group)), hint);
        }
        if scaling.max == 0 {
            let hint = "a group that may hold no node serves nothing: at least 1";
            self.refuse(&[path, &["max"]].concat(), "the largest size is 0", hint);
        } else if !(scaling.min <= scaling.desired && scaling.desired <= scaling.max) {
            self.refuse(path, format!("the sizes contradict each other: {scaling}"), "min <= desired <= max");
        }
    }

    fn workloads(&mut self, cluster: &str, entry: &Cluster) {
        for (namespace, workloads) in &entry.workloads {
            let path = ["clusters", cluster, "workloads", namespace.as_str()];
            if !is_kubernetes(namespace, 63, false) {
                let hint = "1 to 63 small letters, digits and hyphens, a letter or digit at both ends";
                self.refuse_key(&path, format!("{} is not a namespace's name", shown(namespace)), hint);
            }
            self.namespace(&path, workloads);
        }
    }

    fn namespace(&mut self, path: &[&str], workloads: &NamespaceWorkloads) {
        if let Some(replicas) = workloads.replicas {
            self.replicas(&[path, &["replicas"]].concat(), replicas);
        }
        let deployments = workloads.deployments.iter().map(|(name, replicas)| match replicas {
            Replicas::Count(count) => ("deployments", name, *count),
            Replicas::Keep(_) => ("deployments", name, 0),
        });
        let sets = workloads.stateful_sets.iter().map(|(name, count)| ("stateful_sets", name, *count));
        for (kind, name, count) in deployments.chain(sets) {
            let path = [path, &[kind, name]].concat();
            if !is_kubernetes(name, 253, true) {
                let hint = "small letters, digits, hyphens and dots, a letter or digit at both ends";
                self.refuse_key(&path, format!("{} is not a Kubernetes name", shown(name)), hint);
            }
            self.replicas(&path, count);
        }
    }

    fn replicas(&mut self, path: &[&str], count: u32) {
        if count > MAX_REPLICAS {
            let hint = format!("at most {MAX_REPLICAS}");
            self.refuse(path, format!("{count} replicas are more than any workload needs"), hint);
        }
    }

    fn streams_and_tables(&mut self) {
        let topology = self.topology;
        self.logical("streams", topology.streams.keys());
        self.logical("tables", topology.tables.keys());
        for (name, stream) in &topology.streams {
            self.regions_of(&["streams", name], &format!("the stream `{name}`"), &stream.regions);
            for (region, here) in &stream.regions {
                let path = ["streams", name, "regions", region.as_str(), "msk"];
                let hint =
                    "1 to 64 letters, digits and hyphens, a letter or digit first; the name, not the ARN";
                self.need(named(&here.msk, 64, "-"), &path, &here.msk, "an MSK cluster's name", hint);
            }
        }
        for (name, table) in &topology.tables {
            let path = ["tables", name, "dynamodb"];
            let hint = "3 to 255 letters, digits, hyphens, underscores and dots";
            let right = spelled(&table.dynamodb, 3..=255, "-_.");
            self.need(right, &path, &table.dynamodb, "a DynamoDB table's name", hint);
            self.positive(&["tables", name, "lag_max"], table.lag_max);
        }
    }

    fn failback(&mut self, failback: &Failback) {
        for (i, pair) in failback.shift.windows(2).enumerate() {
            let [before, after] = pair else { continue };
            if after <= before {
                let path = ["failback", "shift", &(i + 1).to_string()];
                let message = format!("{after} does not rise above {before}");
                self.refuse(
                    &path,
                    message,
                    "each shift sends more home than the one before: [10, 50, 90, 100]",
                );
            }
        }
        if failback.shift.last() != Some(&100) {
            let last = failback.shift.len().saturating_sub(1).to_string();
            let hint = "the last shift brings everything home: end with 100";
            self.refuse(&["failback", "shift", &last], "the shifts do not end at 100", hint);
        }
        self.positive(&["failback", "bake"], failback.bake);
    }

    fn durations(&mut self) {
        let topology = self.topology;
        self.positive(&["objectives", "rto"], topology.objectives.rto);
        self.positive(&["objectives", "rpo"], topology.objectives.rpo);
        let registry = crate::steps::registry();
        let kinds: BTreeSet<&str> = registry.kinds().map(|entry| entry.kind).collect();
        for (kind, limit) in &topology.timeouts {
            if !kinds.contains(kind.as_str()) {
                self.unknown_kind(kind, &kinds);
            }
            self.positive(&["timeouts", kind], *limit);
            if limit.0.as_secs_f64() > MAX_TIMEOUT_S as f64 {
                self.refuse(&["timeouts", kind], format!("{limit} is longer than a day"), "at most 24h");
            }
        }
    }

    fn unknown_kind(&mut self, kind: &str, kinds: &BTreeSet<&str>) {
        let near = |k: &str| strsim::jaro_winkler(k, kind);
        let nearest = kinds.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
        let meant = nearest.map_or_else(String::new, |k| format!("did you mean `{k}`? "));
        let known: Vec<&str> = kinds.iter().copied().collect();
        let message = format!("there is no step kind {}", shown(kind));
        self.refuse_key(&["timeouts", kind], message, format!("{meant}known kinds: {}", known.join(", ")));
    }

    fn positive(&mut self, path: &[&str], span: Span) {
        if span.0.is_zero() {
            self.refuse(path, "the duration is zero", "more than zero, such as 30s, 15m or 2h");
        }
    }

    fn notify(&mut self) {
        for (i, target) in self.topology.notify.iter().enumerate() {
            let i = i.to_string();
            match target {
                NotifyTarget::Webhook(hook) => self.webhook(&["notify", &i, "webhook"], &hook.webhook),
                NotifyTarget::Command(local) => {
                    if local.command.first().is_none_or(|program| program.trim().is_empty()) {
                        let path = ["notify", &i, "command"];
                        self.refuse(
                            &path,
                            "the command is empty",
                            "a program and its arguments: [notify-send, maip]",
                        );
                    }
                }
            }
        }
    }

    /// Names the host at most: the rest of a webhook's URL may be its secret.
    fn webhook(&mut self, path: &[&str], written: &str) {
        if let Some(name) = written.strip_prefix("env:") {
            let hint = "write env:NAME with letters, digits and underscores, no digit first";
            self.need(is_variable(name), path, name, "the name of an environment variable", hint);
            return;
        }
        match url(written) {
            None => self.refuse(path, "this is not a URL", "write https://HOST/PATH, or env:NAME"),
            Some(url) if url.user => {
                self.refuse(
                    path,
                    "a user stands in this URL",
                    "write env:NAME, and keep the URL in the environment",
                );
            }
            Some(url) if !(url.scheme == "https" || url.scheme == "http" && is_loopback(url.host)) => {
                let message = format!("the webhook at {} is not https", shown(url.host));
                self.refuse(
                    path,
                    message,
                    "https; http is for this machine only (127.0.0.1, ::1, localhost)",
                );
            }
            Some(_) => {}
        }
    }
}
