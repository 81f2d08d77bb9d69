//! The engine on steps whose whole world is a map: order, approval, holds, undo, lost answers, and a crash at
//! every journal record.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use maip_dr_core::clock::Clock;
use maip_dr_core::engine::state::{Phase, RunState};
use maip_dr_core::engine::{Answer, Decider, Driven, Engine, Pause, Question, Refuse, Setup};
use maip_dr_core::journal::{
    JOURNAL_VERSION, Journal, Journals, MemoryJournals, Outcome, Record, RunStart, Who,
};
use maip_dr_core::plan::{Plan, PlannedStep};
use maip_dr_core::region::World;
use maip_dr_core::service::{MockDnsService, MockNotifyService, MockProbeService};
use maip_dr_core::step::{ApiCall, Observed, Plane, Registry, Step, StepCtx, StepKind, Timing, Undo};
use maip_dr_core::topology::{Topology, parse};
use maip_dr_core::{Error, ErrorKind, RegionId, Result, Risk, RunId, StepId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const TOPOLOGY: &str = include_str!("../../examples/maip-prod.yaml");

/// What each fake world holds: how often a resource was changed, and what its next calls answer.
#[derive(Debug, Default)]
struct Fake {
    done: BTreeSet<String>,
    accepted: BTreeMap<String, u32>,
    order: Vec<String>,
    answers: BTreeMap<String, Vec<&'static str>>,
}

static WORLDS: LazyLock<Mutex<BTreeMap<String, Fake>>> = LazyLock::new(Mutex::default);

fn fake<T>(world: &str, f: impl FnOnce(&mut Fake) -> T) -> T {
    f(WORLDS.lock().unwrap().entry(world.to_owned()).or_default())
}

#[derive(Debug)]
struct Call(Params);

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Params {
    world: String,
    name: String,
    undo: String,
}

impl StepKind for Call {
    const KIND: &'static str = "test.call";
    const ABOUT: &'static str = "A fake.";
    type Params = Params;
    fn build(params: Params, _: &Topology) -> Result<Self> {
        Ok(Self(params))
    }
}

#[async_trait]
impl Step for Call {
    fn summary(&self) -> String {
        self.0.name.clone()
    }
    fn region(&self) -> Option<&RegionId> {
        None
    }
    fn undo_policy(&self) -> Undo {
        match self.0.undo.as_str() {
            "inverse" => Undo::Inverse,
            "impossible" => Undo::Impossible,
            _ => Undo::NotNeeded,
        }
    }
    fn calls(&self) -> Vec<ApiCall> {
        let api = ApiCall::reads("test:Call", &RegionId::from("x"), Plane::Data, self.0.name.clone());
        vec![ApiCall { mutates: self.0.undo != "read", ..api }]
    }
    fn by_hand(&self) -> Vec<String> {
        Vec::new()
    }
    fn timing(&self) -> Timing {
        Timing::secs(1, 300)
    }
    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        cx.clock().sleep(Duration::from_millis(10)).await;
        let answer = fake(&self.0.world, |f| f.answers.get_mut(&self.0.name).and_then(Vec::pop));
        match answer {
            Some("panic") => panic!("the author's mistake"),
            Some("needs") => {
                return Err(Error::refused("risky").needs(Risk::Unfenced, json!({ "found": true })));
            }
            Some("loses") => {
                let risk = Risk::DataLoss { seconds: Some(90.0) };
                return Err(Error::refused("too much").needs(risk, json!({ "found": true })));
            }
            Some("fail") => return Ok(Observed::Failed(Error::not_found("it is gone"))),
            Some("silent") => return Err(Error::unavailable("no answer")),
            Some(other) => {
                fake(&self.0.world, |f| f.answers.entry(self.0.name.clone()).or_default().push(other))
            }
            None => {}
        }
        let done = fake(&self.0.world, |f| f.done.contains(&self.0.name));
        Ok(match (self.0.undo.as_str(), done) {
            ("read", _) | (_, true) => Observed::Done(json!({ "name": self.0.name })),
            _ => Observed::NotDone { before: json!("before") },
        })
    }
    async fn apply(&self, cx: &StepCtx, _: &Value) -> Result<()> {
        let answer = fake(&self.0.world, |f| f.answers.get_mut(&self.0.name).and_then(Vec::pop));
        if answer == Some("throttled") {
            return Err(Error::throttled("slow down"));
        }
        if answer == Some("lost unsent") {
            return Err(Error::in_doubt("no answer"));
        }
        fake(&self.0.world, |f| {
            f.done.insert(self.0.name.clone());
            *f.accepted.entry(self.0.name.clone()).or_default() += 1;
            f.order.push(self.0.name.clone());
        });
        match answer {
            Some("lost") => Err(Error::in_doubt("no answer")),
            Some("hang") => {
                cx.clock().sleep(Duration::from_secs(3600)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
    async fn undo(&self, _: &StepCtx, before: &Value) -> Result<()> {
        assert_eq!(before, "before", "what undo needs was durable before the call");
        let answer =
            fake(&self.0.world, |f| f.answers.get_mut(&format!("undo {}", self.0.name)).and_then(Vec::pop));
        if answer == Some("fail") {
            return Err(Error::denied("not allowed"));
        }
        fake(&self.0.world, |f| {
            f.done.remove(&self.0.name);
            f.order.push(format!("undo {}", self.0.name));
        });
        Ok(())
    }
}

#[derive(Debug)]
struct PausedClock(tokio::time::Instant, Timestamp);

#[async_trait]
impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        maip_dr_core::clock::after(self.1, self.0.elapsed())
    }
    #[allow(clippy::disallowed_methods, reason = "tokio's paused clock")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Fails after so many records, as a process that was killed would.
#[derive(Debug)]
struct Mortal {
    inner: Box<dyn Journal>,
    left: usize,
    /// Whether the last record still reaches the disk.
    keep_last: bool,
}

#[async_trait]
impl Journal for Mortal {
    async fn append(&mut self, record: &Record, line: &str) -> Result<()> {
        if self.left == 0 {
            if self.keep_last {
                self.keep_last = false;
                self.inner.append(record, line).await?;
            }
            return Err(Error::internal("killed"));
        }
        self.left -= 1;
        self.inner.append(record, line).await
    }
}

struct Bench {
    world: World,
    journals: MemoryJournals,
    run: RunId,
}

struct Yes;
#[async_trait]
impl Decider for Yes {
    async fn ask(&self, _: Question) -> Answer {
        Answer::Yes { why: None }
    }
}
struct No;
#[async_trait]
impl Decider for No {
    async fn ask(&self, _: Question) -> Answer {
        Answer::No { why: Some("not tonight".into()) }
    }
}

impl Bench {
    fn new() -> Self {
        let clock = PausedClock(tokio::time::Instant::now(), "2026-11-23T03:12:00Z".parse().unwrap());
        let world = World {
            name: "fake",
            regions: BTreeMap::new(),
            dns: Arc::new(MockDnsService::new()),
            dns_region: RegionId::from("us-east-1"),
            probe: Arc::new(MockProbeService::new()),
            notify: Arc::new(MockNotifyService::new()),
            clock: Arc::new(clock),
        };
        Self { world, journals: MemoryJournals::default(), run: RunId::from("261123-0312-test") }
    }
    fn setup(&self, decider: Arc<dyn Decider>, approve: bool, accept: Vec<Risk>) -> Setup {
        Setup {
            world: self.world.clone(),
            registry: registry(),
            decider,
            pause: Pause::default(),
            sink: Arc::new(|_| {}),
            by: Who::default(),
            approve: approve.then_some(None),
            accept,
            why: None,
        }
    }
    async fn begin(&self, plan: Plan, setup: Setup) -> Result<Engine> {
        let journal = self.journals.create(&self.run).await?;
        Engine::begin(self.run.clone(), start(plan), journal, setup).await
    }
    async fn go(&self, plan: Plan) -> Outcome {
        outcome(
            self.begin(plan, self.setup(Arc::new(Refuse), true, vec![]))
                .await
                .unwrap()
                .drive()
                .await
                .unwrap(),
        )
    }
    async fn resume(&self, approve: bool, accept: Vec<Risk>) -> Outcome {
        let (journal, records) = self.journals.open(&self.run).await.unwrap();
        let setup = self.setup(Arc::new(Refuse), approve, accept);
        outcome(Engine::resume(&records, journal, setup).await.unwrap().drive().await.unwrap())
    }
    async fn state(&self) -> RunState {
        RunState::fold(&self.journals.read(&self.run).await.unwrap()).unwrap()
    }
}

fn outcome(driven: Driven) -> Outcome {
    match driven {
        Driven::Outcome(outcome) => outcome,
        Driven::Paused => panic!("paused"),
    }
}

fn registry() -> Registry {
    maip_dr_core::steps::registry().with::<Call>()
}

fn topology() -> Topology {
    parse(TOPOLOGY, "maip-prod.yaml").unwrap()
}

fn start(plan: Plan) -> RunStart {
    RunStart {
        version: JOURNAL_VERSION,
        application: "maip".into(),
        procedure: plan.procedure.clone(),
        world: "fake".into(),
        impact_at: None,
        caller: None,
        by: Who::default(),
        why: None,
        plan,
        topology: topology(),
    }
}

/// `name:undo<after,after` a step; the gate comes by itself.
fn plan(world: &str, steps: &[&str]) -> Plan {
    let steps = steps
        .iter()
        .map(|text| {
            let (head, after) = text.split_once('<').unwrap_or((text, ""));
            let (name, undo) = head.split_once(':').unwrap();
            let after: Vec<&str> = after.split(',').filter(|a| !a.is_empty()).collect();
            PlannedStep::new(name, "test.call", json!({ "world": world, "name": name, "undo": undo }), &after)
        })
        .collect();
    Plan::of("test", None, None, steps).complete(&registry(), &topology()).unwrap()
}

const USUAL: [&str; 4] =
    ["look:read", "fence:inverse<look", "promote:impossible<fence", "dns:inverse<promote"];

#[tokio::test(start_paused = true)]
async fn runs_in_order_and_asks_before_the_first_change() {
    let bench = Bench::new();
    assert_eq!(bench.go(plan("order", &USUAL)).await, Outcome::Succeeded);
    assert_eq!(fake("order", |f| f.order.clone()), ["fence", "promote", "dns"]);

    let bench = Bench::new();
    let plan = plan("held", &USUAL);
    let engine = bench.begin(plan, bench.setup(Arc::new(Refuse), false, vec![])).await.unwrap();
    assert_eq!(outcome(engine.drive().await.unwrap()), Outcome::Held);
    assert!(fake("held", |f| f.order.is_empty()), "nothing was changed before the yes");
    assert_eq!(bench.resume(true, vec![]).await, Outcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_no_changes_nothing_and_a_yes_goes_on() {
    let bench = Bench::new();
    let engine = bench.begin(plan("no", &USUAL), bench.setup(Arc::new(No), false, vec![])).await.unwrap();
    assert_eq!(outcome(engine.drive().await.unwrap()), Outcome::RolledBack);
    assert!(fake("no", |f| f.order.is_empty()));
    let bench = Bench::new();
    let engine = bench.begin(plan("yes", &USUAL), bench.setup(Arc::new(Yes), false, vec![])).await.unwrap();
    assert_eq!(outcome(engine.drive().await.unwrap()), Outcome::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_one_way_door_is_taken_back() {
    let bench = Bench::new();
    fake("back", |f| f.answers.insert("promote".into(), vec!["fail"]));
    assert_eq!(bench.go(plan("back", &USUAL)).await, Outcome::RolledBack);
    assert_eq!(fake("back", |f| f.order.clone()), ["fence", "undo fence"]);
    let ended = bench.state().await.ended.unwrap();
    assert_eq!(ended.1.unwrap().kind, ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_fails_is_stuck() {
    let bench = Bench::new();
    fake("stuck", |f| {
        f.answers.insert("promote".into(), vec!["fail"]);
        f.answers.insert("undo fence".into(), vec!["fail"]);
    });
    assert_eq!(bench.go(plan("stuck", &USUAL)).await, Outcome::Stuck);
}

#[tokio::test(start_paused = true)]
async fn a_failure_past_the_one_way_door_holds_and_undoes_nothing() {
    let bench = Bench::new();
    fake("past", |f| f.answers.insert("dns".into(), vec!["fail"]));
    assert_eq!(bench.go(plan("past", &USUAL)).await, Outcome::Held);
    assert_eq!(fake("past", |f| f.order.clone()), ["fence", "promote"]);
    assert!(matches!(bench.state().await.steps[&StepId::from("dns")].phase, Phase::Failed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_risk_holds_until_it_is_taken() {
    let bench = Bench::new();
    fake("risk", |f| f.answers.insert("fence".into(), vec!["needs", "needs"]));
    let plan = plan("risk", &USUAL);
    assert_eq!(bench.go(plan).await, Outcome::Held);
    assert!(fake("risk", |f| f.order.is_empty()));
    assert_eq!(bench.resume(true, vec![Risk::Unfenced]).await, Outcome::Succeeded);
    assert_eq!(fake("risk", |f| f.order.clone()), ["promote", "dns"], "what was found stands for the step");
    assert_eq!(bench.state().await.steps[&StepId::from("fence")].accepted, Some(Risk::Unfenced));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_observed_and_never_repeated() {
    for (answers, calls) in
        [(vec!["lost"], 1), (vec!["hang"], 1), (vec!["lost unsent"], 1), (vec!["throttled", "throttled"], 1)]
    {
        let bench = Bench::new();
        let world = format!("lost {answers:?}");
        fake(&world, |f| f.answers.insert("promote".into(), answers));
        assert_eq!(bench.go(plan(&world, &USUAL)).await, Outcome::Succeeded, "{world}");
        assert_eq!(fake(&world, |f| f.accepted["promote"]), calls, "{world}");
    }
}

#[tokio::test(start_paused = true)]
async fn done_by_somebody_else_is_held_until_accepted() {
    let bench = Bench::new();
    fake("already", |f| f.done.insert("promote".into()));
    assert_eq!(bench.go(plan("already", &USUAL)).await, Outcome::Held);
    assert_eq!(bench.state().await.held.unwrap().1, Some(Risk::Promoted));
    assert_eq!(bench.resume(true, vec![Risk::Promoted]).await, Outcome::Succeeded);
    assert!(!fake("already", |f| f.accepted.contains_key("promote")));
}

#[tokio::test(start_paused = true)]
async fn past_a_door_that_somebody_else_opened_nothing_is_undone() {
    let bench = Bench::new();
    fake("opened", |f| f.done.insert("promote".into()));
    assert_eq!(bench.go(plan("opened", &USUAL)).await, Outcome::Held);
    fake("opened", |f| f.answers.insert("dns".into(), vec!["fail"]));
    assert_eq!(bench.resume(true, vec![Risk::Promoted]).await, Outcome::Held);
    assert_eq!(fake("opened", |f| f.order.clone()), ["fence"], "two writers would be the end of it");
}

/// What a person accepted is the figure that was shown. A lost source's lag grows with the clock: measured anew it
/// would never be within what was accepted.
#[tokio::test(start_paused = true)]
async fn a_loss_is_accepted_as_it_was_shown_and_not_measured_again() {
    let shown = Risk::DataLoss { seconds: Some(90.0) };
    for (accepted, outcome) in [(Some(100.0), Outcome::Succeeded), (Some(60.0), Outcome::Held)] {
        let bench = Bench::new();
        let world = format!("loss {accepted:?}");
        fake(&world, |f| f.answers.insert("look".into(), vec!["loses"; 50]));
        assert_eq!(bench.go(plan(&world, &USUAL)).await, Outcome::Held);
        assert_eq!(bench.state().await.held.unwrap().1, Some(shown.clone()));
        assert_eq!(bench.resume(true, vec![Risk::DataLoss { seconds: accepted }]).await, outcome, "{world}");
        assert_eq!(fake(&world, |f| f.answers["look"].len()), 49, "looked at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_that_steps_failure_and_silence_is_waited_for() {
    let bench = Bench::new();
    fake("panic", |f| f.answers.insert("look".into(), vec!["panic"]));
    assert_eq!(bench.go(plan("panic", &USUAL)).await, Outcome::RolledBack);
    let bench = Bench::new();
    fake("silent", |f| f.answers.insert("look".into(), vec!["silent"; 5]));
    assert_eq!(bench.go(plan("silent", &USUAL)).await, Outcome::Succeeded);
    let bench = Bench::new();
    fake("silent for ever", |f| f.answers.insert("look".into(), vec!["silent"; 5000]));
    assert_eq!(
        bench.go(plan("silent for ever", &USUAL)).await,
        Outcome::RolledBack,
        "unknown is never success"
    );
}

/// The heart of it: killed at any record, before or after it reached the disk, and resumed, the run ends as if
/// nothing had happened, and no call that was accepted is made twice.
#[tokio::test(start_paused = true)]
async fn killed_at_every_record_it_ends_the_same_and_calls_once() {
    let steps = [
        "look:read",
        "scale:free",
        "fence:inverse<look",
        "promote:impossible<fence",
        "tell:free<fence",
        "dns:inverse<promote,scale",
    ];
    let mut survived = false;
    for at in 0..100 {
        for keep_last in [false, true] {
            let world = format!("crash {at} {keep_last}");
            let bench = Bench::new();
            let plan = plan(&world, &steps);
            let inner = bench.journals.create(&bench.run).await.unwrap();
            let journal = Box::new(Mortal { inner, left: at, keep_last });
            let setup = bench.setup(Arc::new(Refuse), true, vec![]);
            let first = match Engine::begin(bench.run.clone(), start(plan), journal, setup).await {
                Ok(engine) => engine.drive().await,
                Err(e) => Err(e),
            };
            survived |= first.is_ok();
            if first.is_err() && bench.journals.read(&bench.run).await.is_ok_and(|r| !r.is_empty()) {
                let ended = bench.state().await.ended;
                match ended {
                    Some((outcome, _)) => assert_eq!(outcome, Outcome::Succeeded, "{world}"),
                    None => assert_eq!(bench.resume(true, vec![]).await, Outcome::Succeeded, "{world}"),
                }
            }
            fake(&world, |f| {
                assert!(f.accepted.values().all(|n| *n == 1), "{world}: {:?}", f.accepted);
                assert!(f.accepted.is_empty() || f.accepted.len() == 5, "{world}: {:?}", f.accepted);
            });
        }
        if survived {
            return;
        }
    }
    panic!("the run needed more records than were tried");
}

#[test]
fn plans_that_cannot_be_run_are_refused() {
    let broken = |steps: Vec<PlannedStep>| {
        Plan::of("test", None, None, steps).complete(&registry(), &topology()).unwrap_err()
    };
    let call = |id: &str, name: &str, after: &[&str]| {
        PlannedStep::new(id, "test.call", json!({ "world": "w", "name": name, "undo": "inverse" }), after)
    };
    assert!(
        broken(vec![call("a", "x", &["b"]), call("b", "y", &["a"])]).message.contains("wait for each other")
    );
    assert!(broken(vec![call("a", "x", &["zz"])]).message.contains("does not exist"));
    assert!(broken(vec![call("a", "x", &[]), call("a", "y", &[])]).message.contains("two steps"));
    assert!(broken(vec![call("a", "x", &[]), call("b", "x", &[])]).message.contains("side by side"));
    assert!(
        broken(vec![PlannedStep::new("a", "db.promot", json!({}), &[])]).hint.unwrap().contains("db.promote")
    );
    let told = PlannedStep::new("tell", "notify.send", json!({ "text": "x" }), &[]);
    assert!(broken(vec![told, call("a", "x", &["tell"])]).message.contains("only reported"));
}

#[test]
fn the_question_comes_before_the_first_change_and_only_once() {
    let plan = plan("gate", &["look:read", "a:inverse<look", "b:inverse<a", "c:impossible<look"]);
    let gates: Vec<_> = plan.steps.iter().filter(|s| s.kind == "gate.approve").collect();
    assert_eq!(gates.len(), 1);
    assert_eq!(gates[0].after, [StepId::from("look")]);
    let before = maip_dr_core::plan::ancestors(&plan.steps).unwrap();
    for id in ["a", "b", "c"] {
        assert!(before[&StepId::from(id)].contains(&gates[0].id), "{id}");
    }
}
