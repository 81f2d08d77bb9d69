//! Single steps over mocked services: what they make of an answer, and what they call.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use maip_dr_core::clock::{Clock, after};
use maip_dr_core::region::{Region, World};
use maip_dr_core::service::{
    AliasTarget, ChangeStatus, DnsAnswer, HttpAnswer, Instance, LagSample, LatencySample,
    MockDatabaseService, MockDnsService, MockIdentityService, MockNodeGroupService, MockNotifyService,
    MockProbeService, MockStreamService, MockTableService, MockWorkloadService, NodeGroup, RecordSet,
    RecordType, Routing, Scaling, Stream, Table, Zone,
};
use maip_dr_core::service::{
    DatabaseService, IdentityService, NodeGroupService, StreamService, TableService, WorkloadService,
};
use maip_dr_core::step::{Observed, StartedAt, StepCtx};
use maip_dr_core::topology::{Topology, parse};
use maip_dr_core::{Error, ErrorKind, RegionId, Result, Risk, steps};
use serde_json::{Value, json};

const TOPOLOGY: &str = include_str!("../../examples/maip-prod.yaml");
const WEST: &str = "us-west-2";

fn topology() -> Topology {
    parse(TOPOLOGY, "example").unwrap()
}

/// A clock that moves when somebody sleeps.
#[derive(Debug)]
struct Steady(Mutex<Timestamp>);

#[async_trait]
impl Clock for Steady {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
    async fn sleep(&self, duration: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = after(*now, duration);
    }
}

fn now() -> Timestamp {
    "2026-11-23T03:12:00Z".parse().unwrap()
}

/// Every service of both Regions; what is not expected is not called.
#[derive(Debug, Default)]
struct Mocks {
    database: MockDatabaseService,
    dns: MockDnsService,
    node_groups: MockNodeGroupService,
    streams: MockStreamService,
    tables: MockTableService,
    probe: MockProbeService,
}

#[derive(Debug)]
struct MockRegion {
    id: RegionId,
    database: Arc<MockDatabaseService>,
    node_groups: Arc<MockNodeGroupService>,
    streams: Arc<MockStreamService>,
    tables: Arc<MockTableService>,
}

impl Region for MockRegion {
    fn id(&self) -> &RegionId {
        &self.id
    }
    fn identity(&self) -> Arc<dyn IdentityService> {
        Arc::new(MockIdentityService::new())
    }
    fn database(&self) -> Arc<dyn DatabaseService> {
        self.database.clone()
    }
    fn node_groups(&self) -> Arc<dyn NodeGroupService> {
        self.node_groups.clone()
    }
    fn workloads(&self, _: &str) -> Result<Arc<dyn WorkloadService>> {
        Ok(Arc::new(MockWorkloadService::new()))
    }
    fn streams(&self) -> Arc<dyn StreamService> {
        self.streams.clone()
    }
    fn tables(&self) -> Arc<dyn TableService> {
        self.tables.clone()
    }
}

impl Mocks {
    fn context(self) -> StepCtx {
        self.context_of(topology())
    }

    fn context_of(self, topology: Topology) -> StepCtx {
        let Self { database, dns, node_groups, streams, tables, probe } = self;
        let (database, node_groups) = (Arc::new(database), Arc::new(node_groups));
        let (streams, tables) = (Arc::new(streams), Arc::new(tables));
        let regions = topology.region_ids().cloned().map(|id| {
            let region = MockRegion {
                id: id.clone(),
                database: database.clone(),
                node_groups: node_groups.clone(),
                streams: streams.clone(),
                tables: tables.clone(),
            };
            (id, Arc::new(region) as Arc<dyn Region>)
        });
        StepCtx {
            world: World {
                name: "aws",
                regions: regions.collect(),
                dns: Arc::new(dns),
                dns_region: "us-east-1".into(),
                probe: Arc::new(probe),
                notify: Arc::new(MockNotifyService::new()),
                clock: Arc::new(Steady(Mutex::new(now()))),
            },
            topology: Arc::new(topology.clone()),
            run: "261123-0312-k7qd".into(),
            step: "the-step".into(),
            impact_at: None,
            accepted: Vec::new(),
            began: now(),
            started: None,
            outputs: Arc::new(BTreeMap::new()),
            notes: Arc::new(|_, _| {}),
        }
    }
}

async fn observe(kind: &str, with: Value, cx: &StepCtx) -> Result<Observed> {
    steps::registry().build(kind, &with, &cx.topology).unwrap().observe(cx).await
}

fn replica() -> Instance {
    Instance {
        id: "maip-prod-postgres-replica".into(),
        resource_id: "db-R".into(),
        arn: "arn:aws:rds:us-west-2:123456789012:db:maip-prod-postgres-replica".into(),
        engine: "postgres".into(),
        status: "available".into(),
        replica_source: Some("arn:aws:rds:us-east-1:123456789012:db:maip-prod-postgres".into()),
        replication: Some("replicating".into()),
        backup_retention_days: 0,
        pending_changes: Vec::new(),
        class: "db.r6g.xlarge".into(),
        endpoint: None,
        multi_az: false,
    }
}

fn writer() -> Instance {
    Instance { replica_source: None, replication: None, backup_retention_days: 7, ..replica() }
}

fn lag(seconds: f64) -> Vec<LagSample> {
    vec![LagSample { at: now(), seconds }]
}

const PROMOTE: &str = "db.promote";

fn promote() -> Value {
    json!({ "database": "postgres", "region": WEST })
}

/// The context of a promotion whose replica is `seen`, and whose lag is `samples`.
fn promotion(seen: Instance, samples: Vec<LagSample>) -> StepCtx {
    let mut mocks = Mocks::default();
    mocks.database.expect_describe().returning(move |_| Ok(seen.clone()));
    mocks.database.expect_replica_lag().returning(move |_, _| Ok(samples.clone()));
    mocks.database.expect_events().returning(|_, _| Ok(Vec::new()));
    StepCtx { accepted: vec![Risk::Unfenced], ..mocks.context() }
}

#[tokio::test]
async fn an_available_replica_of_the_right_source_may_be_promoted() {
    let cx = promotion(replica(), lag(2.0));
    let seen = observe(PROMOTE, promote(), &cx).await.unwrap();
    let Observed::NotDone { before } = seen else { panic!("{seen:?}") };
    assert_eq!(before["resource_id"], "db-R", "what tells this replica from another of its name");
}

#[tokio::test]
async fn what_must_not_be_promoted_is_not() {
    let other = Instance {
        replica_source: Some("arn:aws:rds:us-east-1:123456789012:db:something-else".into()),
        ..replica()
    };
    let error = observe(PROMOTE, promote(), &promotion(other, lag(2.0))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    let mysql = Instance { engine: "mysql".into(), ..replica() };
    assert_eq!(
        observe(PROMOTE, promote(), &promotion(mysql, lag(2.0))).await.unwrap_err().kind,
        ErrorKind::Invalid
    );
    let backing = Instance { status: "backing-up".into(), ..replica() };
    let seen = observe(PROMOTE, promote(), &promotion(backing, lag(2.0))).await.unwrap();
    assert!(matches!(seen, Observed::Underway(_)), "a promotion is refused while it backs up: {seen:?}");
    let stale = Instance { replication: Some("terminated".into()), ..replica() };
    let error = observe(PROMOTE, promote(), &promotion(stale, lag(2.0))).await.unwrap_err();
    assert_eq!(error.needs, Some(Risk::DataLoss { seconds: None }));
    let unfenced = StepCtx { accepted: Vec::new(), ..promotion(replica(), lag(2.0)) };
    assert_eq!(observe(PROMOTE, promote(), &unfenced).await.unwrap_err().needs, Some(Risk::Unfenced));
}

#[tokio::test]
async fn an_unknown_or_a_large_loss_needs_a_word() {
    for (samples, seconds) in [(Vec::new(), None), (lag(-1.0), None), (lag(61.0), Some(61.0))] {
        let error = observe(PROMOTE, promote(), &promotion(replica(), samples)).await.unwrap_err();
        assert_eq!(error.needs, Some(Risk::DataLoss { seconds }), "{error}");
    }
}

#[tokio::test]
async fn available_alone_is_not_promoted_and_two_looks_must_agree() {
    // The first look finds a writer, the second the old state again: a stale read.
    let mut mocks = Mocks::default();
    let mut answers = vec![replica(), writer()];
    mocks.database.expect_describe().times(2).returning(move |_| Ok(answers.pop().unwrap()));
    let cx = mocks.context();
    let started = StartedAt { at: now(), before: json!({ "resource_id": "db-R" }) };
    let cx = StepCtx { started: Some(started.clone()), ..cx };
    let seen = observe(PROMOTE, promote(), &cx).await.unwrap();
    assert!(matches!(seen, Observed::Underway(_)), "{seen:?}");
    let cx = StepCtx { started: Some(started.clone()), ..promotion(writer(), Vec::new()) };
    let seen = observe(PROMOTE, promote(), &cx).await.unwrap();
    assert!(matches!(seen, Observed::Done(_)), "{seen:?}");
    assert!(cx.now() >= after(now(), Duration::from_secs(1)), "the looks are at least a second apart");
    let rebooting = Instance { status: "rebooting".into(), replication: None, ..writer() };
    let cx = StepCtx { started: Some(started.clone()), ..promotion(rebooting, Vec::new()) };
    assert!(matches!(observe(PROMOTE, promote(), &cx).await.unwrap(), Observed::Underway(_)));
    // Somebody put another instance in its place.
    let impostor = Instance { resource_id: "db-OTHER".into(), ..writer() };
    let cx = StepCtx { started: Some(started), ..promotion(impostor, Vec::new()) };
    assert!(matches!(observe(PROMOTE, promote(), &cx).await.unwrap(), Observed::Failed(_)));
}

#[tokio::test]
async fn the_promotion_is_called_once_with_its_retention() {
    let mut mocks = Mocks::default();
    mocks
        .database
        .expect_promote()
        .times(1)
        .withf(|id, days| id == "maip-prod-postgres-replica" && *days == 7)
        .returning(|_, _| Ok(()));
    let cx = mocks.context();
    let step = steps::registry().build(PROMOTE, &promote(), &cx.topology).unwrap();
    step.apply(&cx, &Value::Null).await.unwrap();
}

#[tokio::test]
async fn a_fence_is_confirmed_only_by_the_old_name_gone_and_the_new_one_there() {
    let fence = json!({ "database": "postgres", "region": "us-east-1" });
    let with = |old: Result<Instance>, new: Result<Instance>| {
        let mut mocks = Mocks::default();
        mocks
            .database
            .expect_describe()
            .returning(move |id| if id == "maip-prod-postgres" { old.clone() } else { new.clone() });
        StepCtx {
            started: Some(StartedAt { at: now(), before: json!({ "status": "available" }) }),
            ..mocks.context()
        }
    };
    let gone = || Err(Error::not_found("gone"));
    let confirmed = observe("db.fence", fence.clone(), &with(gone(), Ok(writer()))).await.unwrap();
    assert!(matches!(&confirmed, Observed::Done(found) if found["fence"] == "confirmed"), "{confirmed:?}");
    let waiting = observe("db.fence", fence.clone(), &with(gone(), gone())).await.unwrap();
    assert!(matches!(waiting, Observed::Underway(_)), "{waiting:?}");
    let changing = Instance { status: "modifying".into(), ..writer() };
    let waiting = observe("db.fence", fence.clone(), &with(Ok(changing), gone())).await.unwrap();
    assert!(matches!(waiting, Observed::Underway(_)), "it is not asked for twice: {waiting:?}");
    let denied =
        observe("db.fence", fence.clone(), &with(Err(Error::denied("no")), gone())).await.unwrap_err();
    assert_eq!(denied.needs, Some(Risk::Unfenced));
    assert_eq!(denied.found.unwrap()["fence"], "refused");
    let silent = observe("db.fence", fence, &with(Err(Error::unavailable("?")), gone())).await.unwrap();
    assert!(matches!(silent, Observed::Unknown(_)), "{silent:?}");
}

/// Its name, and the renames that were asked for.
type Renamed = (String, Vec<String>);

/// A writer whose names the test sees change as it is renamed.
fn renamed(was: &'static str, answers: Vec<Result<()>>) -> (Mocks, Arc<Mutex<Renamed>>) {
    let world = Arc::new(Mutex::new((was.to_owned(), Vec::new())));
    let mut mocks = Mocks::default();
    let seen = world.clone();
    mocks.database.expect_describe().returning(move |id| {
        let (name, _) = &*seen.lock().unwrap();
        if id == name { Ok(writer()) } else { Err(Error::not_found("gone")) }
    });
    let (seen, answers) = (world.clone(), Mutex::new(answers));
    mocks.database.expect_rename().returning(move |from, to| {
        let answer = answers.lock().unwrap().pop().unwrap_or(Ok(()));
        let mut seen = seen.lock().unwrap();
        seen.1.push(format!("{from} -> {to}"));
        if answer.is_ok() {
            to.clone_into(&mut seen.0);
        }
        answer
    });
    (mocks, world)
}

/// Undone is: the old name is there, the other is gone, and the fence's own call cannot arrive any more.
#[tokio::test]
async fn a_fence_is_undone_once_and_only_when_it_can_no_longer_arrive() {
    let back = "fenced -> maip-prod-postgres";
    for (was, answers, renames, seconds) in [
        ("fenced", vec![], vec![back], 2),
        ("fenced", vec![Err(Error::throttled("slow down"))], vec![back, back], 4),
        // The answer was lost, and so was the call: it is asked for again only when it can no longer arrive.
        ("fenced", vec![Err(Error::in_doubt("no answer"))], vec![back, back], 32),
        // Never renamed as far as one can see: our call may still be on its way.
        ("maip-prod-postgres", vec![], vec![], 30),
    ] {
        let (mocks, world) = renamed(was, answers);
        let before = json!({ "fenced_name": "fenced", "status": "available" });
        let started = Some(StartedAt { at: now(), before: before.clone() });
        let cx = StepCtx { started, ..mocks.context() };
        let fence = json!({ "database": "postgres", "region": "us-east-1" });
        steps::registry().build("db.fence", &fence, &cx.topology).unwrap().undo(&cx, &before).await.unwrap();
        let (name, asked) = world.lock().unwrap().clone();
        assert_eq!(
            (name.as_str(), &asked),
            ("maip-prod-postgres", &renames.iter().map(ToString::to_string).collect())
        );
        assert_eq!(cx.now().duration_since(now()).as_secs(), seconds, "{asked:?}");
    }
}

const OLD: &str = "10.0.0.1";
const NEW: &str = "10.0.0.2";

/// A name server and an application: what the record and the new load balancer lead to, and who answers.
fn serving(record: &'static str, answer: (u16, &'static str, Option<&'static str>)) -> MockProbeService {
    let mut probe = MockProbeService::new();
    probe.expect_authorities().returning(|_, _| Ok(vec!["ns1:53".into(), "ns2:53".into()]));
    probe.expect_dns().returning(move |name, record_type, _| {
        assert_ne!(record_type, RecordType::Cname, "addresses are asked for");
        let address = if name == "api.maip.example.com" { record } else { NEW };
        Ok(DnsAnswer { addresses: vec![address.parse().unwrap()], ttl_s: 42, authoritative: true })
    });
    probe.expect_http().returning(move |_| {
        let (status, address, region) = answer;
        Ok(HttpAnswer { status, address: Some(address.into()), region: region.map(Into::into) })
    });
    probe
}

#[tokio::test]
async fn a_name_is_switched_when_its_authorities_lead_to_the_standby() {
    let step = json!({ "traffic": "api", "region": WEST });
    // A CNAME is followed to its addresses: it must not pass for want of anything to compare.
    for types in ["[A]", "[CNAME]"] {
        let text = TOPOLOGY.replace("types: [A]", &format!("types: {types}"));
        let text = if types == "[A]" { text } else { text.replace("method: alias ", "method: weighted ") };
        for (record, done) in [(NEW, true), (OLD, false)] {
            let mocks = Mocks { probe: serving(record, (200, NEW, None)), ..Mocks::default() };
            let cx = mocks.context_of(parse(&text, "example").unwrap());
            match observe("dns.verify", step.clone(), &cx).await.unwrap() {
                Observed::Done(_) => assert!(done, "{types} {record}"),
                Observed::Underway(why) => {
                    assert!(!done && why.contains("still answers 10.0.0.1 for 42 s"), "{why}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn the_public_name_must_be_answered_by_the_standby_itself() {
    let step = json!({ "traffic": "api", "region": WEST, "public": true });
    for (answer, expected) in [
        ((200, NEW, None), "done"),
        ((200, "10.9.9.9", Some(WEST)), "done"),
        // The old Region answers 200 too: that is not the end of a failover.
        ((200, OLD, None), "10.0.0.1 still answers"),
        ((200, NEW, Some("us-east-1")), "us-east-1 still answers"),
        ((503, NEW, Some(WEST)), "it answers 503"),
    ] {
        let mocks = Mocks { probe: serving(NEW, answer), ..Mocks::default() };
        let said = match observe("endpoint.verify", step.clone(), &mocks.context()).await.unwrap() {
            Observed::Done(_) => "done".to_owned(),
            Observed::Underway(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(said.starts_with(expected), "{answer:?}: {said}");
    }
}

fn zone() -> Zone {
    Zone { id: "Z1".into(), name: "maip.example.com".into(), private: false }
}

fn record(to: &str, routing: Routing, identifier: Option<&str>) -> RecordSet {
    RecordSet {
        name: "api.maip.example.com".into(),
        record_type: RecordType::A,
        set_identifier: identifier.map(str::to_owned),
        routing,
        ttl_s: None,
        values: Vec::new(),
        alias: Some(AliasTarget {
            dns_name: to.into(),
            hosted_zone_id: if to == EAST_LB { "Z35SXDOTRQ7X7K" } else { "Z1H1FL5HABSF5" }.into(),
            evaluate_target_health: true,
        }),
        health_check_id: None,
    }
}

const EAST_LB: &str = "maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com";
const WEST_LB: &str = "maip-prod-dr-alb-2222222222.us-west-2.elb.amazonaws.com";

/// What dns.switch sends for `records`, or why it sends nothing.
async fn switched(records: Vec<RecordSet>, zones: Vec<Zone>) -> Result<Vec<RecordSet>> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = sent.clone();
    let mut mocks = Mocks::default();
    mocks.dns.expect_zones().returning(move |_| Ok(zones.clone()));
    mocks.dns.expect_records().returning(move |_, _| Ok(records.clone()));
    mocks.dns.expect_change().returning(move |_, _, changes| {
        log.lock().unwrap().extend(changes.iter().map(|c| c.record.clone()));
        Ok("C1".into())
    });
    mocks.dns.expect_change_status().returning(|_| Ok(ChangeStatus::InSync));
    let cx = mocks.context();
    let step =
        steps::registry().build("dns.switch", &json!({ "traffic": "api", "region": WEST }), &cx.topology);
    let step = step.unwrap();
    let Observed::NotDone { before } = step.observe(&cx).await? else { return Ok(Vec::new()) };
    step.apply(&cx, &before).await?;
    let sent = sent.lock().unwrap().clone();
    Ok(sent)
}

#[tokio::test]
async fn the_change_is_made_for_the_records_that_are_there() {
    let target = |r: &RecordSet| r.alias.clone().unwrap().dns_name;
    let simple = switched(vec![record(EAST_LB, Routing::Simple, None)], vec![zone()]).await.unwrap();
    assert_eq!(simple.iter().map(target).collect::<Vec<_>>(), [WEST_LB]);
    assert_eq!(
        simple[0].alias.as_ref().unwrap().hosted_zone_id,
        "Z1H1FL5HABSF5",
        "the zone goes with the target"
    );
    let done = switched(vec![record(WEST_LB, Routing::Simple, None)], vec![zone()]).await.unwrap();
    assert!(done.is_empty(), "nothing to do: {done:?}");

    let weight = |n| Routing::Weighted { weight: n };
    let pair = vec![record(EAST_LB, weight(100), Some("east")), record(WEST_LB, weight(0), Some("west"))];
    let weighted = switched(pair, vec![zone()]).await.unwrap();
    let weights: Vec<_> =
        weighted.iter().map(|r| (r.set_identifier.clone().unwrap(), r.routing.clone())).collect();
    assert_eq!(weights, [("east".into(), weight(0)), ("west".into(), weight(100))]);
    let alone = switched(vec![record(EAST_LB, weight(100), Some("east"))], vec![zone()]).await.unwrap();
    assert_eq!(alone.len(), 2, "never all weights 0, which would mean equal shares: {alone:?}");

    let role = |primary| Routing::Failover { primary };
    let pair = vec![record(EAST_LB, role(true), Some("p")), record(WEST_LB, role(false), Some("s"))];
    let swapped = switched(pair, vec![zone()]).await.unwrap();
    let seen: Vec<_> = swapped.iter().map(|r| (r.routing.clone(), target(r))).collect();
    assert_eq!(seen, [(role(true), WEST_LB.to_owned()), (role(false), EAST_LB.to_owned())]);
}

#[tokio::test]
async fn what_cannot_be_switched_is_told_and_left() {
    let latency = vec![record(EAST_LB, Routing::Other { name: "latency".into() }, Some("l"))];
    assert_eq!(switched(latency, vec![zone()]).await.unwrap_err().kind, ErrorKind::Conflict);
    let simple = || vec![record(EAST_LB, Routing::Simple, None)];
    let hidden = Zone { private: true, ..zone() };
    assert_eq!(switched(simple(), vec![hidden.clone()]).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(switched(simple(), vec![zone(), zone()]).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(
        switched(simple(), vec![hidden, zone()]).await.unwrap().len(),
        1,
        "a private zone beside it is no matter"
    );
}

#[tokio::test]
async fn a_node_group_is_never_lowered() {
    let scale = json!({ "cluster": "services", "region": WEST, "node_group": "maip-prod-dr-nodegroup", "min": 4, "desired": 8, "max": 20 });
    let mut mocks = Mocks::default();
    mocks.node_groups.expect_scale().times(1).returning(|_, _, scaling, _| {
        assert_eq!(scaling, Scaling { min: 4, desired: 12, max: 30 }, "each size the larger of both");
        Ok("u-1".into())
    });
    mocks.node_groups.expect_describe().returning(|_, _| {
        let scaling = Scaling { min: 1, desired: 12, max: 30 };
        Ok(NodeGroup { name: "g".into(), status: "ACTIVE".into(), scaling, issues: Vec::new() })
    });
    let cx = mocks.context();
    let step = steps::registry().build("nodes.scale", &scale, &cx.topology).unwrap();
    let Ok(Observed::NotDone { before }) = step.observe(&cx).await else { panic!("min is too low") };
    step.apply(&cx, &before).await.unwrap();
}

/// The status that a check gives.
fn status(seen: Result<Observed>) -> String {
    match seen {
        Ok(Observed::Done(found)) => found["status"].as_str().unwrap().to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_is_ok_only_when_it_says_so() {
    let check = json!({ "stream": "kafka", "region": WEST });
    for (answer, expected) in [
        (Ok("ACTIVE"), "OK"),
        (Ok("MAINTENANCE"), "DEGRADED"),
        (Ok("HEALING"), "DEGRADED"),
        (Ok("FAILED"), "DOWN"),
        (Ok("SOMETHING_NEW"), "UNKNOWN"),
        (Err(Error::unavailable("?")), "UNKNOWN"),
    ] {
        let mut mocks = Mocks::default();
        mocks.streams.expect_describe().returning(move |name| {
            let stream =
                |state: &str| Stream { name: name.to_owned(), arn: "arn".into(), state: state.to_owned() };
            answer.clone().map(stream)
        });
        assert_eq!(status(observe("stream.check", check.clone(), &mocks.context()).await), expected);
    }
}

#[tokio::test]
async fn replication_without_a_sample_is_unknown_and_never_zero() {
    let check = json!({ "table": "merchant-analytics", "region": WEST, "from": "us-east-1" });
    for (samples, expected) in [(Some(800.0), "OK"), (Some(90_000.0), "DEGRADED"), (None, "UNKNOWN")] {
        let mut mocks = Mocks::default();
        mocks.tables.expect_describe().returning(|_| {
            let replicas = vec![("us-west-2".into(), "ACTIVE".into()), ("us-east-1".into(), "ACTIVE".into())];
            Ok(Table { status: "ACTIVE".into(), replicas })
        });
        mocks.tables.expect_replication_latency().returning(move |_, _, _| {
            Ok(samples.map(|milliseconds| LatencySample { at: now(), milliseconds }).into_iter().collect())
        });
        assert_eq!(
            status(observe("table.check", check.clone(), &mocks.context()).await),
            expected,
            "{samples:?}"
        );
    }
}
