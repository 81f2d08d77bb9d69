//! The failover through the built binary: the real AWS and Kubernetes clients against two real control planes and
//! the doubles.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use maip_dr_core::net::NetProbe;
use maip_dr_core::service::{ProbeService, RecordType};
use maip_dr_tests::{EAST, Lab, Tool, WEST, finish};
use serde_json::{Value, json};

static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(&["--kubernetes"]));

const GO: [&str; 7] =
    ["--output", "json", "failover", "--to", "us-west-2", "--yes", "--accept-unverified-down"];

/// What must be true of the world after every failover that succeeded.
fn serves_from_the_west() {
    let state = LAB.state();
    let west = &state["regions"][WEST];
    assert_eq!(west["databases"]["maip-prod-postgres-replica"]["source"], Value::Null, "{west:#}");
    assert_eq!(west["databases"]["maip-prod-postgres-replica"]["backup_retention"], 7);
    assert_eq!(west["load_balancer"]["serves"], true);
    let group = &west["node_groups"]["maip-prod-dr-nodegroup"];
    assert!(group["desiredSize"].as_u64().or(group["desired"].as_u64()).unwrap() >= 8, "{group:#}");
    let live = state["zones"]["maip.example.com."]["live"].to_string();
    assert!(live.contains("maip-prod-dr-alb"), "{live}");
    assert_eq!(LAB.performed("PromoteReadReplica"), 1);
}

fn fence_of(answer: &maip_dr_tests::Answer) -> Option<String> {
    let event =
        answer.events().into_iter().find(|e| e["what"] == "step_succeeded" && e["kind"] == "db.fence")?;
    event["output"]["fence"].as_str().map(str::to_owned)
}

#[test]
fn a_half_dead_primary_fails_over_and_its_writer_is_fenced() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    let tool = Tool::on(&LAB);
    let answer = tool.run(&GO).expect(0);
    assert_eq!(fence_of(&answer).as_deref(), Some("confirmed"));
    assert_eq!(answer.names().last().map(String::as_str), Some("run_ended"));
    serves_from_the_west();
    let report = tool.run(&["--output", "json", "report", "last", "--format", "json"]).expect(0).json();
    assert_eq!(report["outcome"], "succeeded");
    assert!(report["rto_s"].as_f64().unwrap() > 0.0);
    assert!(report["rpo_s"]["max"].as_f64().unwrap() <= 60.0);
    let kubeconfig = LAB.at.regions[WEST].kubeconfig.clone().unwrap();
    let pods = Command::new("kubectl")
        .args([
            "--kubeconfig",
            kubeconfig.to_str().unwrap(),
            "-n",
            "maip-services",
            "get",
            "deployment",
            "-o",
            "json",
        ])
        .output()
        .unwrap();
    let pods: Value = serde_json::from_slice(&pods.stdout).unwrap();
    let replicas = |name: &str| {
        let all = pods["items"].as_array().unwrap();
        all.iter().find(|d| d["metadata"]["name"] == name).unwrap()["spec"]["replicas"].as_u64().unwrap()
    };
    assert_eq!((replicas("api"), replicas("worker"), replicas("scheduler")), (4, 4, 1));
}

#[test]
fn a_silent_primary_gives_a_verdict_in_ten_seconds_and_an_unfenced_writer_is_a_persons_decision() {
    LAB.reset(json!({}));
    LAB.east_silent();
    let tool = Tool::on(&LAB);
    let held = tool.run(&["--output", "json", "failover", "--to", "us-west-2", "--yes"]).expect(21);
    let events = held.events();
    let at = |what: &str, kind: &str| {
        let event = events.iter().find(|e| e["what"] == what && e["kind"] == kind).unwrap();
        event["at"].as_str().unwrap().to_owned()
    };
    let verdict =
        events.iter().find(|e| e["what"] == "step_succeeded" && e["kind"] == "region.verify_down").unwrap();
    assert_eq!(verdict["output"]["verdict"], "down");
    let seconds = seconds_between(
        &at("step_started", "region.verify_down"),
        &at("step_succeeded", "region.verify_down"),
    );
    assert!(seconds <= 10.0, "the verdict took {seconds} s");
    let held_event = events.iter().find(|e| e["what"] == "run_held").unwrap();
    assert_eq!(held_event["needs"]["risk"], "unfenced");
    assert_eq!(LAB.performed("PromoteReadReplica"), 0, "nothing irreversible before the decision");
    let done = tool
        .run(&["--output", "json", "resume", "last", "--accept-unfenced", "--why", "power is cut"])
        .expect(0);
    assert_eq!(fence_of(&done).as_deref(), Some("unknown"));
    serves_from_the_west();
    let _ = tool.run(&["report", "last"]).expect(0).says("unknown");
}

fn seconds_between(from: &str, to: &str) -> f64 {
    // All of one day: hours, minutes, seconds suffice.
    let seconds = |t: &str| {
        let p: Vec<f64> = t[11..23].split(':').map(|p| p.parse().unwrap()).collect();
        p[0] * 3600.0 + p[1] * 60.0 + p[2]
    };
    (seconds(to) - seconds(from)).rem_euclid(86_400.0)
}

#[test]
fn a_healthy_primary_is_refused_and_nothing_is_changed() {
    LAB.reset(json!({}));
    let _ = Tool::on(&LAB).run(&["failover", "--to", "us-west-2", "--yes"]).expect(9).says("switchover");
    assert!(LAB.calls().iter().all(|c| c["mutating"] == false));
}

#[test]
fn killed_in_the_middle_of_the_promotion_it_resumes_and_promotes_once() {
    LAB.reset(json!({ "promotion_s": 4 }));
    LAB.east_half_dead();
    let tool = Tool::on(&LAB);
    let mut child = tool.spawn(&GO);
    LAB.await_call("PromoteReadReplica");
    child.kill().unwrap();
    assert_eq!(finish(child).code, -1);
    let other = tool.run(&GO).expect(6).says("resume");
    assert!(other.err.contains("was interrupted"), "{other}");
    let _ = tool.run(&["--output", "json", "resume", "last"]).expect(0);
    serves_from_the_west();
}

#[test]
fn a_lost_answer_to_the_promotion_is_observed() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    LAB.fault(json!({ "region": WEST, "service": "rds", "operation": "PromoteReadReplica", "mode": "lost_answer", "times": 1 }));
    let answer = Tool::on(&LAB).run(&GO).expect(0);
    assert!(answer.names().iter().any(|n| n == "step_in_doubt"));
    serves_from_the_west();
}

#[test]
fn common_error_replica_already_promoted() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    promote_by_hand();
    let tool = Tool::on(&LAB);
    let held = tool.run(&GO).expect(21).says("--accept-promoted");
    assert!(held.out.contains("promoted"), "the evidence is shown");
    let before = LAB.performed("PromoteReadReplica");
    let _ = tool.run(&["resume", "last", "--accept-promoted"]).expect(0);
    assert_eq!(LAB.performed("PromoteReadReplica"), before, "it was not promoted again");
}

fn promote_by_hand() {
    let endpoint = &LAB.at.regions[WEST].endpoint;
    let script = format!(
        "import boto3; boto3.client('rds', region_name='{WEST}', endpoint_url='{endpoint}')\
         .promote_read_replica(DBInstanceIdentifier='maip-prod-postgres-replica')"
    );
    let status = Command::new(LAB.python()).args(["-c", &script]).envs(&LAB.at.env).output().unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while LAB.state()["regions"][WEST]["databases"]["maip-prod-postgres-replica"]["source"] != Value::Null {
        assert!(std::time::Instant::now() < until);
    }
}

#[test]
fn common_error_dns_not_propagating() {
    LAB.reset(json!({ "resolver_min_ttl_s": 10 }));
    LAB.east_half_dead();
    // A resolver that has just answered the old address, and keeps it.
    let tool = Tool::on(&LAB).with_topology(|t| t.replace(&LAB.at.dns, &LAB.at.resolver));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = NetProbe.dns("api.maip.example.com", RecordType::A, Some(LAB.at.resolver.clone()));
    assert_eq!(runtime.block_on(asked).unwrap().addresses.len(), 1);
    let answer =
        tool.run(&["-v", "failover", "--to", "us-west-2", "--yes", "--accept-unverified-down"]).expect(0);
    let _ = answer.says("DNS not propagated yet").says("still answers 127.0.0.2");
    serves_from_the_west();
}

#[test]
fn common_error_pods_not_scheduling() {
    LAB.reset(json!({ "capacity_max": 3, "pods_per_node": 1 }));
    LAB.east_half_dead();
    let tool = Tool::on(&LAB).with_topology(|t| {
        format!("{t}timeouts: {{ workloads.scale: 12s, nodes.scale: 8s }}\n")
            .replace("min: 4", "min: 3")
            .replace("desired: 8", "desired: 3")
    });
    let answer = tool.run(&GO);
    assert!([20, 21].contains(&answer.code), "{answer}");
    let text = format!("{}{}", answer.out, answer.err);
    assert!(
        text.contains("Unschedulable") && text.contains("nodes are available") && text.contains("node group"),
        "{answer}"
    );
}

#[test]
fn common_error_dynamodb_replication_lag() {
    LAB.reset(json!({ "replication_latency_ms": 90_000 }));
    LAB.east_half_dead();
    let answer = Tool::on(&LAB).run(&GO).expect(0);
    let table = answer
        .events()
        .into_iter()
        .find(|e| e["what"] == "step_succeeded" && e["kind"] == "table.check")
        .unwrap();
    assert_eq!(table["output"]["status"], "DEGRADED");
    LAB.reset(json!({ "replication_latency_ms": 90_000 }));
    LAB.east_half_dead();
    let required = Tool::on(&LAB)
        .with_topology(|t| t.replace("lag_max: 5s\n    required: false", "lag_max: 5s\n    required: true"));
    let stopped = required.run(&GO);
    assert_ne!(stopped.code, 0, "{stopped}");
    assert_eq!(LAB.performed("PromoteReadReplica"), 0);
    assert_eq!(LAB.performed("ChangeResourceRecordSets"), 0);
}

#[test]
fn the_fence_has_three_answers() {
    for (rename, expected) in [("refused", "refused"), ("hang", "unknown")] {
        LAB.reset(json!({ "rename": rename }));
        LAB.east_half_dead();
        let tool = Tool::on(&LAB);
        let held = tool.run(&GO).expect(21);
        let needs = held.events().into_iter().find(|e| e["what"] == "run_held").unwrap();
        assert_eq!(needs["needs"]["risk"], "unfenced", "{held}");
        assert_eq!(LAB.performed("PromoteReadReplica"), 0);
        let failed = held
            .events()
            .into_iter()
            .find(|e| e["what"] == "step_failed" && e["kind"] == "db.fence")
            .unwrap();
        assert_eq!(failed["error"]["found"]["fence"], expected, "{held}");
        let _ = tool.run(&["decide", "last", "abandon", "--why", "test"]).expect(23);
    }
}

#[test]
fn weighted_and_failover_records_are_switched_as_they_are() {
    for record in ["weighted", "failover"] {
        LAB.reset(json!({ "record": record }));
        LAB.east_half_dead();
        let tool = Tool::on(&LAB).with_topology(|t| {
            if record == "weighted" { t.replace("method: alias", "method: weighted") } else { t }
        });
        let _ = tool.run(&GO).expect(0);
        serves_from_the_west();
    }
}

#[test]
fn a_dry_run_makes_no_mutating_call() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    let tool = Tool::on(&LAB);
    let dry = tool.run(&["failover", "--to", "us-west-2", "--dry-run", "--accept-unverified-down"]);
    assert!([0, 21].contains(&dry.code), "{dry}");
    let _ = tool.run(&["--output", "json", "plan", "failover", "--to", "us-west-2"]).expect(0);
    let _ = tool.run(&["check"]).expect(1);
    let calls = LAB.calls();
    assert!(calls.len() > 20, "it did look");
    assert!(calls.iter().all(|c| c["mutating"] == false), "{calls:#?}");
}

#[test]
fn check_tells_the_dead_from_the_living() {
    LAB.reset(json!({}));
    let tool = Tool::on(&LAB);
    let rows = tool.run(&["--output", "json", "check"]);
    let rows: Vec<Value> = rows.out.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let rows = if rows.len() == 1 && rows[0].is_array() { rows[0].as_array().unwrap().clone() } else { rows };
    let of =
        |region: &str, kind: &str| rows.iter().find(|r| r["region"] == region && r["kind"] == kind).cloned();
    for kind in ["database", "cluster", "stream"] {
        for region in [EAST, WEST] {
            let row = of(region, kind).unwrap_or_else(|| panic!("no {kind} row for {region}: {rows:#?}"));
            assert_ne!(row["status"], "UNKNOWN", "{row:#}");
        }
    }
    LAB.east_silent();
    let silent = tool.run(&["check", "--region", EAST]).expect(1).says("UNKNOWN");
    assert!(silent.took < Duration::from_secs(12), "{:?}", silent.took);
}

#[test]
fn people_are_told_and_nobody_who_cannot_be_told_stops_the_run() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    let tool = Tool::on(&LAB);
    let told = tool.state.path().join("told.jsonl");
    let target = format!(
        "notify:\n- command: [sh, -c, \"cat >> {0}; echo >> {0}\"]\n- webhook: env:MAIP_DR_TEST_NO_SUCH_HOOK\n",
        told.display()
    );
    let tool = tool.with_topology(|t| format!("{t}{target}"));
    let done = tool.run(&GO).expect(0);
    let said = std::fs::read_to_string(&told).unwrap();
    let notices: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(notices[0]["text"].as_str().unwrap().contains("has started"), "{said}");
    assert!(notices.last().unwrap()["text"].as_str().unwrap().contains("is done"), "{said}");
    assert!(done.out.contains("MAIP_DR_TEST_NO_SUCH_HOOK"), "who was not told is in the record");
}
