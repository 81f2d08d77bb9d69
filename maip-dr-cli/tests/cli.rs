//! The built command in the sandbox: what a person or a script sees, and the exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(feature = "sim")]

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use maip_dr_core::journal::{Event, Record};
use serde_json::Value;
use tempfile::TempDir;

/// A state directory of its own.
struct Desk {
    state: TempDir,
}

/// What came back.
struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Answer {
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        assert!(!self.err.contains("panicked"), "{self}");
        self
    }
    fn says(self, text: &str) -> Self {
        assert!(self.out.contains(text) || self.err.contains(text), "`{text}` is not said: {self}");
        self
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
    fn error(&self) -> Value {
        let line = self.err.lines().find(|l| l.starts_with("{\"error\"")).unwrap_or_else(|| panic!("{self}"));
        serde_json::from_str::<Value>(line).unwrap()["error"].clone()
    }
}

impl Desk {
    fn new() -> Self {
        Self { state: TempDir::new().unwrap() }
    }
    fn with(scenario: &str) -> Self {
        let desk = Self::new();
        let _ = desk.run(&["sandbox", "reset", "--scenario", scenario]).expect(0);
        desk
    }
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maip-dr"));
        command
            .args(args)
            .env_remove("MAIP_DR_CONFIG")
            .env("MAIP_DR_STATE_DIR", self.state.path())
            .current_dir(self.state.path())
            .stdin(Stdio::null());
        command
    }
    fn run(&self, args: &[&str]) -> Answer {
        let output = self.command(args).output().unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
    /// With `--sandbox` in front.
    fn sandbox(&self, args: &[&str]) -> Answer {
        self.run(&[&["--sandbox"], args].concat())
    }
    fn spawn(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.state.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }
    fn runs(&self) -> Vec<Value> {
        let runs = self.run(&["--output", "json", "runs"]).expect(0).json();
        runs.as_array().unwrap().clone()
    }
    fn last(&self) -> String {
        self.runs().last().unwrap()["run"].as_str().unwrap().to_owned()
    }
}

/// A command that goes on.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    /// Reads events until one has this name and kind.
    fn until(&mut self, what: &str, kind: &str) -> Value {
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["what"] == what && (kind.is_empty() || event["kind"] == kind) {
                return event;
            }
            line.clear();
        }
        panic!("it ended without {what} of {kind}");
    }
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }
    fn end(mut self) -> Answer {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Answer { code: self.child.wait().unwrap().code().unwrap_or(-1), out, err }
    }
}

const GO: [&str; 3] = ["failover", "--yes", "--accept-unfenced"];
const SLOWLY: [&str; 8] =
    ["--sandbox", "--speed", "100", "--output", "json", "failover", "--yes", "--accept-unfenced"];

#[test]
fn a_lost_primary_is_failed_over_and_reported_in_every_form() {
    let desk = Desk::new();
    let done = desk.sandbox(&GO).expect(0).says("SANDBOX").says("other machines do not see it");
    assert!(done.out.contains("cannot be undone") && done.out.contains("warning:"), "{done}");
    assert!(done.out.contains("failover succeeded") && done.out.contains("objective 15 min: met"), "{done}");
    assert!(done.out.contains("Not proven:") && done.out.contains("Stays raised:"), "{done}");
    let id = desk.last();
    let _ = done.says(&format!("maip-dr report {id}"));
    let text = desk.run(&["report", &id]).expect(0).says("data lost").says("--accept-unfenced");
    assert!(!text.out.contains('|'), "plain text");
    let _ = desk.run(&["report", "last", "--format", "md"]).expect(0).says("| recovery |").says("## Steps");
    let report = desk.run(&["report", &id[..id.len() - 1], "--format", "json"]).expect(0).json();
    assert_eq!((&report["run"], &report["outcome"]), (&id.as_str().into(), &"succeeded".into()));
    assert!(report["rto_s"].as_f64().unwrap() > 60.0 && report["rpo_s"]["max"].is_number());
    assert_eq!(report, desk.run(&["report", "last", "--output", "json"]).expect(0).json());
    let row = desk.runs().pop().unwrap();
    assert_eq!((&row["procedure"], &row["world"]), (&"failover".into(), &"sandbox".into()));
    let _ = desk.run(&["runs"]).expect(0).says(&id).says("succeeded");
    let _ = desk.run(&["status", "last"]).expect(0).says("promote-postgres");
    let status = desk.run(&["status", "last", "--output", "json"]).expect(0).json();
    assert_eq!(status["waiting_for"], Value::Null);
    assert!(status["steps"].as_array().unwrap().iter().all(|s| s["phase"] == "succeeded"));
    let _ = desk.run(&["resume", "last"]).expect(6).says("has ended");
}

#[test]
fn every_record_is_a_line_of_json_and_nothing_else_is_on_stdout() {
    let desk = Desk::new();
    let events = desk.run(&[&["--sandbox", "--output", "json"], &GO[..]].concat()).expect(0).lines();
    assert_eq!(events[0]["what"], "run_started");
    assert_eq!(events.last().unwrap()["what"], "run_ended");
    assert_eq!(events.last().unwrap()["outcome"], "succeeded");
    for (seq, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], seq);
        assert_eq!(event["run"], events[0]["run"]);
        let at = event["at"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
        if event["what"].as_str().unwrap().starts_with("step_") {
            assert!(event["step"].is_string() && event["kind"].is_string(), "{event}");
        }
    }
    let promoted =
        events.iter().find(|e| e["what"] == "step_succeeded" && e["kind"] == "db.promote").unwrap();
    assert_eq!(promoted["region"], "us-west-2");
}

#[test]
fn global_options_may_stand_behind_the_command() {
    let desk = Desk::new();
    let events = desk.run(&[&GO[..], &["--sandbox", "--output", "json"]].concat()).expect(0).lines();
    assert_eq!(events[0]["what"], "run_started");
}

#[test]
fn what_is_held_says_what_to_type_and_goes_on() {
    let desk = Desk::new();
    let held = desk.sandbox(&["failover", "--yes"]).expect(21);
    let id = desk.last();
    for said in [
        "held: ".to_owned(),
        format!("maip-dr resume {id} --accept-unfenced"),
        format!("maip-dr decide {id} abandon"),
        "aws rds promote-read-replica".to_owned(),
        "would change the REAL Regions".to_owned(),
    ] {
        assert!(held.err.contains(&said), "{said}: {held}");
    }
    let status = desk.run(&["status", "last", "--output", "json"]).expect(0).json();
    assert_eq!(status["outcome"], "held");
    assert_eq!(status["waiting_for"]["option"], "--accept-unfenced");
    let _ = desk.run(&["status", "last"]).expect(0).says("Nothing irreversible has been begun");
    let _ = desk.sandbox(&GO).expect(6).says(&format!("maip-dr resume {id}"));
    // The run knows its world: the option is not needed again.
    let _ = desk.run(&["resume", "last", "--accept-unfenced", "--why", "power is cut"]).expect(0);
    let _ = desk.run(&["report", &id]).expect(0).says("power is cut");
}

#[test]
fn an_abandoned_run_stays_as_it_is() {
    let desk = Desk::new();
    let _ = desk.sandbox(&["failover", "--yes"]).expect(21);
    let _ = desk.run(&["decide", "last", "abandon", "--why", "by hand"]).expect(23).says("report");
    assert_eq!(desk.runs()[0]["outcome"], "abandoned");
    let _ = desk.run(&["resume", "last"]).expect(6);
    let _ = desk.run(&["decide", "last", "abandon"]).expect(6);
}

#[test]
fn a_failed_step_is_decided_upon() {
    let desk = Desk::with("no-capacity");
    let _ = desk.sandbox(&GO).expect(21).says("decide").says("InsufficientInstanceCapacity");
    let status = desk.run(&["status", "last", "--output", "json"]).expect(0).json();
    let failed = status["steps"].as_array().unwrap().iter().find(|s| s["phase"] == "failed").unwrap();
    let step = failed["id"].as_str().unwrap();
    let _ = desk.run(&["decide", "last", "retry", "no-such-step"]).expect(2).says("no-such-step");
    let _ = desk.run(&["decide", "last", "retry", step, "--why", "asked for more"]).expect(0).says("resume");
    let _ = desk.run(&["resume", "last"]).expect(21).says(step);
    let _ = desk.run(&["decide", "last", "abandon"]).expect(23);
}

#[test]
fn every_scenario_has_its_exit_code() {
    for (scenario, accept, code) in [
        ("primary-lost", "--accept-unfenced", 0),
        ("healthy", "--accept-unfenced", 9),
        ("primary-partitioned", "--accept-unfenced", 21),
        ("replica-lagging", "--accept-unfenced", 21),
        ("replica-lagging", "--accept-data-loss=1h", 21),
    ] {
        let answer = Desk::with(scenario).sandbox(&["failover", "--yes", accept]);
        assert_eq!(answer.code, code, "{scenario} {accept}: {answer}");
    }
    let desk = Desk::with("replica-lagging");
    let _ = desk.sandbox(&[&GO[..], &["--accept-data-loss", "1h"]].concat()).expect(0);
    let desk = Desk::with("primary-partitioned");
    let _ = desk.sandbox(&[&GO[..], &["--accept-unverified-down"]].concat()).expect(0);
}

#[test]
fn a_healthy_primary_is_refused_and_nothing_is_changed() {
    let desk = Desk::with("healthy");
    let refused = desk.sandbox(&GO).expect(9).says("switchover").says("hint:").says("nothing was changed");
    assert!(!refused.out.contains("recovery"), "{refused}");
    let refused = desk.run(&[&["--sandbox", "--output", "json"], &GO[..]].concat()).expect(9);
    assert_eq!(refused.error()["kind"], "refused");
    let shown = desk.run(&["sandbox", "show"]).expect(0).json();
    assert!(shown.is_object());
}

#[test]
fn a_denied_permission_and_a_throttled_service_have_their_own_codes() {
    let desk = Desk::new();
    let denied = desk.write("denied.yaml", "faults:\n  - { region: us-west-2, api: 'rds:', does: deny }\n");
    let _ = desk.run(&["sandbox", "reset", "--scenario", &denied]).expect(0);
    let _ = desk.sandbox(&GO).expect(4).says("error:");
    let throttled = desk.write("slow.yaml", "faults: [{ region: us-west-2, api: 'rds:', does: throttle }]\n");
    let _ = desk.run(&["sandbox", "reset", "--scenario", &throttled]).expect(0);
    let _ = desk.sandbox(&GO).expect(5);
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_started() {
    let desk = Desk::new();
    let refused = desk.sandbox(&["failover", "--accept-unfenced"]).expect(9).says("--yes");
    assert!(refused.out.is_empty(), "{refused}");
    assert!(desk.runs().is_empty());
}

#[test]
fn a_dry_run_changes_nothing() {
    let desk = Desk::new();
    let dry = desk.sandbox(&["failover", "--dry-run"]).expect(0).says("nothing was changed");
    assert!(dry.out.contains("would be held") && dry.out.contains("--accept-unfenced"), "{dry}");
    let steps = desk.sandbox(&["failover", "--dry-run", "--output", "json"]).expect(0).json();
    let switch = steps.as_array().unwrap().iter().find(|s| s["kind"] == "dns.switch").unwrap();
    assert_eq!(switch["finding"], "would_do");
    assert!(desk.runs().is_empty(), "a dry run is no run");
    let _ = Desk::with("healthy").sandbox(&["failover", "--dry-run"]).expect(9).says("would fail");
}

#[test]
fn a_plan_says_everything_and_runs_as_it_is() {
    let desk = Desk::new();
    let text = desk.sandbox(&["plan", "failover", "--to", "us-west-2"]).expect(0);
    for said in
        ["after ", "CANNOT BE UNDONE", "CHANGES rds:PromoteReadReplica", "by hand", "* = on the critical"]
    {
        assert!(text.out.contains(said), "{said}: {text}");
    }
    assert!(!text.out.contains('\u{1b}'), "no colours in a pipe");
    let plan = desk.sandbox(&["plan", "failover", "--output", "json"]).expect(0);
    for key in ["procedure", "to", "hash", "expected_s", "critical_path", "assumes", "steps"] {
        assert!(!plan.json()[key].is_null(), "{key}");
    }
    let file = desk.write("plan.json", &plan.out);
    let other = desk.sandbox(&["failover", "--from-plan", &file, "--yes", "--to", "us-east-1"]);
    let _ = other.expect(2).says("us-west-2");
    let _ = desk.sandbox(&["failover", "--from-plan", &file, "--dry-run"]).expect(0);
    let _ = desk.sandbox(&["failover", "--from-plan", &file, "--yes", "--accept-unfenced"]).expect(0);
    // Now the world is another one.
    let drifted = desk.sandbox(&["failover", "--from-plan", &file, "--yes", "--accept-unfenced"]).expect(6);
    let _ = drifted.says("node_group.services/maip-prod-dr-nodegroup.desired: 2 -> 8").says("hint:");
    let changed = desk.write("changed.json", &plan.out.replace("promote-postgres", "promote-it"));
    let _ = desk.sandbox(&["failover", "--from-plan", &changed, "--yes"]).expect(6).says("hash");
}

#[test]
fn a_procedure_of_ones_own_runs() {
    let desk = Desk::new();
    let own = "procedure: look\nsteps:\n  - { id: look, kind: stream.check, with: { stream: kafka, region: us-west-2 } }\n";
    let file = desk.write("look.yaml", own);
    let _ = desk.sandbox(&["run", &file, "--yes"]).expect(0).says("look succeeded");
    let _ = desk.sandbox(&["run", &file, "--dry-run"]).expect(0);
    let bad = desk.write("bad.yaml", &own.replace("stream.check", "stream.chek"));
    let _ = desk.sandbox(&["run", &bad, "--yes"]).expect(2).says("stream.check");
}

#[test]
fn check_has_a_row_for_everything_and_fails_when_something_is_not_ok() {
    let desk = Desk::new();
    let text = desk.sandbox(&["check"]).expect(1).says("UNKNOWN").says("hint:");
    assert!(!text.out.contains('\u{1b}'));
    let rows = desk.sandbox(&["check", "--output", "json"]).expect(1).json();
    for row in rows.as_array().unwrap() {
        for key in ["region", "resource", "kind", "status", "detail"] {
            assert!(row[key].is_string(), "{row}");
        }
    }
    let _ = desk.sandbox(&["check", "--region", "us-west-2"]).expect(0).says("everything is OK");
    let _ = desk.sandbox(&["check", "--region", "us-west-3"]).expect(2).says("us-west-2");
}

#[test]
fn a_reader_that_goes_away_is_no_defect() {
    let desk = Desk::new();
    for args in [&["--sandbox", "plan", "failover"][..], &["--help"], &["schema"], &["completions", "bash"]] {
        let running = desk.spawn(args);
        let Running { mut child, out } = running;
        drop(out);
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {err}");
        assert!(!err.contains("panic") && !err.contains("defect"), "{args:?}: {err}");
    }
}

#[test]
fn ctrl_c_pauses_and_resume_goes_on() {
    for name in ["INT", "TERM"] {
        let desk = Desk::new();
        let mut running = desk.spawn(&SLOWLY);
        let started = running.until("step_started", "db.promote");
        let id = started["run"].as_str().unwrap();
        running.signal(name);
        let _ = running.end().expect(130).says(&format!("maip-dr resume {id}"));
        assert_eq!(desk.runs()[0]["outcome"], Value::Null);
        let _ = desk.run(&["status", "last"]).expect(0).says("interrupted").says("point of no return");
        let resumed = desk.run(&["--output", "json", "resume", "last"]).expect(0);
        assert_eq!(resumed.lines()[0]["what"], "run_resumed");
        let promoted = resumed
            .lines()
            .iter()
            .filter(|e| e["what"] == "step_started" && e["kind"] == "db.promote")
            .count();
        assert_eq!(promoted, 0, "it is observed, not promoted again: {resumed}");
    }
}

#[test]
fn ctrl_c_at_the_first_record_is_heeded_already() {
    let desk = Desk::new();
    let mut running = desk.spawn(&SLOWLY);
    running.until("run_started", "");
    running.signal("INT");
    let _ = running.end().expect(130).says("maip-dr resume");
    let _ = desk.run(&["resume", "last", "--yes", "--accept-unfenced"]).expect(0);
}

#[test]
fn two_at_once_are_one_too_many() {
    let desk = Desk::new();
    let mut running = desk.spawn(&SLOWLY);
    let id = running.until("step_started", "")["run"].as_str().unwrap().to_owned();
    let second = desk.run(&[&["--sandbox", "--output", "json"], &GO[..]].concat()).expect(6);
    assert_eq!(second.error()["kind"], "conflict");
    let _ = second.says(&id);
    let _ = desk.run(&["resume", &id]).expect(6);
    let _ = desk.run(&["status", &id]).expect(0).says("going on");
    running.signal("INT");
    let _ = running.end().expect(130);
}

#[test]
fn a_journal_that_somebody_else_writes_stops_the_run() {
    let desk = Desk::new();
    let mut running = desk.spawn(&SLOWLY);
    let id = running.until("step_started", "")["run"].as_str().unwrap().to_owned();
    let journal = desk.state.path().join("runs").join(&id).join("journal.jsonl");
    std::fs::OpenOptions::new().append(true).open(journal).unwrap().write_all(b"x").unwrap();
    let stopped = running.end().expect(7).says("broke off");
    assert_eq!(stopped.error()["kind"], "fenced");
}

/// Makes the run's journal say that it is one of the real world, its chain whole.
fn make_real(desk: &Desk, id: &str) {
    let path = desk.state.path().join("runs").join(id).join("journal.jsonl");
    let (mut text, mut prev) = (String::new(), String::new());
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let mut record = Record::open(line).unwrap();
        if let Event::RunStarted(start) = &mut record.event {
            start.world = "aws".to_owned();
        }
        record.prev = prev;
        text.push_str(&record.seal().unwrap());
        prev = record.hash;
    }
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_real_run_is_not_touched_by_who_asks_for_the_sandbox() {
    let desk = Desk::new();
    let _ = desk.sandbox(&["failover", "--yes"]).expect(21);
    let id = desk.last();
    make_real(&desk, &id);
    assert_eq!(desk.runs()[0]["world"], "aws");
    let _ = desk.sandbox(&["resume", "last", "--accept-unfenced"]).expect(9).says("is a real one");
    let _ = desk.sandbox(&["decide", "last", "abandon"]).expect(9).says("is a real one");
    let _ = desk.run(&["sandbox", "reset"]).expect(0);
    assert_eq!(desk.runs()[0]["outcome"], "held", "a reset gives up no real run");
    // Looking is always allowed.
    let _ = desk.sandbox(&["status", &id]).expect(0).says("in AWS");
}

#[test]
fn last_is_the_run_begun_last_whatever_its_id() {
    let desk = Desk::new();
    for n in 1..=6 {
        let _ = desk.run(&["sandbox", "reset", "--scenario", "healthy"]).expect(0);
        let events = desk.run(&[&["--sandbox", "--output", "json"], &GO[..]].concat()).expect(9).lines();
        assert_eq!(desk.runs().len(), n);
        assert_eq!(desk.last(), events[0]["run"].as_str().unwrap());
        let status = desk.run(&["--output", "json", "status", "last"]).expect(0).json();
        assert_eq!(status["run"], events[0]["run"]);
    }
}

#[test]
fn a_reset_sandbox_leaves_no_open_run_behind() {
    let desk = Desk::new();
    let _ = desk.sandbox(&["failover", "--yes"]).expect(21);
    let _ = desk.run(&["sandbox", "reset"]).expect(0).says("is abandoned");
    assert_eq!(desk.runs()[0]["outcome"], "abandoned");
    let _ = desk.sandbox(&GO).expect(0);
    let _ = desk.run(&["sandbox", "reset", "--scenario", "nope"]).expect(2).says("primary-lost");
}

#[test]
fn what_is_wrong_is_said_in_words_and_in_json() {
    let desk = Desk::new();
    let _ = desk.run(&["check"]).expect(2).says("--config").says("hint:");
    let _ = desk.run(&["--config", "nope.yaml", "check"]).expect(3).says("nope.yaml").says("hint:");
    let broken = desk.write("broken.yaml", "version: 1\napplicatio: maip\n");
    let _ = desk.run(&["--config", &broken, "check"]).expect(2).says("application").says("broken.yaml");
    let _ = desk.sandbox(&["failover", "--to", "eu-west-1", "--yes"]).expect(2).says("us-west-2");
    let _ = desk.sandbox(&["plan", "nope"]).expect(2).says("failover");
    let _ = desk.run(&["status", "last"]).expect(3).says("there is no run");
    let _ = desk.run(&["status", "zzz"]).expect(3).says("maip-dr runs");
    let _ = desk.run(&["failovr"]).expect(2).says("'failover'");
    let _ = desk.sandbox(&["failover", "--accept-unfence"]).expect(2).says("'--accept-unfenced'");
    let _ = desk.sandbox(&["failover", "--accept-data-loss", "lots"]).expect(2).says("unknown");
    let _ = desk.sandbox(&["failover", "--impact-at", "yesterday"]).expect(2).says("2026-11-23T03:05:00Z");
    let misused = desk.run(&["--output", "json", "failover", "--accept-unfence"]).expect(2);
    assert_eq!(misused.error()["kind"], "invalid");
    assert!(misused.error()["hint"].as_str().unwrap().contains("--accept-unfenced"), "{misused}");
    let missing = desk.run(&["--output", "json", "status", "zzz"]).expect(3);
    for key in ["kind", "message", "causes", "hint", "context"] {
        assert!(!missing.error()[key].is_null(), "{key}");
    }
    assert!(missing.out.is_empty(), "{missing}");
}

#[test]
fn reference_needs_nothing() {
    let desk = Desk::new();
    let steps = desk.run(&["--output", "json", "steps"]).expect(0).json();
    for row in steps.as_array().unwrap() {
        let kind = row["kind"].as_str().unwrap();
        let _ = desk.run(&["explain", kind]).expect(0).says(kind).says("Parameters");
        let _ = desk.run(&["--output", "json", "explain", kind]).expect(0).json();
    }
    let _ = desk.run(&["steps"]).expect(0).says("db.promote").says("dns.switch");
    let _ = desk.run(&["explain", "db.promot"]).expect(2).says("db.promote");
    assert!(desk.run(&["schema"]).expect(0).json()["properties"]["databases"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let _ = desk.run(&["completions", shell]).expect(0).says("accept-unfenced");
    }
    let _ = desk.run(&["--help"]).expect(0).says("Exit codes").says("21 held");
    let _ = desk.run(&["--version"]).expect(0).says("maip-dr 0.");
}
