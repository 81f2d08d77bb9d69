//! What goes wrong before anything has begun: each a clear error with its own exit code, and nothing changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::sync::LazyLock;

use maip_dr_tests::{Lab, Tool, WEST};
use serde_json::json;

static LAB: LazyLock<Lab> = LazyLock::new(|| Lab::start(&["--kubernetes"]));

fn nothing_changed() {
    assert!(LAB.calls().iter().all(|c| c["mutating"] == false));
}

const FAILOVER: [&str; 4] = ["failover", "--to", "us-west-2", "--yes"];

#[test]
fn no_credentials() {
    LAB.reset(json!({}));
    let tool = Tool::on(&LAB)
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env("HOME", "/nonexistent");
    let _ = tool.run(&FAILOVER).expect(4).says("credentials").says("hint:");
    nothing_changed();
}

#[test]
fn a_profile_that_is_not_there_is_not_replaced_by_what_the_environment_holds() {
    LAB.reset(json!({}));
    let tool = Tool::on(&LAB).with_topology(|t| {
        t.replace("    account: '123456789012'", "    account: '123456789012'\n    profile: no-such-profile")
    });
    let _ = tool.run(&FAILOVER).expect(4).says("no-such-profile").says("hint:");
    nothing_changed();
}

#[test]
fn a_wrong_key() {
    LAB.reset(json!({}));
    let tool = Tool::on(&LAB).env("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONGWRONG0");
    let _ = tool.run(&FAILOVER).expect(4).says("InvalidClientTokenId").says("hint:");
    nothing_changed();
}

#[test]
fn another_account() {
    LAB.reset(json!({}));
    let tool = Tool::on(&LAB).with_topology(|t| t.replace("123456789012", "999999999999"));
    let _ = tool.run(&FAILOVER).expect(9).says("999999999999").says("123456789012");
    nothing_changed();
}

#[test]
fn a_wrong_region() {
    LAB.reset(json!({}));
    let _ = Tool::on(&LAB).run(&["failover", "--to", "eu-west-1", "--yes"]).expect(2).says("us-west-2");
    nothing_changed();
}

#[test]
fn a_missing_cluster_database_or_zone() {
    LAB.reset(json!({}));
    for (from, to) in [
        ("maip-prod-dr-eks-cluster", "no-such-cluster"),
        ("maip-prod-postgres-replica", "no-such-database"),
        ("zone: maip.example.com", "zone: example.com"),
    ] {
        let tool = Tool::on(&LAB).with_topology(|t| t.replace(from, to));
        let _ = tool.run(&FAILOVER).expect(3).says(to.trim_start_matches("zone: ")).says("hint:");
    }
    nothing_changed();
}

#[test]
fn denied_by_iam() {
    LAB.reset(json!({}));
    LAB.fault(json!({ "region": WEST, "service": "rds", "mode": "deny" }));
    let _ = Tool::on(&LAB).run(&FAILOVER).expect(4).says("DescribeDBInstances").says("hint:");
    LAB.lift();
    nothing_changed();
}

#[test]
fn a_denied_call_half_way_is_rolled_back() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    LAB.fault(json!({ "region": WEST, "service": "rds", "operation": "PromoteReadReplica", "mode": "deny" }));
    let tool = Tool::on(&LAB);
    let answer = tool.run(&["failover", "--to", "us-west-2", "--yes", "--accept-unverified-down"]);
    // The promotion's start is the point of no return: the run holds, and says what was denied.
    let answer = answer.expect(21).says("PromoteReadReplica");
    assert!(answer.err.contains("decide"), "{answer}");
}

#[test]
fn without_a_terminal_the_question_must_be_answered_beforehand() {
    LAB.reset(json!({}));
    let _ = Tool::on(&LAB).run(&["failover", "--to", "us-west-2"]).expect(9).says("--yes");
    assert!(LAB.calls().iter().all(|c| c["mutating"] == false));
}

#[test]
fn a_corrupted_journal_is_told_with_its_line() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    let tool = Tool::on(&LAB);
    let _ = tool.run(&["failover", "--to", "us-west-2", "--yes"]).expect(21);
    let runs = tool.state.path().join("runs");
    let run = std::fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path().join("journal.jsonl");
    let text = std::fs::read_to_string(&run).unwrap();
    std::fs::write(&run, text.replacen("\"maip\"", "\"mAip\"", 1)).unwrap();
    let _ = tool.run(&["resume", "last", "--accept-unverified-down"]).expect(10).says("line 1");
    // A torn last line is what a crash leaves: it is not damage.
    std::fs::write(&run, format!("{text}{{\"run\":")).unwrap();
    let _ = tool.run(&["status", "last"]).expect(0);
    assert_eq!(LAB.performed("PromoteReadReplica"), 0);
}

#[test]
fn a_folder_that_cannot_be_written() {
    LAB.reset(json!({}));
    LAB.east_half_dead();
    let output =
        Tool::on(&LAB).command(&FAILOVER).env("MAIP_DR_STATE_DIR", "/proc/maip-dr").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!([3, 4, 5].contains(&output.status.code().unwrap()), "{text}");
    assert!(text.contains("/proc/maip-dr"), "{text}");
    assert!(LAB.calls().iter().all(|c| c["mutating"] == false), "nothing is done that cannot be recorded");
}

/// The journal's size in KiB once half of what follows its first record is written.
fn half_of_a_journal(tool: &Tool) -> u64 {
    let text = std::fs::read_to_string(journal_of(tool)).unwrap();
    let first = text.lines().next().unwrap().len() as u64;
    (first + (text.len() as u64 - first) / 2) / 1024
}

fn journal_of(tool: &Tool) -> std::path::PathBuf {
    let run = std::fs::read_dir(tool.state.path().join("runs")).unwrap().next().unwrap().unwrap();
    run.path().join("journal.jsonl")
}

#[test]
fn a_disk_that_fills_up_half_way_stops_the_run_and_loses_nothing() {
    const GO: [&str; 5] = ["failover", "--to", "us-west-2", "--yes", "--accept-unverified-down"];
    LAB.reset(json!({}));
    LAB.east_half_dead();
    let whole = Tool::on(&LAB);
    let _ = whole.run(&GO).expect(0);
    let room = half_of_a_journal(&whole);
    LAB.reset(json!({}));
    LAB.east_half_dead();
    // No file may grow beyond `room`: what a full disk answers, without filling one.
    let tool = Tool::on(&LAB);
    let plain = tool.command(&GO);
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {room}; exec \"$@\""), "bash"]);
    limited.arg(plain.get_program()).args(plain.get_args()).current_dir(tool.state.path());
    limited.env_clear().envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = limited.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(22), "{text}");
    assert!(text.contains("journal.jsonl") && text.contains("maip-dr resume"), "{text}");
    let _ = tool.run(&["resume", "last", "--accept-unverified-down"]).expect(0);
    assert_eq!(LAB.performed("PromoteReadReplica"), 1);
}
