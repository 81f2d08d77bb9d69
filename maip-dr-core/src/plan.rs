//! A plan: steps as data, complete enough to be read, signed and run.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::id::{RegionId, StepId};
use crate::step::{ApiCall, Plane, Registry, Undo};
use crate::topology::Topology;

/// The kind that a person's approval answers.
pub const GATE: &str = "gate.approve";
/// Work that is reversible or harmless and never waits for an approval.
pub const NO_REGRET: [&str; 3] = ["nodes.scale", "workloads.scale", "notify.send"];

/// One step of a procedure file, with the fields a plan adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedStep {
    /// Its name in this plan.
    pub id: StepId,
    /// Its kind.
    pub kind: String,
    /// The kind's parameters.
    #[serde(default = "empty_object")]
    pub with: Value,
    /// The steps that must have succeeded before it.
    #[serde(default)]
    pub after: Vec<StepId>,
    /// Computed: whether it can be taken back.
    #[serde(default = "not_needed")]
    pub undo: Undo,
    /// Computed: every call it may make.
    #[serde(default)]
    pub calls: Vec<ApiCall>,
    /// Computed: how long it is expected to take, in seconds.
    #[serde(default)]
    pub expected_s: f64,
    /// Computed: when it counts as failed, in seconds from its begin.
    #[serde(default)]
    pub deadline_s: f64,
    /// Computed: the Region it works on.
    #[serde(default)]
    pub region: Option<RegionId>,
    /// Computed: what it does, in one line.
    #[serde(default)]
    pub summary: String,
    /// Computed: the same by hand.
    #[serde(default)]
    pub by_hand: Vec<String>,
    /// Computed: whether its failure is only reported.
    #[serde(default)]
    pub best_effort: bool,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn not_needed() -> Undo {
    Undo::NotNeeded
}

impl PlannedStep {
    /// A step as an author writes it.
    pub fn new(id: impl Into<String>, kind: &str, with: Value, after: &[&str]) -> Self {
        Self {
            id: StepId::new(id),
            kind: kind.to_owned(),
            with,
            after: after.iter().map(|id| StepId::from(*id)).collect(),
            undo: Undo::NotNeeded,
            calls: Vec::new(),
            expected_s: 0.0,
            deadline_s: 0.0,
            region: None,
            summary: String::new(),
            by_hand: Vec::new(),
            best_effort: false,
        }
    }

    /// Whether any of its calls changes something.
    pub fn mutates(&self) -> bool {
        self.calls.iter().any(|call| call.mutates)
    }
}

/// A plan. A procedure file is a plan without its computed fields; both are read by the same type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The procedure's name.
    pub procedure: String,
    /// The Region it goes to, where it goes anywhere.
    #[serde(default)]
    pub to: Option<RegionId>,
    /// The Region it leaves.
    #[serde(default)]
    pub from: Option<RegionId>,
    /// Computed: over procedure, to, each step's id, kind, with and after, and the topology.
    #[serde(default)]
    pub hash: String,
    /// Computed: the length of the critical path in seconds.
    #[serde(default)]
    pub expected_s: f64,
    /// Computed: the steps on it, in order.
    #[serde(default)]
    pub critical_path: Vec<StepId>,
    /// The facts that were read when it was made.
    #[serde(default)]
    pub assumes: BTreeMap<String, Value>,
    /// What a person should know before saying yes.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// A procedure without computed fields.
    pub fn of(
        procedure: &str,
        to: Option<RegionId>,
        from: Option<RegionId>,
        steps: Vec<PlannedStep>,
    ) -> Self {
        Self {
            procedure: procedure.to_owned(),
            to,
            from,
            hash: String::new(),
            expected_s: 0.0,
            critical_path: Vec::new(),
            assumes: BTreeMap::new(),
            warnings: Vec::new(),
            steps,
        }
    }

    /// The step named `id`.
    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// Checks the steps, puts the question before what lacks it, and fills in every computed field.
    ///
    /// # Errors
    /// `Invalid` when ids clash, `after` names nothing or runs in a circle, parameters do not fit, something
    /// depends on a best-effort step, or two steps that may run side by side change the same resource.
    pub fn complete(mut self, registry: &Registry, topology: &Topology) -> Result<Self> {
        if self.steps.is_empty() {
            return Err(Error::invalid("the procedure has no steps"));
        }
        for step in &mut self.steps {
            let built = registry
                .build(&step.kind, &step.with, topology)
                .map_err(|e| e.context(format!("step `{}`", step.id)).with("step", &step.id))?;
            let timing = built.timing();
            step.undo = built.undo_policy();
            step.calls = built.calls();
            step.expected_s = timing.expected.as_secs_f64();
            step.deadline_s = topology.deadline(&step.kind, timing.deadline).as_secs_f64();
            step.region = built.region().cloned();
            step.summary = built.summary();
            step.by_hand = built.by_hand();
            step.best_effort = built.best_effort();
        }
        let mut graph = Graph::new(&self.steps)?;
        if self.insert_gate(&graph) {
            graph = Graph::new(&self.steps)?;
        }
        self.refuse_unsafe(&graph)?;
        (self.critical_path, self.expected_s) = graph.critical_path(&self.steps);
        self.hash = self.compute_hash(topology);
        self.warn_about_lost_planes();
        Ok(self)
    }

    /// Checks that the computed fields a file came with are those that it would get today.
    ///
    /// # Errors
    /// `Conflict` when the hash differs: the file was changed, or the topology.
    pub fn complete_as_signed(self, registry: &Registry, topology: &Topology) -> Result<Self> {
        let (signed, assumes, warnings) = (self.hash.clone(), self.assumes.clone(), self.warnings.clone());
        let mut plan = Self { warnings: Vec::new(), ..self }.complete(registry, topology)?;
        if !signed.is_empty() && signed != plan.hash {
            return Err(Error::conflict("the plan's hash does not match its content and this topology")
                .hint("make the plan again with `maip-dr plan ... --output json`, read it, and run that")
                .with("signed", signed)
                .with("computed", &plan.hash));
        }
        plan.assumes = assumes;
        for warning in warnings {
            if !plan.warnings.contains(&warning) {
                plan.warnings.push(warning);
            }
        }
        Ok(plan)
    }

    /// Puts one question before every mutating step that has none before it. True when it added one.
    fn insert_gate(&mut self, graph: &Graph) -> bool {
        let unguarded: BTreeSet<usize> = (0..self.steps.len())
            .filter(|&i| needs_gate(&self.steps[i]))
            .filter(|&i| !graph.ancestors[i].iter().any(|&a| self.steps[a].kind == GATE))
            .collect();
        if unguarded.is_empty() {
            return false;
        }
        let first: Vec<usize> =
            unguarded.iter().copied().filter(|&i| graph.ancestors[i].is_disjoint(&unguarded)).collect();
        let waits_for: BTreeSet<StepId> = first.iter().flat_map(|&i| self.steps[i].after.clone()).collect();
        let mut id = StepId::from("approve");
        while self.step(&id).is_some() {
            id = StepId::new(format!("{id}-run"));
        }
        for i in first {
            self.steps[i].after.push(id.clone());
        }
        let mut gate = PlannedStep::new(id.as_str(), GATE, empty_object(), &[]);
        gate.after = waits_for.into_iter().collect();
        gate.summary = "ask a person".to_owned();
        gate.deadline_s = 0.0;
        self.steps.push(gate);
        true
    }

    fn refuse_unsafe(&self, graph: &Graph) -> Result<()> {
        for (i, step) in self.steps.iter().enumerate() {
            for &a in &graph.ancestors[i] {
                if self.steps[a].best_effort {
                    return Err(Error::invalid(format!(
                        "step `{}` depends on `{}`, whose failure is only reported",
                        step.id, self.steps[a].id
                    ))
                    .hint(format!("nothing may wait for {}", self.steps[a].kind)));
                }
            }
            if needs_gate(step) && !graph.ancestors[i].iter().any(|&a| self.steps[a].kind == GATE) {
                return Err(Error::invalid(format!(
                    "step `{}` changes something without a {GATE} before it",
                    step.id
                )));
            }
            for (j, other) in self.steps.iter().enumerate().skip(i + 1) {
                if graph.ancestors[i].contains(&j) || graph.ancestors[j].contains(&i) {
                    continue;
                }
                let clash = step.calls.iter().filter(|c| c.mutates).find(|c| {
                    other.calls.iter().any(|o| o.mutates && o.resource == c.resource && o.region == c.region)
                });
                if let Some(call) = clash {
                    return Err(Error::invalid(format!(
                        "steps `{}` and `{}` may run side by side and both change {}",
                        step.id, other.id, call.resource
                    ))
                    .hint("let one run after the other"));
                }
            }
        }
        Ok(())
    }

    fn compute_hash(&self, topology: &Topology) -> String {
        #[derive(Serialize)]
        struct Signed<'a> {
            procedure: &'a str,
            to: Option<&'a RegionId>,
            steps: Vec<(&'a StepId, &'a str, &'a Value, &'a [StepId])>,
            topology: &'a Topology,
        }
        let signed = Signed {
            procedure: &self.procedure,
            to: self.to.as_ref(),
            steps: self.steps.iter().map(|s| (&s.id, s.kind.as_str(), &s.with, s.after.as_slice())).collect(),
            topology,
        };
        // Canonical: equal content gives equal bytes.
        let text = serde_json::to_value(&signed)
            .ok()
            .and_then(|v| crate::journal::canonical(&v).ok())
            .unwrap_or_default();
        hex(&Sha256::digest(text.as_bytes()))
    }

    /// An API that lives in the Region being left may be lost with it.
    fn warn_about_lost_planes(&mut self) {
        let Some(from) = self.from.clone() else { return };
        let mut lost: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for step in &self.steps {
            for call in
                step.calls.iter().filter(|c| c.region == from && c.plane == Plane::Control && c.mutates)
            {
                lost.entry(call.api.clone()).or_default().push(step.id.as_str());
            }
        }
        for (api, steps) in lost {
            let warning = format!(
                "{} depends on {api}, whose control plane is in {from}, the Region being left",
                steps.join(", ")
            );
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }
}

fn needs_gate(step: &PlannedStep) -> bool {
    (step.mutates() || step.undo == Undo::Impossible) && !NO_REGRET.contains(&step.kind.as_str())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Who comes before whom.
#[derive(Debug)]
struct Graph {
    order: Vec<usize>,
    parents: Vec<Vec<usize>>,
    ancestors: Vec<BTreeSet<usize>>,
}

impl Graph {
    fn new(steps: &[PlannedStep]) -> Result<Self> {
        let mut index = BTreeMap::new();
        for (i, step) in steps.iter().enumerate() {
            let valid = !step.id.as_str().is_empty()
                && step
                    .id
                    .as_str()
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            if !valid {
                return Err(Error::invalid(format!("`{}` is not a step id", step.id))
                    .hint("lower-case letters, digits and hyphens, such as promote-postgres"));
            }
            if index.insert(step.id.as_str(), i).is_some() {
                return Err(Error::invalid(format!("two steps are called `{}`", step.id)));
            }
        }
        let mut parents = vec![Vec::new(); steps.len()];
        let mut children = vec![Vec::new(); steps.len()];
        let mut missing = vec![0_usize; steps.len()];
        for (i, step) in steps.iter().enumerate() {
            let wanted: BTreeSet<&StepId> = step.after.iter().collect();
            for id in wanted {
                let &parent = index.get(id.as_str()).ok_or_else(|| {
                    Error::invalid(format!("step `{}` comes after `{id}`, which does not exist", step.id))
                })?;
                parents[i].push(parent);
                children[parent].push(i);
                missing[i] += 1;
            }
        }
        let mut order: Vec<usize> = (0..steps.len()).filter(|&i| missing[i] == 0).collect();
        let mut next = 0;
        while next < order.len() {
            for &child in &children[order[next]] {
                missing[child] -= 1;
                if missing[child] == 0 {
                    order.push(child);
                }
            }
            next += 1;
        }
        if order.len() < steps.len() {
            let circle: Vec<&str> =
                (0..steps.len()).filter(|&i| missing[i] > 0).map(|i| steps[i].id.as_str()).collect();
            return Err(Error::invalid(format!("these steps wait for each other: {}", circle.join(", "))));
        }
        let mut ancestors: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); steps.len()];
        for &i in &order {
            let mut all = BTreeSet::new();
            for &p in &parents[i] {
                all.insert(p);
                all.extend(&ancestors[p]);
            }
            ancestors[i] = all;
        }
        Ok(Self { order, parents, ancestors })
    }

    fn critical_path(&self, steps: &[PlannedStep]) -> (Vec<StepId>, f64) {
        let mut end = vec![0.0_f64; steps.len()];
        let mut via: Vec<Option<usize>> = vec![None; steps.len()];
        for &i in &self.order {
            let latest = self.parents[i].iter().copied().max_by(|&a, &b| end[a].total_cmp(&end[b]));
            end[i] = latest.map_or(0.0, |p| end[p]) + steps[i].expected_s;
            via[i] = latest;
        }
        let mut at = (0..steps.len()).max_by(|&a, &b| end[a].total_cmp(&end[b]));
        let length = at.map_or(0.0, |i| end[i]);
        let mut path = Vec::new();
        while let Some(i) = at {
            path.push(steps[i].id.clone());
            at = via[i];
        }
        path.reverse();
        (path, length)
    }
}

/// For every step, the steps that must have come before it, directly or not.
///
/// # Errors
/// `Invalid` when the steps are not a DAG.
pub fn ancestors(steps: &[PlannedStep]) -> Result<BTreeMap<StepId, BTreeSet<StepId>>> {
    let graph = Graph::new(steps)?;
    Ok((0..steps.len())
        .map(|i| (steps[i].id.clone(), graph.ancestors[i].iter().map(|&a| steps[a].id.clone()).collect()))
        .collect())
}
