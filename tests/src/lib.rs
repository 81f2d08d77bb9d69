//! What the behaviour tests and the benchmark share: the lab, and the built binary as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::missing_panics_doc)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests has a parent").to_owned()
}

/// The built binary, beside the one that runs now.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MAIP_DR_BINARY") {
        return path.into();
    }
    let exe = std::env::current_exe().unwrap();
    let found = exe.ancestors().skip(1).take(2).map(|dir| dir.join("maip-dr")).find(|p| p.exists());
    found.expect("build the binary first: cargo build -p maip-dr-cli")
}

/// One Region of the lab.
#[derive(Debug, Clone, Deserialize)]
pub struct LabRegion {
    /// Every AWS service of the Region.
    pub endpoint: String,
    /// Where its load balancer listens, `HOST:PORT`.
    pub load_balancer: String,
    /// A kubeconfig for its control plane.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it.
    pub context: Option<String>,
}

/// What `lab/up` prints.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// The two Regions.
    pub regions: BTreeMap<String, LabRegion>,
    /// The control port's URL.
    pub control: String,
    /// The authoritative name server.
    pub dns: String,
    /// The caching resolver.
    pub resolver: String,
    /// A topology file for this lab.
    pub topology: PathBuf,
    /// What a client's environment needs.
    pub env: BTreeMap<String, String>,
}

/// A running lab. It ends with this process.
#[derive(Debug)]
pub struct Lab {
    /// Where everything is.
    pub at: Addresses,
    child: Child,
    _stdin: ChildStdin,
}

/// East, the primary.
pub const EAST: &str = "us-east-1";
/// West, the standby.
pub const WEST: &str = "us-west-2";

impl Lab {
    /// Starts `lab/up` with `args` and waits until it is ready.
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new(root().join("lab/up"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("lab/up starts; run scripts/prepare.sh first");
        let stdin = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let at =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("lab/up did not come up: {e}: {line}"));
        Self { at, child, _stdin: stdin }
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.at.control);
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("content-type", "application/json");
        let request = request.body(body.map(|b| b.to_string()).unwrap_or_default()).unwrap();
        let mut answer = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .new_agent()
            .run(request)
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// The world of the start, with these settings.
    pub fn reset(&self, settings: Value) {
        self.call("POST", "/reset", Some(settings));
    }
    /// Changes settings.
    pub fn settings(&self, settings: Value) {
        self.call("POST", "/settings", Some(settings));
    }
    /// Sets a fault.
    pub fn fault(&self, fault: Value) {
        self.call("POST", "/faults", Some(fault));
    }
    /// Lifts every fault.
    pub fn lift(&self) {
        self.call("DELETE", "/faults", None);
    }
    /// Forces a state: `set("rds/us-west-2/NAME", ...)`.
    pub fn set(&self, what: &str, state: Value) {
        self.call("POST", &format!("/set/{what}"), Some(state));
    }
    /// The whole world.
    pub fn state(&self) -> Value {
        self.call("GET", "/state", None)
    }
    /// Every call since the last reset.
    pub fn calls(&self) -> Vec<Value> {
        self.call("GET", "/calls", None).as_array().cloned().unwrap()
    }
    /// How often `operation` was performed, answered or not.
    pub fn performed(&self, operation: &str) -> usize {
        let done = |c: &&Value| c["status"] == 200 || c["fault"] == "lost_answer";
        self.calls().iter().filter(|c| c["operation"] == operation).filter(done).count()
    }
    /// Waits until `operation` was performed.
    pub fn await_call(&self, operation: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.performed(operation) == 0 {
            assert!(Instant::now() < until, "{operation} was never called");
            std::thread::yield_now();
        }
    }

    /// Waits until the Deployments of a Region are available.
    pub fn await_ready(&self, region: &str) {
        let kubeconfig = self.at.regions[region].kubeconfig.clone().expect("started with --kubernetes");
        let mut wait = Command::new("kubectl");
        wait.arg("--kubeconfig").arg(kubeconfig).args(["-n", "maip-services", "wait", "deployment", "--all"]);
        let output = wait.args(["--for=condition=Available", "--timeout=60s"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The Python that has boto3.
    pub fn python(&self) -> PathBuf {
        let cache = std::env::var_os("MAIP_DR_LAB_CACHE").map(PathBuf::from);
        let cache =
            cache.or_else(|| Some(PathBuf::from(std::env::var_os("XDG_CACHE_HOME")?).join("maip-dr-lab")));
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/maip-dr-lab");
        cache.unwrap_or_else(home).join("venv/bin/python")
    }

    /// East is gone as far as its users and its cluster can tell; its RDS API still answers.
    pub fn east_half_dead(&self) {
        self.fault(json!({ "region": EAST, "service": "load_balancer", "mode": "refuse" }));
        self.fault(json!({ "region": EAST, "service": "kafka", "mode": "error", "status": 503, "code": "ServiceUnavailableException" }));
        self.fault(json!({ "region": EAST, "service": "eks", "mode": "reset" }));
        self.fault(json!({ "region": EAST, "service": "kubernetes", "mode": "refuse" }));
    }

    /// East accepts connections and never answers, all of it but Route 53.
    pub fn east_silent(&self) {
        self.fault(json!({ "region": EAST, "mode": "silent", "kubernetes": true }));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command answered.
#[derive(Debug)]
pub struct Answer {
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Answer {
    /// The journal's events, from JSON output.
    pub fn events(&self) -> Vec<Value> {
        self.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
    /// The names of the events.
    pub fn names(&self) -> Vec<String> {
        self.events().iter().filter_map(|e| e["what"].as_str().map(str::to_owned)).collect()
    }
    /// The whole output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}:\n{self}"))
    }
    /// Checks the exit code.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }
    /// Checks that standard error has `text`.
    #[must_use]
    pub fn says(self, text: &str) -> Self {
        assert!(self.err.contains(text) || self.out.contains(text), "no {text:?} in:\n{self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- out\n{}\n--- err\n{}", self.code, self.out, self.err)
    }
}

/// The binary with a state directory of its own.
#[derive(Debug)]
pub struct Tool {
    /// The state directory.
    pub state: TempDir,
    /// The topology, if any.
    pub config: Option<PathBuf>,
    env: BTreeMap<String, String>,
}

impl Tool {
    /// For a lab, with its topology and its credentials.
    pub fn on(lab: &Lab) -> Self {
        Self {
            state: TempDir::new().unwrap(),
            config: Some(lab.at.topology.clone()),
            env: lab.at.env.clone(),
        }
    }
    /// For the sandbox.
    pub fn sandbox() -> Self {
        Self { state: TempDir::new().unwrap(), config: None, env: BTreeMap::new() }
    }
    /// With the topology's text changed.
    #[must_use]
    pub fn with_topology(mut self, change: impl Fn(String) -> String) -> Self {
        let text = std::fs::read_to_string(self.config.as_ref().unwrap()).unwrap();
        let path = self.state.path().join("maip-dr.yaml");
        std::fs::write(&path, change(text)).unwrap();
        self.config = Some(path);
        self
    }
    /// With a variable set, or with an empty value taken away.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        if value.is_empty() {
            self.env.remove(name);
        } else {
            self.env.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    /// The command, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.env_clear();
        for keep in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(keep) {
                command.env(keep, value);
            }
        }
        command
            .envs(&self.env)
            .env("MAIP_DR_STATE_DIR", self.state.path())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command.current_dir(self.state.path());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Answer {
        let start = Instant::now();
        let output = self.command(args).output().unwrap();
        answer(output.status, output.stdout, output.stderr, start.elapsed())
    }

    /// Starts it; `finish` waits for its end.
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }
}

/// Waits for a command that was spawned.
pub fn finish(mut child: Child) -> Answer {
    let start = Instant::now();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).unwrap();
        text
    });
    let mut text = Vec::new();
    out.read_to_end(&mut text).unwrap();
    let status = child.wait().unwrap();
    answer(status, text, reader.join().unwrap(), start.elapsed())
}

fn answer(status: ExitStatus, out: Vec<u8>, err: Vec<u8>, took: Duration) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Answer { code: status.code().unwrap_or(-1), out: text(&out), err: text(&err), took }
}
