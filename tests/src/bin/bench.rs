//! The figures that maip-dr promises, each beside a baseline that runs on the same machine in the same minute.
//!
//! `make bench`. Needs the release binary, the lab, the aws command, kubectl and curl.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maip_dr_core::api::{Client, Hooks, Place, RunOptions};
use maip_dr_core::clock::{Clock, SystemClock, seconds_between};
use maip_dr_core::engine::state::RunState;
use maip_dr_core::id::RunId;
use maip_dr_core::journal::{Event, FileJournals, Journals, Record, Who};
use maip_dr_core::procedure::PlanRequest;
use maip_dr_core::sim::{EXAMPLE, Sandbox, Scenario};
use maip_dr_core::topology::parse;
use maip_dr_core::{Risk, StepId};
use maip_dr_tests::{EAST, Lab, Tool, WEST, binary, root};
use serde_json::{Value, json};
use tempfile::TempDir;

const GO: [&str; 7] =
    ["--output", "json", "failover", "--to", "us-west-2", "--yes", "--accept-unverified-down"];

/// A figure, what it was measured against, and what is to be reached.
struct Row {
    figure: &'static str,
    measured: String,
    against: String,
    goal: &'static str,
    reached: bool,
}

fn main() {
    let mut rows = Vec::new();
    print_row("figure", "measured", "against", "to reach", "");
    let mut push = |row: Row| {
        print_row(
            row.figure,
            &row.measured,
            &row.against,
            row.goal,
            if row.reached { "reached" } else { "MISSED" },
        );
        rows.push(row.reached);
    };
    push(help());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    push(runtime.block_on(journal()));
    runtime.block_on(own_time()).into_iter().for_each(&mut push);
    let lab = Lab::start(&["--kubernetes"]);
    push(check(&lab));
    push(silence(&lab));
    failovers(&lab).into_iter().for_each(&mut push);
    let missed = rows.iter().filter(|reached| !**reached).count();
    println!("{} figures, {missed} missed. Single readings on a machine that may be busy.", rows.len());
}

fn print_row(figure: &str, measured: &str, against: &str, goal: &str, verdict: &str) {
    println!("{figure:<52} {measured:>12}  {against:<34} {goal:<18} {verdict}");
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn times(n: usize, mut run: impl FnMut()) -> Duration {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    median((0..n).map(once).collect())
}

fn help() -> Row {
    let quiet = |program: PathBuf, words: &[&str]| {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        move || {
            let mut command = Command::new(&program);
            assert!(command.args(&words).stdout(Stdio::null()).status().unwrap().success());
        }
    };
    let ours = times(21, quiet(binary(), &["--help"]));
    let aws = times(3, quiet("aws".into(), &["--version"]));
    Row {
        figure: "maip-dr --help (p50)",
        measured: milliseconds(ours),
        against: format!("aws --version {}", milliseconds(aws)),
        goal: "under 10 ms",
        reached: ours < Duration::from_millis(10),
    }
}

async fn journal() -> Row {
    let folder = TempDir::new_in(root()).unwrap();
    let run = RunId::from("261123-0312-benc");
    let mut journal = FileJournals::new(folder.path()).create(&run).await.unwrap();
    let mut taken = Vec::new();
    for seq in 0..300 {
        let mut record = Record {
            run: run.clone(),
            seq,
            epoch: 1,
            at: SystemClock.now(),
            step: None,
            kind: None,
            region: None,
            event: Event::RunPaused { reason: "x".repeat(300) },
            prev: "0".repeat(64),
            hash: String::new(),
        };
        let start = Instant::now();
        let line = record.seal().unwrap();
        journal.append(&record, &line).await.unwrap();
        taken.push(start.elapsed());
    }
    let plain = folder.path().join("plain");
    let mut file = std::fs::File::create(&plain).unwrap();
    let sync = times(100, || {
        std::io::Write::write_all(&mut file, &[b'x'; 500]).unwrap();
        file.sync_data().unwrap();
    });
    let ours = median(taken);
    Row {
        figure: "journal: durable append (p50)",
        measured: milliseconds(ours),
        against: format!("write and fdatasync alone {}", milliseconds(sync)),
        goal: "under 2 ms",
        reached: ours < Duration::from_millis(2),
    }
}

/// A failover in a world whose services answer at once and whose waits take no time: what is left is ours.
async fn own_time() -> Vec<Row> {
    let topology = parse(EXAMPLE, "example").unwrap();
    let at = "2026-11-23T03:12:30Z".parse().unwrap();
    let mut walls = Vec::new();
    let mut over = 0.0;
    for seed in 0..9 {
        let sandbox = Sandbox::memory(&topology, &Scenario::default(), seed, at).unwrap();
        let state = TempDir::new_in(root()).unwrap();
        let client =
            Client::new(state.path(), Some(topology.clone()), Place::Held(sandbox.clone()), Who::default());
        let request = PlanRequest { to: Some(WEST.into()), ..PlanRequest::default() };
        let start = Instant::now();
        let plan = client.plan("failover", &request).await.unwrap();
        let options = RunOptions { yes: true, accept: vec![Risk::Unfenced], ..RunOptions::default() };
        let run = client.start(plan, options, Hooks::default()).await.unwrap();
        run.drive().await.unwrap();
        walls.push(start.elapsed());
        let (state, _) = client.status("last").await.unwrap();
        over = over_critical_path(&state);
    }
    let wall = median(walls);
    vec![
        Row {
            figure: "our own time in a failover, simulator and fsync included",
            measured: milliseconds(wall),
            against: "instant services".into(),
            goal: "under 50 ms",
            reached: wall < Duration::from_millis(50),
        },
        Row {
            figure: "sandbox failover over its critical path, virtual time",
            measured: format!("{over:+.2} %"),
            against: "the longest chain of its steps".into(),
            goal: "at most 1 % over",
            reached: over <= 1.0,
        },
    ]
}

/// How much longer a run took than the longest chain of its own steps, in per cent: what is left over is our waiting.
fn over_critical_path(state: &RunState) -> f64 {
    let mut ends: BTreeMap<&StepId, f64> = BTreeMap::new();
    let mut left: Vec<_> = state.plan().steps.iter().collect();
    let mut longest: f64 = 0.0;
    while !left.is_empty() {
        let (ready, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|s| s.after.iter().all(|id| ends.contains_key(id)));
        for step in ready {
            let found = &state.steps[&step.id];
            let ended = found.ended_at.unwrap();
            // A mutating step that never called was looking from the moment it could: the fence nobody answered.
            let looked = step.mutates() && found.called.is_none();
            let before = step.after.iter().filter_map(|id| state.steps[id].ended_at).max();
            let began = if looked { before } else { found.started_at };
            let took = began.map_or(0.0, |began| seconds_between(began, ended));
            let chain = step.after.iter().map(|id| ends[id]).fold(0.0, f64::max) + took;
            longest = longest.max(chain);
            ends.insert(&step.id, chain);
        }
        left = rest;
    }
    let whole = seconds_between(state.started_at, state.ended_at.unwrap());
    (whole / longest - 1.0) * 100.0
}

fn baseline(lab: &Lab, program: &str, words: &[&str]) -> Duration {
    let side = |region: &str| lab.at.regions[region].clone();
    let mut command = Command::new(program);
    let start = Instant::now();
    let output = command
        .args(words)
        .current_dir(root().join("tests/baselines"))
        .envs(&lab.at.env)
        .env("EAST", side(EAST).endpoint)
        .env("WEST", side(WEST).endpoint)
        .env("EAST_KUBECONFIG", side(EAST).kubeconfig.unwrap())
        .env("WEST_KUBECONFIG", side(WEST).kubeconfig.unwrap())
        .env("WEST_LB", side(WEST).load_balancer)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    start.elapsed()
}

fn check(lab: &Lab) -> Row {
    lab.reset(json!({}));
    let tool = Tool::on(lab);
    let ours = times(5, || {
        let answer = tool.run(&["check"]);
        assert!([0, 1].contains(&answer.code), "{answer}");
    });
    let bash = baseline(lab, "./runbook.sh", &["check"]);
    let ratio = bash.as_secs_f64() / ours.as_secs_f64();
    Row {
        figure: "check of both Regions",
        measured: seconds(ours),
        against: format!("bash {} = {ratio:.1}x", seconds(bash)),
        goal: "10x faster",
        reached: ratio >= 10.0,
    }
}

fn silence(lab: &Lab) -> Row {
    lab.reset(json!({}));
    lab.east_silent();
    let answer = Tool::on(lab).run(&["--output", "json", "failover", "--to", WEST, "--yes"]);
    let verdict = between(&answer.events(), "region.verify_down");
    Row {
        figure: "silent us-east-1: time to the verdict",
        measured: seconds(verdict),
        against: "aws 316 s, kubectl 166 s".into(),
        goal: "at most 10 s",
        reached: verdict <= Duration::from_secs(10),
    }
}

fn at(event: &Value) -> f64 {
    let text = event["at"].as_str().unwrap();
    let time: jiff::Timestamp = text.parse().unwrap();
    time.as_millisecond() as f64 / 1000.0
}

fn between(events: &[Value], kind: &str) -> Duration {
    let of = |what: &str| events.iter().find(|e| e["kind"] == kind && e["what"] == what).unwrap();
    Duration::from_secs_f64(at(of("step_succeeded")) - at(of("step_started")))
}

/// Seconds from the promotion's end, as the double has it, until the next mutating call.
fn idle_after_promotion(lab: &Lab) -> f64 {
    let calls = lab.calls();
    let when = |c: &Value| c["at"].as_str().map_or_else(|| c["at"].as_f64().unwrap(), |_| at(c));
    let promoted = calls.iter().position(|c| c["operation"] == "PromoteReadReplica").unwrap();
    let next = calls[promoted + 1..].iter().find(|c| c["operation"] == "ChangeResourceRecordSets").unwrap();
    when(next) - when(&calls[promoted]) - f64::from(PROMOTION_S)
}

const PROMOTION_S: u32 = 12;

fn failovers(lab: &Lab) -> Vec<Row> {
    let world = || {
        lab.reset(json!({ "promotion_start_s": 0, "promotion_s": PROMOTION_S }));
        lab.await_ready(WEST);
        lab.east_half_dead();
    };
    world();
    let bash = baseline(lab, "./runbook.sh", &["failover"]);
    let bash_idle = idle_after_promotion(lab);
    world();
    let python = lab.python();
    let boto = baseline(lab, python.to_str().unwrap(), &["runbook.py"]);
    let boto_idle = idle_after_promotion(lab);
    world();
    let tool = Tool::on(lab);
    let start = Instant::now();
    let (events, memory) = watched(&tool);
    let ours = start.elapsed();
    let of = |what: &str, kind: &str| events.iter().find(|e| e["kind"] == kind && e["what"] == what).unwrap();
    let promote = at(of("step_started", "db.promote"));
    let gap = at(of("step_started", "db.verify_writable")) - promote - f64::from(PROMOTION_S);
    let ratio = bash.min(boto).as_secs_f64() / ours.as_secs_f64();
    vec![
        Row {
            figure: "failover, promotion takes 12 s",
            measured: seconds(ours),
            against: format!("bash {}, boto3 {} = {ratio:.2}x", seconds(bash), seconds(boto)),
            goal: "2x faster",
            reached: ratio >= 2.0,
        },
        Row {
            figure: "end of the promotion until the next step",
            measured: format!("{gap:.2} s"),
            against: format!("bash {bash_idle:.1} s, boto3 {boto_idle:.1} s"),
            goal: "at most 3 s",
            reached: gap <= 3.0,
        },
        Row {
            figure: "peak memory of a failover",
            measured: format!("{:.1} MiB", memory as f64 / 1024.0),
            against: "VmHWM of the process".into(),
            goal: "under 40 MiB",
            reached: memory < 40 * 1024,
        },
    ]
}

/// A failover's events, and the most memory it held, in KiB.
fn watched(tool: &Tool) -> (Vec<Value>, u64) {
    let mut child = tool.command(&GO).stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut memory = 0;
    let mut events = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        events.push(serde_json::from_str(&line.unwrap()).unwrap());
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let peak =
            text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        memory = peak.unwrap_or(0).max(memory);
    }
    assert!(child.wait().unwrap().success(), "{events:#?}");
    (events, memory)
}
