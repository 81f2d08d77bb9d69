//! What a run did, when, and what it cost: a pure function of its records.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::phase_word;
use crate::clock::seconds_between;
use crate::engine::state::{Phase, RunState};
use crate::error::{Error, Result, Risk};
use crate::id::{RegionId, RunId, StepId};
use crate::journal::{Choice, Event, Outcome, Record, Who, millis, optional_millis};
use crate::service::Caller;
use crate::steps::{Rpo, Verdict};

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run.
    pub run: RunId,
    /// Its procedure.
    pub procedure: String,
    /// The application.
    pub application: String,
    /// `aws` or `sandbox`.
    pub world: String,
    /// Where it went.
    pub to: Option<RegionId>,
    /// What it left.
    pub from: Option<RegionId>,
    /// How it ended; null while it goes on or is interrupted.
    pub outcome: Option<Outcome>,
    /// What decided that, or what it waits for.
    pub reason: Option<String>,
    /// When it began.
    #[serde(with = "millis")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(with = "optional_millis")]
    pub ended_at: Option<Timestamp>,
    /// When the application failed, where the operator said it.
    #[serde(with = "optional_millis")]
    pub impact_at: Option<Timestamp>,
    /// From the run's start until the public names answered from the new Region.
    pub rto_s: Option<f64>,
    /// The same from the impact.
    pub rto_from_impact_s: Option<f64>,
    /// The loss of data of the worst database; null where nothing was promoted.
    pub rpo_s: Option<Rpo>,
    /// What was promised.
    pub objectives: Met,
    /// What was found out about the Region that was left.
    pub verdict: Option<Verdict>,
    /// Each database.
    pub databases: BTreeMap<String, DatabaseReport>,
    /// Each step, in the plan's order.
    pub steps: Vec<StepReport>,
    /// What was not shown to be so.
    pub unproven: Vec<String>,
    /// The risks that were taken.
    pub accepted: Vec<Word>,
    /// The answers to gates, and the decisions about steps.
    pub decisions: Vec<Word>,
    /// What stays raised, with what it was before.
    pub raised: Vec<Raised>,
    /// Who we were to the cloud.
    pub caller: Option<Caller>,
    /// Who started it.
    pub by: Who,
    /// Why.
    pub why: Option<String>,
    /// The hash of the plan that was run.
    pub plan_hash: String,
}

/// Objectives, and whether they were kept. Null where that is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Met {
    /// Recovery time objective.
    pub rto_s: f64,
    /// Whether it was kept, from the impact where that is known.
    pub rto_met: Option<bool>,
    /// Recovery point objective.
    pub rpo_s: f64,
    /// Whether the loss is proven to be within it.
    pub rpo_met: Option<bool>,
}

/// What happened to one database.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DatabaseReport {
    /// The promoted instance.
    pub instance: Option<String>,
    /// The loss of data.
    pub rpo_s: Option<Rpo>,
    /// The replica's lag at the first look.
    pub lag_s: Option<f64>,
    /// The replica held everything committed by then.
    #[serde(with = "optional_millis")]
    pub last_replayed_at: Option<Timestamp>,
    /// The lag after the fence.
    pub lag_final_s: Option<f64>,
    /// `confirmed`, `refused`, `unknown`; null where it was not tried.
    pub fence: Option<String>,
    /// What the old writer is called now.
    pub fenced_as: Option<String>,
    /// When the promotion was seen to be done.
    #[serde(with = "optional_millis")]
    pub promoted_at: Option<Timestamp>,
    /// It had been promoted by somebody else.
    pub promoted_by_others: bool,
    /// What was not shown.
    pub unproven: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step.
    pub id: StepId,
    /// Its kind.
    pub kind: String,
    /// `succeeded`, `failed`, `skipped`, `undone`, ...; null where it never began.
    pub outcome: Option<String>,
    /// When it began.
    #[serde(with = "optional_millis")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "optional_millis")]
    pub ended_at: Option<Timestamp>,
    /// Where.
    pub region: Option<RegionId>,
    /// How long it was expected to take.
    pub expected_s: f64,
    /// What it found, or why it failed.
    pub detail: Option<String>,
}

/// Something a person said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// What: an option, `approved`, `declined`, `retry STEP`, ...
    pub what: String,
    /// When.
    #[serde(with = "millis")]
    pub at: Timestamp,
    /// Who.
    pub by: Who,
    /// Why, in their words.
    pub why: Option<String>,
}

/// Capacity that was raised and stays so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Raised {
    /// The step.
    pub step: StepId,
    /// What was raised.
    pub resource: String,
    /// What it was, in words.
    pub before: String,
    /// Whether the step came to its end.
    pub done: bool,
}

impl Report {
    /// The report of the run that `records` are the journal of.
    ///
    /// # Errors
    /// `Corrupt` when they are no legal run.
    pub fn of(records: &[Record]) -> Result<Self> {
        let state = RunState::fold(records)?;
        let mut report = Self {
            run: state.run.clone(),
            procedure: state.start.procedure.clone(),
            application: state.start.application.clone(),
            world: state.start.world.clone(),
            to: state.plan().to.clone(),
            from: state.plan().from.clone(),
            outcome: state.outcome(),
            reason: reason(&state),
            started_at: state.started_at,
            ended_at: state.ended_at,
            impact_at: state.start.impact_at,
            rto_s: None,
            rto_from_impact_s: None,
            rpo_s: None,
            objectives: Met {
                rto_s: state.start.topology.objectives.rto.0.as_secs_f64(),
                rto_met: None,
                rpo_s: state.start.topology.objectives.rpo.0.as_secs_f64(),
                rpo_met: None,
            },
            verdict: verdict(&state),
            databases: BTreeMap::new(),
            steps: steps(&state),
            unproven: Vec::new(),
            accepted: Vec::new(),
            decisions: Vec::new(),
            raised: raised(&state),
            caller: state.start.caller.clone(),
            by: state.start.by.clone(),
            why: state.start.why.clone(),
            plan_hash: state.plan().hash.clone(),
        };
        report.words(records);
        report.databases = databases(&state, report.verdict);
        let lost: Vec<Rpo> =
            report.databases.values().filter(|d| d.promoted_at.is_some()).filter_map(|d| d.rpo_s).collect();
        report.rpo_s = lost.into_iter().reduce(worse);
        if let Some(at) = served_at(&state, records) {
            report.rto_s = Some(seconds_between(state.started_at, at));
            report.rto_from_impact_s = state.start.impact_at.map(|impact| seconds_between(impact, at));
        }
        let measured = report.rto_from_impact_s.or(report.rto_s);
        report.objectives.rto_met = measured.map(|s| s <= report.objectives.rto_s);
        report.objectives.rpo_met = match report.rpo_s {
            Some(Rpo { max: Some(max), .. }) if max <= report.objectives.rpo_s => Some(true),
            Some(Rpo { min, .. }) if min > report.objectives.rpo_s => Some(false),
            _ => None,
        };
        report.unproven = unproven(&state, &report);
        Ok(report)
    }

    fn words(&mut self, records: &[Record]) {
        for record in records {
            let id = || record.step.as_ref().map(|s| format!(" {s}")).unwrap_or_default();
            let (risk, what, by, why) = match &record.event {
                Event::Accepted { risk, by, why } => (true, risk.option(), by, why),
                Event::Approved { by, why, .. } => (false, format!("approved{}", id()), by, why),
                Event::Declined { by, why } => (false, "declined".to_owned(), by, why),
                Event::Decided { choice, by, why } => {
                    (false, format!("{}{}", choice_word(*choice), id()), by, why)
                }
                _ => continue,
            };
            let word = Word { what, at: record.at, by: by.clone(), why: why.clone() };
            if risk { self.accepted.push(word) } else { self.decisions.push(word) }
        }
    }
}

fn choice_word(choice: Choice) -> &'static str {
    match choice {
        Choice::Retry => "retry",
        Choice::Skip => "skip",
        Choice::Abandon => "abandon",
    }
}

fn reason(state: &RunState) -> Option<String> {
    match (&state.ended, &state.held) {
        (Some((_, error)), _) => error.as_ref().map(Error::one_line),
        (None, Some((reason, _))) => Some(reason.clone()),
        (None, None) => None,
    }
}

fn verdict(state: &RunState) -> Option<Verdict> {
    let step = state.plan().steps.iter().find(|s| s.kind == "region.verify_down")?;
    let step = &state.steps[&step.id];
    let output = match &step.phase {
        Phase::Succeeded => step.output.clone(),
        Phase::Failed(Error { found: Some(found), .. }) => (**found).clone(),
        _ => return None,
    };
    serde_json::from_value(output.get("verdict")?.clone()).ok()
}

fn steps(state: &RunState) -> Vec<StepReport> {
    let rows = state.plan().steps.iter().map(|planned| {
        let step = &state.steps[&planned.id];
        let detail = match &step.phase {
            Phase::Failed(e) | Phase::UndoFailed(e) => Some(e.one_line()),
            _ => text(&step.output, "detail"),
        };
        StepReport {
            id: planned.id.clone(),
            kind: planned.kind.clone(),
            outcome: (step.phase != Phase::Pending).then(|| phase_word(&step.phase).to_owned()),
            started_at: step.started_at,
            ended_at: step.ended_at,
            region: planned.region.clone(),
            expected_s: planned.expected_s,
            detail,
        }
    });
    rows.collect()
}

/// When every public name of the plan had given its first good answer.
fn served_at(state: &RunState, records: &[Record]) -> Option<Timestamp> {
    let public = |s: &&crate::plan::PlannedStep| {
        s.kind == "endpoint.verify" && s.with.get("public") == Some(&Value::Bool(true))
    };
    let mut latest = None;
    for step in state.plan().steps.iter().filter(public) {
        let answered = records.iter().find(|r| {
            r.step.as_ref() == Some(&step.id)
                && matches!(&r.event, Event::StepSucceeded { output, .. } if output.get("public") == Some(&Value::Bool(true)))
        })?;
        latest = latest.max(Some(answered.at));
    }
    latest
}

fn worse(a: Rpo, b: Rpo) -> Rpo {
    Rpo { min: a.min.max(b.min), max: a.max.zip(b.max).map(|(a, b)| a.max(b)) }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn read<T: serde::de::DeserializeOwned>(value: &Value, key: &str) -> Option<T> {
    serde_json::from_value(value.get(key)?.clone()).ok()
}

fn databases(state: &RunState, verdict: Option<Verdict>) -> BTreeMap<String, DatabaseReport> {
    let mut all: BTreeMap<String, DatabaseReport> = BTreeMap::new();
    let mut last: BTreeMap<String, Rpo> = BTreeMap::new();
    for planned in &state.plan().steps {
        let step = &state.steps[&planned.id];
        let Some(name) = text(&planned.with, "database") else { continue };
        let entry = all.entry(name.clone()).or_default();
        let found = match &step.phase {
            Phase::Failed(Error { found: Some(found), .. }) => found,
            _ => &step.output,
        };
        match planned.kind.as_str() {
            "db.record_watermark" if text(found, "phase").as_deref() == Some("final") => {
                entry.lag_final_s = read(found, "lag_s");
                last.extend(read(found, "rpo_s").map(|rpo| (name, rpo)));
            }
            "db.record_watermark" => {
                entry.rpo_s = read(found, "rpo_s").or(entry.rpo_s);
                entry.lag_s = read(found, "lag_s");
                entry.last_replayed_at = read(found, "last_replayed_at");
            }
            "db.fence" => {
                entry.fence = text(found, "fence");
                let confirmed = entry.fence.as_deref() == Some("confirmed") && step.phase == Phase::Succeeded;
                entry.fenced_as = confirmed.then(|| text(found, "new_name")).flatten();
            }
            "db.promote" if step.phase == Phase::Succeeded => {
                entry.instance = text(found, "instance");
                entry.promoted_at = step.ended_at;
                entry.promoted_by_others = step.accepted == Some(Risk::Promoted);
                if entry.rpo_s.is_none() {
                    // What the promotion itself measured, in a procedure without a watermark of its own.
                    let before = step.called.as_ref().and_then(|(_, before)| before.get("watermark"));
                    entry.rpo_s = before.and_then(|mark| read(mark, "rpo_s"));
                }
                entry.rpo_s.get_or_insert(Rpo { min: 0.0, max: None });
            }
            "db.verify_writable" => entry.unproven = read(found, "unproven").unwrap_or_default(),
            _ => {}
        }
    }
    for (name, entry) in &mut all {
        // A writer that was not proven to be lost may have gone on writing after the first look.
        let lost = verdict == Some(Verdict::Down);
        if let (false, Some(rpo)) = (lost, &mut entry.rpo_s) {
            let fenced = entry.fence.as_deref() == Some("confirmed");
            rpo.max = match (fenced, last.get(name).and_then(|l| l.max)) {
                (false, _) => None,
                (true, Some(later)) => rpo.max.map(|max| max.max(later)),
                (true, None) => rpo.max,
            };
        }
        if entry.promoted_by_others {
            // The lag of before that promotion is not known to this run.
            entry.rpo_s = Some(Rpo { min: 0.0, max: None });
        }
    }
    all
}

/// What stays raised: node groups and workloads, as the journal had them before the call.
fn raised(state: &RunState) -> Vec<Raised> {
    let mut all = Vec::new();
    for planned in &state.plan().steps {
        let step = &state.steps[&planned.id];
        let Some((_, before)) = &step.called else { continue };
        let done = step.phase == Phase::Succeeded;
        let mut push = |resource: String, before: String| {
            all.push(Raised { step: planned.id.clone(), resource, before, done });
        };
        match planned.kind.as_str() {
            "nodes.scale" => {
                let sizes: Option<crate::service::Scaling> = read(before, "scaling");
                let group = text(&planned.with, "node_group").unwrap_or_default();
                push(format!("node group {group}"), sizes.map_or("unknown".to_owned(), |s| s.to_string()));
            }
            "workloads.scale" => {
                let namespace = text(&planned.with, "namespace").unwrap_or_default();
                for (name, was) in before.as_object().into_iter().flatten() {
                    let replicas = was.get("replicas").and_then(Value::as_u64);
                    let wanted = ["deployments", "stateful_sets"]
                        .iter()
                        .find_map(|kind| planned.with.get(kind)?.get(name)?.as_u64());
                    // What had as many already was not touched.
                    let min = was.get("autoscaler").and_then(|a| a.get("min")).and_then(Value::as_u64);
                    if wanted.is_some() && replicas.max(min) >= wanted {
                        continue;
                    }
                    let hpa = min.map(|m| format!(", autoscaler from {m}")).unwrap_or_default();
                    let replicas = replicas.map_or("unknown".to_owned(), |n| n.to_string());
                    push(format!("{namespace}/{name}"), format!("{replicas} replicas{hpa}"));
                }
            }
            _ => {}
        }
    }
    all
}

fn unproven(state: &RunState, report: &Report) -> Vec<String> {
    let mut all = Vec::new();
    let from = report.from.as_ref().map_or("the old Region", RegionId::as_str);
    match report.verdict {
        Some(Verdict::Partly) => all.push(format!("that {from} was down: it was only partly")),
        Some(Verdict::Unknown) => all.push(format!("that {from} was down: that is unknown")),
        _ => {}
    }
    for (name, database) in &report.databases {
        match database.fence.as_deref() {
            Some("refused") => {
                all.push(format!("{name}: the old writer was not fenced, its service refused"))
            }
            Some("unknown") => all.push(format!("{name}: whether the old writer is fenced is unknown")),
            _ => {}
        }
        let unbounded = database.rpo_s.is_some_and(|rpo| rpo.max.is_none());
        if database.promoted_at.is_some() && unbounded {
            all.push(format!("{name}: how much data was lost is unknown"));
        }
        all.extend(database.unproven.iter().map(|what| format!("{name}: {what}")));
    }
    for planned in &state.plan().steps {
        match (&state.steps[&planned.id].phase, planned.best_effort) {
            (Phase::Skipped, _) => all.push(format!("{}: it was skipped", planned.id)),
            (Phase::Failed(error), true) => all.push(format!("{}: {}", planned.id, error.one_line())),
            _ => {}
        }
        let output = &state.steps[&planned.id].output;
        let status = text(output, "status").filter(|s| ["DEGRADED", "DOWN", "UNKNOWN"].contains(&s.as_str()));
        if let Some(status) = status {
            let detail = text(output, "detail").unwrap_or(status);
            all.push(format!("{}: {detail}", planned.id));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_database_counts_and_unknown_is_worse_than_any_number() {
        let a = Rpo { min: 0.0, max: Some(5.0) };
        assert_eq!(worse(a, Rpo { min: 1.0, max: Some(2.0) }), Rpo { min: 1.0, max: Some(5.0) });
        assert_eq!(worse(a, Rpo { min: 0.0, max: None }).max, None);
    }
}
