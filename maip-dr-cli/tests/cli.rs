//! The built command as a user runs it, in the sandbox.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Tool {
    state: TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
    #[track_caller]
    fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "out:\n{}\nerr:\n{}", self.out, self.err);
        self
    }
    #[track_caller]
    fn out(self, text: &str) -> Self {
        assert!(self.out.contains(text), "no {text:?} in the output:\n{}\nerr:\n{}", self.out, self.err);
        self
    }
    #[track_caller]
    fn err(self, text: &str) -> Self {
        assert!(self.err.contains(text), "no {text:?} in the errors:\n{}\nout:\n{}", self.err, self.out);
        self
    }
    fn lines(&self) -> Vec<Value> {
        self.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }
}

impl Tool {
    fn new() -> Self {
        Self { state: TempDir::new().unwrap() }
    }
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maip-dr"));
        command
            .args(words)
            .current_dir(self.state.path())
            .env("MAIP_DR_STATE_DIR", self.state.path().join("state"))
            .env_remove("MAIP_DR_CONFIG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }
    /// In the sandbox.
    fn sandbox(&self, words: &[&str]) -> Said {
        let words: Vec<&str> = std::iter::once("--sandbox").chain(words.iter().copied()).collect();
        self.run(&words)
    }
    fn run(&self, words: &[&str]) -> Said {
        Said::of(&self.command(words).output().unwrap())
    }
    fn scenario(name: &str) -> Self {
        let tool = Self::new();
        let _ = tool.sandbox(&["sandbox", "reset", "--scenario", name]).code(0);
        tool
    }
}

const GO: [&str; 4] = ["failover", "--to", "us-west-2", "--yes"];

#[test]
fn the_readmes_command_fails_over() {
    let tool = Tool::new();
    let done = tool.sandbox(&["failover", "--to", "us-west-2", "--yes", "--accept-unfenced"]).code(0);
    let done = done.out("SANDBOX").out("failover succeeded").out("objective 15 min: met").out("Not proven");
    assert!(done.err.contains("other machines do not see it"), "{}", done.err);
    // What follows sees what went before.
    let _ = tool.sandbox(&["check", "--region", "us-west-2"]).code(0).out("available, writer");
    let _ = tool.run(&["runs"]).code(0).out("succeeded");
    let _ = tool.run(&["status", "last"]).code(0).out("promote-postgres");
    let _ = tool.run(&["report", "last"]).code(0).out("data lost").out("promote-postgres");
    let _ = tool.run(&["report", "last", "--format", "md"]).code(0).out("# failover of maip: succeeded");
    let report = tool.run(&["report", "last", "--format", "json"]).code(0).lines().remove(0);
    for key in
        ["run", "procedure", "outcome", "started_at", "ended_at", "rto_s", "rpo_s", "databases", "steps"]
    {
        assert!(!report[key].is_null(), "{key} in {report}");
    }
    assert!(report.as_object().unwrap().contains_key("rto_from_impact_s"));
}

#[test]
fn a_risk_that_nobody_took_holds_and_resume_goes_on() {
    let tool = Tool::new();
    let held = tool.sandbox(&GO).code(21);
    let held = held.err("--accept-unfenced").err("aws rds promote-read-replica").err("maip-dr decide");
    assert!(held.out.contains("HELD at fence-postgres"), "{}", held.out);
    let _ = tool.run(&["status", "last"]).code(0).out("waits for a person").out("What you can do");
    let status = tool.run(&["--output", "json", "status", "last"]).code(0).lines().remove(0);
    assert_eq!(status["waiting_for"]["option"], "--accept-unfenced");
    let _ = tool.sandbox(&GO).code(6).err("is held and has not ended").err("maip-dr resume");
    let _ = tool.sandbox(&["resume", "last", "--accept-unfenced", "--why", "power is cut"]).code(0);
    let _ = tool.run(&["report", "last"]).code(0).out("power is cut");
    let _ = tool.sandbox(&["resume", "last"]).code(6).err("has ended");
}

#[test]
fn each_scenario_has_its_ending() {
    let _ = Tool::scenario("healthy").sandbox(&GO).code(9).err("switchover");
    let _ = Tool::scenario("primary-partitioned").sandbox(&GO).code(21).err("--accept-unverified-down");
    let _ = Tool::scenario("replica-lagging").sandbox(&GO).code(21).err("--accept-data-loss");
    let short = Tool::scenario("no-capacity").sandbox(&GO);
    assert!([20, 21].contains(&short.code), "{}\n{}", short.out, short.err);
    assert!(
        format!("{}{}", short.out, short.err).contains("InsufficientInstanceCapacity"),
        "{}\n{}",
        short.out,
        short.err
    );
    let throttled =
        ["failover", "--to", "us-west-2", "--yes", "--accept-unfenced", "--accept-data-loss", "unknown"];
    let _ = Tool::scenario("throttled").sandbox(&throttled).code(0);
}

#[test]
fn looking_changes_nothing() {
    let tool = Tool::scenario("primary-lost");
    let mutations = || {
        tool.sandbox(&["--output", "json", "sandbox", "show"]).code(0).lines().remove(0)["mutations"].clone()
    };
    let before = mutations();
    let _ = tool.sandbox(&["check"]).code(1).out("UNKNOWN").out("hint:").out("not OK");
    let rows = tool.sandbox(&["--output", "json", "check"]).code(1).lines();
    for row in &rows {
        for key in ["region", "resource", "kind", "status", "detail"] {
            assert!(row[key].is_string(), "{key} in {row}");
        }
    }
    let plan = tool.sandbox(&["plan", "failover", "--to", "us-west-2"]).code(0);
    let _ = plan.out("CANNOT BE UNDONE").out("by hand").out("warning:").out("critical path");
    let plan = tool
        .sandbox(&["--output", "json", "plan", "failover", "--to", "us-west-2"])
        .code(0)
        .lines()
        .remove(0);
    for key in ["procedure", "to", "hash", "expected_s", "critical_path", "assumes", "steps"] {
        assert!(!plan[key].is_null(), "{key}");
    }
    let dry = tool.sandbox(&["failover", "--to", "us-west-2", "--dry-run"]);
    assert!([0, 21].contains(&dry.code), "{}\n{}", dry.out, dry.err);
    assert!(dry.out.contains("nothing was changed"), "{}", dry.out);
    let _ = tool.sandbox(&["failover", "--to", "us-west-2"]).code(9).err("--yes");
    assert_eq!(mutations(), before, "nothing was changed");
    let _ = tool.run(&["runs"]).code(0).out("no run yet");
}

#[test]
fn a_plan_is_run_as_it_was_read_and_not_once_the_world_has_changed() {
    let tool = Tool::scenario("primary-lost");
    let plan = tool.sandbox(&["--output", "json", "plan", "failover", "--to", "us-west-2"]).code(0).out;
    std::fs::write(tool.state.path().join("plan.json"), &plan).unwrap();
    let changed = plan.replacen("db.promote", "db.verify_writable", 1);
    std::fs::write(tool.state.path().join("changed.json"), changed).unwrap();
    let changed = tool.sandbox(&["failover", "--from-plan", "changed.json", "--yes"]);
    assert!([2, 6].contains(&changed.code), "{}\n{}", changed.out, changed.err);
    let run = ["failover", "--from-plan", "plan.json", "--yes", "--accept-unfenced"];
    let _ = tool.sandbox(&run).code(0);
    let _ = tool.sandbox(&run).code(6).err("no longer as it was").err("database.postgres");
}

#[test]
fn events_are_lines_of_json() {
    let said = Tool::new().sandbox(&[
        "--output",
        "json",
        "failover",
        "--to",
        "us-west-2",
        "--yes",
        "--accept-unfenced",
    ]);
    let events = said.code(0).lines();
    assert_eq!(events[0]["what"], "run_started");
    assert_eq!(events.last().unwrap()["what"], "run_ended");
    assert_eq!(events.last().unwrap()["outcome"], "succeeded");
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], i);
        let at = event["at"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
        if event["step"].is_string() {
            assert!(event["kind"].is_string(), "{event}");
        }
    }
}

#[test]
fn an_interrupt_pauses_and_resume_goes_on() {
    let tool = Tool::new();
    let mut child = tool
        .command(&[
            "--sandbox",
            "--speed",
            "20",
            "failover",
            "--to",
            "us-west-2",
            "--yes",
            "--accept-unfenced",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("scale-maip-prod-dr-nodegroup: started")));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let rest: Vec<String> = lines.collect();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}\n{err}");
    assert!(err.contains("maip-dr resume"), "{err}");
    let _ = tool.run(&["status", "last"]).code(0).out("interrupted");
    let _ = tool.sandbox(&["resume", "last", "--accept-unfenced"]).code(0).out("resumed by");
}

#[test]
fn two_at_once_are_told_apart() {
    let tool = Tool::new();
    let mut child = tool
        .command(&[
            "--sandbox",
            "--speed",
            "20",
            "failover",
            "--to",
            "us-west-2",
            "--yes",
            "--accept-unfenced",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("started in the SANDBOX")));
    let _ = tool.sandbox(&GO).code(6).err("being driven by another process");
    let _ = tool.run(&["status", "last"]).code(0).out("going on");
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = tool.sandbox(&GO).code(6).err("was interrupted");
    let _ = tool.sandbox(&["decide", "last", "abandon", "--why", "a test"]).code(23).err("given up");
    let _ = tool.sandbox(&["decide", "last", "abandon"]).code(6).err("has ended");
    let _ = tool.run(&["runs"]).code(0).out("abandoned");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let tool = Tool::new();
    let binary = env!("CARGO_BIN_EXE_maip-dr");
    let script =
        format!("{binary} --sandbox plan failover --to us-west-2 | head -1; echo ${{PIPESTATUS[0]}}");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("MAIP_DR_STATE_DIR", tool.state.path()).current_dir(tool.state.path());
    let said = Said::of(&command.output().unwrap());
    assert!(said.err.is_empty(), "{}", said.err);
    assert!(said.out.ends_with("\n0\n"), "{}", said.out);
}

#[test]
fn mistakes_are_told_with_what_would_be_right() {
    let tool = Tool::new();
    let _ = tool.run(&["failover", "--too", "x"]).code(2).err("--to");
    let _ = tool.run(&["chekc"]).code(2).err("check");
    let _ = tool.run(&["check"]).code(2).err("topology file").err("hint:");
    let _ = tool.run(&["--config", "no-such.yaml", "check"]).code(3).err("no-such.yaml");
    let _ = tool.sandbox(&["failover", "--to", "eu-west-1", "--yes"]).code(2).err("us-west-2");
    let _ = tool.sandbox(&["plan", "switchover"]).code(2).err("failover");
    let _ = tool.run(&["status", "last"]).code(3).err("there is no run yet");
    let _ = tool.run(&["status", "2611"]).code(3).err("there is no run 2611");
    let _ = tool.run(&["explain", "db.promot"]).code(2).err("did you mean `db.promote`");
    let _ = tool.sandbox(&["sandbox", "reset", "--scenario", "nonsense"]).code(2).err("primary-lost");
    let _ = tool.sandbox(&["failover", "--accept-data-loss", "much"]).code(2).err("duration");
    let error = tool.run(&["--output", "json", "status", "last"]).code(3).err;
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["kind"], "not_found");
    std::fs::write(tool.state.path().join("maip-dr.yaml"), "version: 1\nappliction: maip\n").unwrap();
    let _ = tool.run(&["check"]).code(2).err("maip-dr.yaml:2:1").err("application");
}

#[test]
fn a_procedure_of_ones_own_asks_all_the_same() {
    let tool = Tool::new();
    let file = tool.state.path().join("mine.yaml");
    let text = "procedure: promote-and-check\nsteps:\n  \
                - { id: promote-postgres, kind: db.promote, with: { database: postgres, region: us-west-2 } }\n  \
                - { id: verify, kind: db.verify_writable, with: { database: postgres, region: us-west-2 }, after: [promote-postgres] }\n";
    std::fs::write(&file, text).unwrap();
    let _ = tool.sandbox(&["run", "mine.yaml"]).code(9).err("--yes");
    // It fences nobody, so that is a risk to be taken in so many words.
    let _ = tool.sandbox(&["run", "mine.yaml", "--yes"]).code(21).err("put a db.fence before this step");
    let _ = tool.sandbox(&["decide", "last", "abandon"]).code(23);
    let _ =
        tool.sandbox(&["run", "mine.yaml", "--yes", "--accept-unfenced"]).code(0).out("approve: approved");
    std::fs::write(&file, text.replace("after: [promote-postgres]", "after: [nothing]")).unwrap();
    let _ = tool.sandbox(&["run", "mine.yaml", "--yes"]).code(2).err("nothing");
}

#[test]
fn reference_is_there_without_a_topology() {
    let tool = Tool::new();
    let steps = tool.run(&["steps"]).code(0);
    for kind in [
        "region.verify_down",
        "gate.approve",
        "db.fence",
        "db.record_watermark",
        "db.promote",
        "db.verify_writable",
        "nodes.scale",
        "workloads.scale",
        "workloads.restart",
        "dns.switch",
        "dns.verify",
        "endpoint.verify",
        "table.check",
        "stream.check",
        "notify.send",
    ] {
        assert!(steps.out.contains(kind), "{kind}");
        let _ = tool.run(&["explain", kind]).code(0).out("Parameters");
    }
    let schema: Value = serde_json::from_str(&tool.run(&["schema"]).code(0).out).unwrap();
    assert!(schema["properties"]["databases"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        let _ = tool.run(&["completions", shell]).code(0).out("maip-dr");
    }
    let _ = tool.run(&["--version"]).code(0).out("maip-dr 0.1.0");
}
