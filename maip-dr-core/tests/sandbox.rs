//! The built-in failover in the sandbox: every scenario, its virtual time against the critical path, a crash at
//! every record, and the invariants of the world it leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(feature = "sim")]

use std::sync::Arc;

use async_trait::async_trait;
use maip_dr_core::api::{Client, Hooks, Place, RunOptions};
use maip_dr_core::engine::state::RunState;
use maip_dr_core::engine::{Driven, Update};
use maip_dr_core::journal::{Event, Journal, Journals, MemoryJournals, Outcome, Record, Who};
use maip_dr_core::procedure::PlanRequest;
use maip_dr_core::sim::{Fault, FaultKind, Sandbox, Scenario};
use maip_dr_core::topology::{Topology, parse};
use maip_dr_core::{Error, ErrorKind, RegionId, Result, Risk, RunId};

const TOPOLOGY: &str = include_str!("../../examples/maip-prod.yaml");

struct Bench {
    sandbox: Sandbox,
    journals: MemoryJournals,
}

impl Bench {
    fn new(scenario: &Scenario) -> Self {
        let topology = parse(TOPOLOGY, "maip-prod.yaml").unwrap();
        let at = "2026-11-23T03:12:30Z".parse().unwrap();
        Self {
            sandbox: Sandbox::memory(&topology, scenario, 7, at).unwrap(),
            journals: MemoryJournals::default(),
        }
    }
    fn named(name: &str) -> Self {
        Self::new(&Scenario::named(name).unwrap())
    }
    fn client(&self, journals: Arc<dyn Journals>) -> Client {
        let topology = parse(TOPOLOGY, "maip-prod.yaml").unwrap();
        Client::new("/nonexistent", Some(topology), Place::Held(self.sandbox.clone()), Who::default())
            .with_journals(journals)
    }
    async fn go(&self, accept: Vec<Risk>) -> Result<Outcome> {
        let client = self.client(Arc::new(self.journals.clone()));
        let plan = client.plan("failover", &PlanRequest::default()).await?;
        let options = RunOptions { yes: true, accept, ..RunOptions::default() };
        drive(client.start(plan, options, Hooks::default()).await?.drive().await)
    }
    async fn resume(&self, accept: Vec<Risk>) -> Result<Outcome> {
        let client = self.client(Arc::new(self.journals.clone()));
        let options = RunOptions { yes: true, accept, ..RunOptions::default() };
        drive(client.resume("last", options, Hooks::default()).await?.drive().await)
    }
    async fn records(&self) -> Vec<Record> {
        let run = self.journals.runs().await.unwrap().pop().unwrap();
        self.journals.read(&run).await.unwrap()
    }
    async fn state(&self) -> RunState {
        RunState::fold(&self.records().await).unwrap()
    }
    /// What must hold of every world after every run, however it ended.
    fn invariants(&self, what: &str) {
        self.sandbox
            .inspect(|world| {
                let promotions = world.mutations.iter().filter(|m| m.api == "rds:PromoteReadReplica").count();
                assert!(promotions <= 1, "{what}: promoted {promotions} times");
                let switched =
                    world.mutations.iter().position(|m| m.api == "route53:ChangeResourceRecordSets");
                if let Some(switched) = switched {
                    let promoted = world.mutations.iter().position(|m| m.api == "rds:PromoteReadReplica");
                    assert!(
                        promoted.is_some_and(|p| p < switched),
                        "{what}: traffic moved to a database that takes no writes"
                    );
                }
                for group in
                    world.regions.values().flat_map(|r| r.clusters.values()).flat_map(|c| c.groups.values())
                {
                    assert!(
                        group.scaling.min <= group.scaling.desired
                            && group.scaling.desired <= group.scaling.max,
                        "{what}"
                    );
                }
            })
            .unwrap();
    }
    fn promotions(&self) -> usize {
        self.sandbox
            .inspect(|w| w.mutations.iter().filter(|m| m.api == "rds:PromoteReadReplica").count())
            .unwrap()
    }
    fn mutations(&self) -> usize {
        self.sandbox.inspect(|w| w.mutations.len()).unwrap()
    }
}

fn drive(driven: Result<Driven>) -> Result<Outcome> {
    match driven? {
        Driven::Outcome(outcome) => Ok(outcome),
        Driven::Paused => panic!("paused"),
    }
}

const UNFENCED: Risk = Risk::Unfenced;

#[tokio::test]
async fn a_lost_primary_is_failed_over_in_its_critical_paths_time() {
    let bench = Bench::named("primary-lost");
    assert_eq!(bench.go(vec![UNFENCED]).await.unwrap(), Outcome::Succeeded);
    bench.invariants("primary-lost");
    let records = bench.records().await;
    for r in &records {
        println!("{} {:?} {}", maip_dr_core::journal::millis::text(r.at), r.step, r.event.name());
    }
    // The critical path of what the world's own durations allow, found by walking back from the end along the
    // step that ended last before each step's begin: our own waiting is what is left over.
    let state = bench.state().await;
    let ends = |id: &maip_dr_core::StepId| state.steps[id].ended_at.unwrap();
    let idle: f64 = state
        .plan()
        .steps
        .iter()
        // A mutating step that never called was looking all the time: the fence that nobody answered.
        .filter(|s| !s.after.is_empty() && (state.steps[&s.id].called.is_some() || !s.mutates()))
        .map(|s| {
            let ready = s.after.iter().map(ends).max().unwrap();
            maip_dr_core::clock::seconds_between(
                ready,
                state.steps[&s.id].started_at.unwrap().min(ends(&s.id)),
            )
        })
        .fold(0.0, f64::max);
    assert!(idle < 1.0, "a step waited {idle} s although all before it was done");
}

#[tokio::test]
async fn a_fence_that_nobody_answers_is_held_before_anything_irreversible() {
    let bench = Bench::named("primary-lost");
    assert_eq!(bench.go(vec![]).await.unwrap(), Outcome::Held);
    assert_eq!(bench.state().await.held.unwrap().1, Some(UNFENCED));
    assert_eq!(bench.promotions(), 0);
    assert_eq!(bench.resume(vec![UNFENCED]).await.unwrap(), Outcome::Succeeded);
    bench.invariants("resumed");
}

#[tokio::test]
async fn a_healthy_primary_is_refused_untouched() {
    let bench = Bench::named("healthy");
    assert_eq!(bench.go(vec![]).await.unwrap(), Outcome::RolledBack);
    let (_, error) = bench.state().await.ended.unwrap();
    assert_eq!(error.unwrap().kind, ErrorKind::Refused);
    assert_eq!(bench.mutations(), 0, "nothing was changed");
}

#[tokio::test]
async fn a_partitioned_primary_needs_two_words() {
    let bench = Bench::named("primary-partitioned");
    assert_eq!(bench.go(vec![]).await.unwrap(), Outcome::Held);
    assert_eq!(bench.state().await.held.unwrap().1, Some(Risk::UnverifiedDown));
    assert_eq!(bench.mutations(), 0);
    assert_eq!(bench.resume(vec![Risk::UnverifiedDown]).await.unwrap(), Outcome::Held);
    assert_eq!(bench.resume(vec![UNFENCED]).await.unwrap(), Outcome::Succeeded);
}

#[tokio::test]
async fn too_much_loss_is_held_until_that_much_is_accepted() {
    let bench = Bench::named("replica-lagging");
    assert_eq!(bench.go(vec![UNFENCED]).await.unwrap(), Outcome::Held);
    let Some(Risk::DataLoss { seconds: Some(seconds) }) = bench.state().await.held.unwrap().1 else {
        panic!()
    };
    assert!(seconds >= 300.0);
    assert_eq!(
        bench.resume(vec![Risk::DataLoss { seconds: Some(60.0) }]).await.unwrap(),
        Outcome::Held,
        "too little"
    );
    assert_eq!(
        bench.resume(vec![Risk::DataLoss { seconds: Some(3600.0) }]).await.unwrap(),
        Outcome::Succeeded
    );

    let unknown = Bench::new(&Scenario { replica_lag_s: None, ..Scenario::default() });
    assert_eq!(unknown.go(vec![UNFENCED]).await.unwrap(), Outcome::Held);
    assert_eq!(
        unknown.resume(vec![Risk::DataLoss { seconds: Some(1e9) }]).await.unwrap(),
        Outcome::Held,
        "unknown is no number"
    );
    assert_eq!(unknown.resume(vec![Risk::DataLoss { seconds: None }]).await.unwrap(), Outcome::Succeeded);
}

#[tokio::test]
async fn capacity_that_never_comes_is_named() {
    let bench = Bench::named("no-capacity");
    assert_eq!(bench.go(vec![UNFENCED]).await.unwrap(), Outcome::Held);
    let (reason, _) = bench.state().await.held.unwrap();
    assert!(
        reason.contains("nodes are Ready") && reason.contains("InsufficientInstanceCapacity"),
        "{reason}"
    );
}

#[tokio::test]
async fn throttling_is_waited_out() {
    let bench = Bench::named("throttled");
    let mut outcome = bench.go(vec![UNFENCED]).await;
    // A plan is not retried: the person who asks for it does that.
    while matches!(&outcome, Err(e) if e.kind == ErrorKind::Throttled) {
        outcome = bench.go(vec![UNFENCED]).await;
    }
    let outcome = outcome.unwrap();
    assert!(matches!(outcome, Outcome::Succeeded | Outcome::Held), "{outcome:?}");
    bench.invariants("throttled");
}

#[tokio::test]
async fn a_lost_answer_at_any_mutating_call_is_observed() {
    for api in [
        "rds:PromoteReadReplica",
        "eks:UpdateNodegroupConfig",
        "kubernetes:patch deployments",
        "route53:ChangeResourceRecordSets",
    ] {
        let fault = Fault {
            from: Default::default(),
            until: None,
            region: None,
            api: Some(api.to_owned()),
            does: FaultKind::LostAnswer,
            probability: 1.0,
            times: Some(1),
        };
        let bench = Bench::new(&Scenario { faults: vec![fault], ..Scenario::default() });
        assert_eq!(bench.go(vec![UNFENCED]).await.unwrap(), Outcome::Succeeded, "{api}");
        assert!(bench.records().await.iter().any(|r| matches!(r.event, Event::StepInDoubt { .. })), "{api}");
        assert_eq!(bench.promotions(), 1, "{api}");
        bench.invariants(api);
    }
}

/// Dies at one record, before or after it is kept.
#[derive(Debug)]
struct Mortal {
    inner: MemoryJournals,
    left: usize,
    keep_last: bool,
}

#[derive(Debug)]
struct MortalJournal {
    inner: Box<dyn Journal>,
    left: usize,
    keep_last: bool,
}

#[async_trait]
impl Journal for MortalJournal {
    async fn append(&mut self, record: &Record, line: &str) -> Result<()> {
        if self.left == 0 {
            if std::mem::take(&mut self.keep_last) {
                self.inner.append(record, line).await?;
            }
            return Err(Error::internal("killed"));
        }
        self.left -= 1;
        self.inner.append(record, line).await
    }
}

#[async_trait]
impl Journals for Mortal {
    async fn create(&self, run: &RunId) -> Result<Box<dyn Journal>> {
        let inner = self.inner.create(run).await?;
        Ok(Box::new(MortalJournal { inner, left: self.left, keep_last: self.keep_last }))
    }
    async fn open(&self, run: &RunId) -> Result<(Box<dyn Journal>, Vec<Record>)> {
        self.inner.open(run).await
    }
    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        self.inner.read(run).await
    }
    async fn runs(&self) -> Result<Vec<RunId>> {
        self.inner.runs().await
    }
    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[tokio::test]
async fn killed_at_every_record_the_world_ends_the_same() {
    let mut at = 0;
    loop {
        let mut survived = false;
        for keep_last in [false, true] {
            let bench = Bench::named("primary-lost");
            let mortal = Mortal { inner: bench.journals.clone(), left: at, keep_last };
            let client = bench.client(Arc::new(mortal));
            let plan = client.plan("failover", &PlanRequest::default()).await.unwrap();
            let options = RunOptions { yes: true, accept: vec![UNFENCED], ..RunOptions::default() };
            let first = match client.start(plan, options, Hooks::default()).await {
                Ok(run) => run.drive().await,
                Err(e) => Err(e),
            };
            survived |= first.is_ok();
            let what = format!("killed at record {at}, kept: {keep_last}");
            let started =
                bench.journals.runs().await.unwrap().len() == 1 && !bench.records().await.is_empty();
            if first.is_err() && started && bench.state().await.ended.is_none() {
                let outcome = bench.resume(vec![UNFENCED]).await.unwrap();
                assert_eq!(outcome, Outcome::Succeeded, "{what}: {:?}", bench.state().await.ended);
            }
            bench.invariants(&what);
            if started {
                assert_eq!(bench.promotions(), 1, "{what}");
                let west = RegionId::from("us-west-2");
                assert_eq!(
                    bench
                        .sandbox
                        .inspect(|w| w.writers().iter().filter(|(r, _)| *r == west).count())
                        .unwrap(),
                    1,
                    "{what}"
                );
            }
        }
        if survived {
            return;
        }
        at += 1;
    }
}

#[tokio::test]
async fn another_account_is_refused_at_the_start_and_at_a_resume() {
    let ours = parse(TOPOLOGY, "maip-prod.yaml").unwrap();
    let theirs = parse(&TOPOLOGY.replace("123456789012", "999999999999"), "theirs").unwrap();
    let at = "2026-11-23T03:12:30Z".parse().unwrap();
    let world =
        |topology| Sandbox::memory(topology, &Scenario::named("primary-lost").unwrap(), 7, at).unwrap();
    let journals = MemoryJournals::default();
    let client = |topology: &Topology, world: &Sandbox| {
        Client::new("/nonexistent", Some(topology.clone()), Place::Held(world.clone()), Who::default())
            .with_journals(Arc::new(journals.clone()))
    };
    let options = || RunOptions { yes: true, ..RunOptions::default() };
    let (right, wrong) = (world(&ours), world(&theirs));

    // The topology names the account: the plan may have been made elsewhere, and is not begun.
    let plan = client(&ours, &right).plan("failover", &PlanRequest::default()).await.unwrap();
    let error = client(&ours, &wrong).start(plan, options(), Hooks::default()).await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("999999999999"), "{error}");
    assert!(journals.runs().await.unwrap().is_empty(), "nothing was begun");

    // It does not: then the run's own beginning says whose it is.
    let anyone = TOPOLOGY.replace(", account: \"123456789012\"", "");
    assert_ne!(anyone, TOPOLOGY);
    let anyone = parse(&anyone, "anyone").unwrap();
    let begun = client(&anyone, &right);
    let plan = begun.plan("failover", &PlanRequest::default()).await.unwrap();
    let outcome = drive(begun.start(plan, options(), Hooks::default()).await.unwrap().drive().await).unwrap();
    assert_eq!(outcome, Outcome::Held);
    let accept = || RunOptions { accept: vec![UNFENCED], ..options() };
    let error =
        client(&anyone, &wrong).resume("last", accept(), Hooks::default()).await.map(drop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert!(error.message.contains("was begun in account 123456789012"), "{error}");
    assert!(wrong.inspect(|world| world.mutations.is_empty()).unwrap());
    let resumed = client(&anyone, &right).resume("last", accept(), Hooks::default()).await.unwrap();
    assert_eq!(drive(resumed.drive().await).unwrap(), Outcome::Succeeded);
}

#[tokio::test]
async fn a_dry_run_and_a_plan_change_nothing() {
    for name in Scenario::names() {
        let bench = Bench::named(name);
        let client = bench.client(Arc::new(bench.journals.clone()));
        if let Ok(plan) = client.plan("failover", &PlanRequest::default()).await {
            client.dry_run(&plan, &RunOptions::default()).await.unwrap();
        }
        let _ = client.check(None).await.unwrap();
        assert_eq!(bench.mutations(), 0, "{name}");
        bench.sandbox.inspect(|w| assert!(w.calls.values().all(|c| !c.mutates), "{name}")).unwrap();
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_run() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let bench = Bench::named("throttled");
        let _ = bench.go(vec![UNFENCED]).await;
        let world = bench
            .sandbox
            .inspect(|w| serde_json::to_string(&(&w.mutations, &w.calls, w.now)).unwrap())
            .unwrap();
        seen.push(world.replace(
            &bench.journals.runs().await.unwrap().first().map(ToString::to_string).unwrap_or_default(),
            "RUN",
        ));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn everybody_who_watches_sees_every_record() {
    let bench = Bench::named("primary-lost");
    let client = bench.client(Arc::new(bench.journals.clone()));
    let plan = client.plan("failover", &PlanRequest::default()).await.unwrap();
    let seen = Arc::new(std::sync::Mutex::new(0));
    let count = seen.clone();
    let hooks = Hooks {
        sink: Arc::new(move |update| {
            if matches!(update, Update::Recorded(_)) {
                *count.lock().unwrap() += 1;
            }
        }),
        ..Hooks::default()
    };
    let options = RunOptions { yes: true, accept: vec![UNFENCED], ..RunOptions::default() };
    client.start(plan, options, hooks).await.unwrap().drive().await.unwrap();
    let written = bench.records().await.len();
    assert_eq!(*seen.lock().unwrap(), written);
}
