use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt, join, join_all};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result, Risk};
use crate::id::RegionId;
use crate::region::Region;
use crate::service::HttpQuestion;
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::survey::check_account;
use crate::topology::Topology;

/// One side of a question.
const SIDE: Duration = Duration::from_secs(7);
/// One question and its control may take so long; all are asked at once, so the verdict takes no longer.
const SIGNAL: Duration = Duration::from_secs(8);

/// Tells a lost Region from a healthy one, and from a fault on our own side.
#[derive(Debug)]
pub(super) struct VerifyDown {
    region: RegionId,
    standby: RegionId,
    topology: Topology,
}

/// Where to look.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The Region that is thought to be lost.
    region: RegionId,
    /// The Region that the same questions are put to, as controls.
    standby: RegionId,
}

impl StepKind for VerifyDown {
    const KIND: &'static str = "region.verify_down";
    const ABOUT: &'static str = "Asks independent signals whether a Region is lost: each cluster's API, each database's \
        status, each stream's state, each load balancer. A signal counts only if the same question to the standby \
        Region (its control) is answered in the same interval, so that our own network or credentials are not taken \
        for the Region. Verdict: down (all that count, at least two), up (all that count), partly, unknown. Up is \
        refused: a healthy primary needs a planned switchover. Partly and unknown need --accept-unverified-down. \
        Takes at most 10 s even when the Region accepts connections and never answers.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        topology.other_than(&params.region)?;
        topology.other_than(&params.standby)?;
        Ok(Self { region: params.region, standby: params.standby, topology: topology.clone() })
    }
}

/// What the signals say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every signal that counts says down, and enough count.
    Down,
    /// Every signal that counts says up, and enough count.
    Up,
    /// They disagree.
    Partly,
    /// Too few count.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
enum Says {
    Up(String),
    Down(String),
    /// Neither: a permission is missing, a name is unknown.
    Nothing(String),
    /// The account is another one.
    WrongAccount(Error),
}

#[derive(Debug, Clone, PartialEq)]
struct Signal {
    name: String,
    says: Says,
    control: std::result::Result<(), String>,
}

impl Signal {
    fn counts(&self) -> bool {
        self.control.is_ok() && matches!(self.says, Says::Up(_) | Says::Down(_))
    }
}

/// The verdict of `signals`.
fn judge(signals: &[Signal]) -> Verdict {
    let counting: Vec<&Signal> = signals.iter().filter(|s| s.counts()).collect();
    let up = counting.iter().filter(|s| matches!(s.says, Says::Up(_))).count();
    // Two independent signals, or the only one there is.
    let quorum = signals.len().min(2);
    match (up, counting.len()) {
        (_, n) if n == 0 || n < quorum => Verdict::Unknown,
        (0, _) => Verdict::Down,
        (up, n) if up == n => Verdict::Up,
        _ => Verdict::Partly,
    }
}

type Question<'a> = BoxFuture<'a, (Result<Says>, Result<()>)>;

impl VerifyDown {
    fn questions<'a>(
        &'a self,
        cx: &'a StepCtx,
        there: &'a Arc<dyn Region>,
        here: &'a Arc<dyn Region>,
    ) -> Vec<(String, Question<'a>)> {
        let mut all: Vec<(String, Question<'a>)> = Vec::new();
        all.push((
            "account".to_owned(),
            async move {
                let asked = both(cx, there.identity().caller(), here.identity().caller()).await;
                // Credentials that work only prove that the account is right; they say nothing of the application.
                let says = asked.0.map(|caller| match check_account(&self.topology, &self.region, &caller) {
                    Ok(()) => Says::Nothing(format!("we are {}", caller.arn)),
                    Err(error) => Says::WrongAccount(error),
                });
                (says, asked.1.map(drop))
            }
            .boxed(),
        ));
        for name in self.topology.clusters.keys() {
            let ask = move |region: &'a Arc<dyn Region>| async move { region.workloads(name)?.ready().await };
            all.push((
                format!("kubernetes {name}"),
                async move {
                    let (there, here) = both(cx, ask(there), ask(here)).await;
                    (there.map(|()| Says::Up("its API is ready".into())), here)
                }
                .boxed(),
            ));
        }
        for (name, database) in &self.topology.databases {
            let (Some(old), Some(new)) =
                (database.regions.get(&self.region), database.regions.get(&self.standby))
            else {
                continue;
            };
            all.push((
                format!("database {name}"),
                async move {
                    let (lost, control) = (there.database(), here.database());
                    let (there, here) =
                        both(cx, lost.describe(&old.instance), control.describe(&new.instance)).await;
                    let says = match there {
                        Ok(found) => Ok(database_says(&found.id, &found.status)),
                        Err(e) if e.kind == ErrorKind::NotFound => Ok(Says::Nothing(format!(
                            "there is no {}: fenced by an earlier run?",
                            old.instance
                        ))),
                        Err(e) => Err(e),
                    };
                    (says, here.map(drop))
                }
                .boxed(),
            ));
        }
        for (name, stream) in &self.topology.streams {
            let (Some(old), Some(new)) =
                (stream.regions.get(&self.region), stream.regions.get(&self.standby))
            else {
                continue;
            };
            all.push((
                format!("stream {name}"),
                async move {
                    let (lost, control) = (there.streams(), here.streams());
                    let (there, here) = both(cx, lost.describe(&old.msk), control.describe(&new.msk)).await;
                    let says = there.map(|found| match found.state.as_str() {
                        "FAILED" | "DELETING" => Says::Down(format!("{} is {}", found.name, found.state)),
                        _ => Says::Up(format!("{} is {}", found.name, found.state)),
                    });
                    (says, here.map(drop))
                }
                .boxed(),
            ));
        }
        for (name, traffic) in &self.topology.traffic {
            let ask = move |region: &RegionId| {
                let question = traffic.regions.get(region).map(|lb| HttpQuestion {
                    url: traffic.health.url.clone(),
                    connect: Some(lb.connect.clone().unwrap_or_else(|| lb.load_balancer.clone())),
                    resolvers: traffic.resolvers.clone(),
                    limit: Duration::from_secs(5),
                });
                async move {
                    match question {
                        Some(question) => cx.world.probe.http(&question).await,
                        None => Err(Error::not_found("no load balancer there")),
                    }
                }
            };
            let (lost, control) = (ask(&self.region), ask(&self.standby));
            all.push((
                format!("load balancer {name}"),
                async move {
                    let (there, here) = both(cx, lost, control).await;
                    let says = there.map(|answer| {
                        let text = format!("it answers {}", answer.status);
                        if answer.status == traffic.health.status { Says::Up(text) } else { Says::Down(text) }
                    });
                    (says, here.map(drop))
                }
                .boxed(),
            ));
        }
        all
    }
}

/// Busy is not down: an instance that backs up or is being modified serves.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html#Overview.DBInstance.Status>
fn database_says(id: &str, status: &str) -> Says {
    let text = format!("{id} is {status}");
    match status {
        "available" | "backing-up" | "modifying" | "storage-optimization" | "maintenance" => Says::Up(text),
        "failed" | "stopped" | "stopping" | "storage-full" | "restore-error" | "deleting" => Says::Down(text),
        s if s.starts_with("configuring-") => Says::Up(text),
        s if s.starts_with("inaccessible-") || s.starts_with("incompatible-") => Says::Down(text),
        _ => Says::Nothing(text),
    }
}

/// Both questions, each bounded, so that the slower one does not take the other's answer with it.
async fn both<A: Send, B: Send>(
    cx: &StepCtx,
    there: impl Future<Output = Result<A>> + Send,
    here: impl Future<Output = Result<B>> + Send,
) -> (Result<A>, Result<B>) {
    let bounded = join(timeout(cx.clock(), SIDE, there), timeout(cx.clock(), SIDE, here)).await;
    (bounded.0.and_then(|r| r), bounded.1.and_then(|r| r))
}

/// An answer, or the lack of one, as a signal.
fn signal(name: String, asked: Result<(Result<Says>, Result<()>)>) -> Signal {
    let (says, control) = match asked {
        Ok(both) => both,
        // Both together took too long: the slower one never answered, and which one it was is not known.
        Err(late) => (Err(late.clone()), Err(late)),
    };
    let says = match says {
        Ok(says) => says,
        Err(e) if e.kind == ErrorKind::Denied => Says::Nothing(format!("our credentials: {}", e.one_line())),
        Err(e) if e.kind.is_transient() || e.kind == ErrorKind::InDoubt => {
            if e.kind == ErrorKind::Throttled {
                Says::Nothing("it asks us to slow down".to_owned())
            } else {
                Says::Down(format!("no answer: {}", e.one_line()))
            }
        }
        Err(e) => Says::Nothing(e.one_line()),
    };
    Signal { name, says, control: control.map_err(|e| e.one_line()) }
}

#[async_trait]
impl Step for VerifyDown {
    fn summary(&self) -> String {
        format!("find out whether {} is lost, with {} as the control", self.region, self.standby)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let mut calls = Vec::new();
        for region in [&self.region, &self.standby] {
            calls.push(ApiCall::reads("sts:GetCallerIdentity", region, Plane::Data, "*"));
            for name in self.topology.clusters.keys() {
                let eks = self.topology.cluster(name, region).ok().and_then(|(_, c)| c.eks.clone());
                if let Some(eks) = eks {
                    calls.push(ApiCall::reads(
                        "eks:DescribeCluster",
                        region,
                        Plane::Control,
                        format!("cluster:{eks}"),
                    ));
                }
                calls.push(ApiCall::reads(
                    "kubernetes:get /readyz",
                    region,
                    Plane::Data,
                    format!("cluster:{name}"),
                ));
            }
            for database in self.topology.databases.values().filter_map(|d| d.regions.get(region)) {
                let resource = format!("db:{}", database.instance);
                calls.push(ApiCall::reads("rds:DescribeDBInstances", region, Plane::Control, resource));
            }
            for stream in self.topology.streams.values().filter_map(|s| s.regions.get(region)) {
                calls.push(ApiCall::reads(
                    "kafka:ListClustersV2",
                    region,
                    Plane::Control,
                    format!("cluster:{}", stream.msk),
                ));
            }
        }
        calls
    }
    fn by_hand(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for database in self.topology.databases.values().filter_map(|d| d.regions.get(&self.region)) {
            let command = format!(
                "rds describe-db-instances --db-instance-identifier {} --query 'DBInstances[0].DBInstanceStatus'",
                database.instance
            );
            lines.push(by_hand::aws(&self.topology, &self.region, &command));
        }
        for (cluster, here) in
            self.topology.clusters.values().filter_map(|c| Some((c, c.regions.get(&self.region)?)))
        {
            let _ = cluster;
            let (prepare, kubectl) = by_hand::kubectl(&self.topology, &self.region, here);
            lines.extend(prepare);
            lines.push(format!("{kubectl} get --raw /readyz --request-timeout=8s"));
        }
        for traffic in self.topology.traffic.values() {
            if let Some(lb) = traffic.regions.get(&self.region) {
                lines.push(format!(
                    "curl -sS -m 8 -o /dev/null -w '%{{http_code}}\\n' --connect-to ::{} {}",
                    lb.connect.as_deref().unwrap_or(&lb.load_balancer),
                    traffic.health.url
                ));
            }
        }
        lines
    }
    fn timing(&self) -> Timing {
        Timing::secs(10, 20)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let (there, here) = (cx.region(&self.region)?, cx.region(&self.standby)?);
        let asked = self.questions(cx, there, here).into_iter().map(|(name, question)| async move {
            let answer = timeout(cx.clock(), SIGNAL, question).await;
            signal(name, answer)
        });
        let all = join_all(asked).await;
        if let Some(error) = all.iter().find_map(|s| match &s.says {
            Says::WrongAccount(error) => Some(error.clone()),
            _ => None,
        }) {
            return Err(error);
        }
        let (account, signals): (Vec<Signal>, Vec<Signal>) =
            all.into_iter().partition(|s| s.name == "account");
        let verdict = judge(&signals);
        let shown: Vec<_> = account.iter().chain(&signals).map(describe).collect();
        let lines: Vec<String> = signals.iter().map(line).collect();
        let detail = format!("{}: {}", word(verdict), lines.join("; "));
        let found = json!({ "region": self.region, "verdict": verdict, "signals": shown, "detail": detail });
        let ours = signals.iter().all(|s| s.control.is_err());
        match verdict {
            Verdict::Down => Ok(Observed::Done(found)),
            Verdict::Up => Err(Error::refused(format!("{} is up", self.region))
                .caused_by(detail)
                .hint("a healthy primary needs a planned switchover, not a failover; nothing was changed")),
            Verdict::Partly => Err(Error::refused(format!("{} is only partly down", self.region))
                .caused_by(detail)
                .hint("who still reaches it may still write to it; go on with --accept-unverified-down")
                .needs(Risk::UnverifiedDown, found)),
            Verdict::Unknown if ours => {
                Err(Error::refused(format!("it is unknown whether {} is down", self.region))
                    .caused_by(format!(
                        "{} does not answer us either: our own network or credentials are at fault",
                        self.standby
                    ))
                    .caused_by(detail)
                    .hint("try from another machine, or mend this one's network and credentials")
                    .needs(Risk::UnverifiedDown, found))
            }
            Verdict::Unknown => Err(Error::refused(format!("it is unknown whether {} is down", self.region))
                .caused_by(detail)
                .hint("look for yourself; go on with --accept-unverified-down")
                .needs(Risk::UnverifiedDown, found)),
        }
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Down => "down",
        Verdict::Up => "up",
        Verdict::Partly => "partly down",
        Verdict::Unknown => "unknown",
    }
}

fn parts(signal: &Signal) -> (&'static str, &str) {
    match &signal.says {
        Says::Up(text) => ("up", text),
        Says::Down(text) => ("down", text),
        Says::Nothing(text) => ("unknown", text),
        Says::WrongAccount(error) => ("unknown", &error.message),
    }
}

fn line(signal: &Signal) -> String {
    let (says, text) = parts(signal);
    match &signal.control {
        Ok(()) => format!("{} {says} ({text})", signal.name),
        Err(why) => format!("{} does not count, its control failed ({why})", signal.name),
    }
}

fn describe(signal: &Signal) -> serde_json::Value {
    let (says, text) = parts(signal);
    json!({
        "signal": signal.name, "says": says, "detail": text, "counts": signal.counts(),
        "control": signal.control.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_not_down_and_an_unheard_of_status_says_nothing() {
        for status in ["available", "backing-up", "configuring-enhanced-monitoring"] {
            assert!(matches!(database_says("x", status), Says::Up(_)), "{status}");
        }
        for status in ["failed", "stopped", "inaccessible-encryption-credentials", "incompatible-network"] {
            assert!(matches!(database_says("x", status), Says::Down(_)), "{status}");
        }
        assert!(matches!(database_says("x", "brand-new"), Says::Nothing(_)));
    }

    fn s(says: Says, control: bool) -> Signal {
        Signal { name: "x".into(), says, control: if control { Ok(()) } else { Err("no".into()) } }
    }
    fn up(control: bool) -> Signal {
        s(Says::Up("u".into()), control)
    }
    fn down(control: bool) -> Signal {
        s(Says::Down("d".into()), control)
    }

    #[test]
    fn a_signal_counts_only_with_its_control() {
        assert_eq!(judge(&[down(true), down(true)]), Verdict::Down);
        assert_eq!(judge(&[up(true), up(true)]), Verdict::Up);
        assert_eq!(judge(&[up(true), down(true)]), Verdict::Partly);
        assert_eq!(judge(&[down(false), down(false)]), Verdict::Unknown);
        assert_eq!(judge(&[down(true), down(false)]), Verdict::Unknown, "one signal is no quorum of two");
        assert_eq!(judge(&[down(true)]), Verdict::Down, "the only signal there is");
        assert_eq!(judge(&[]), Verdict::Unknown);
        assert_eq!(judge(&[down(true), down(true), s(Says::Nothing("denied".into()), true)]), Verdict::Down);
    }

    #[test]
    fn missing_permission_and_throttling_are_not_down() {
        let denied = signal("x".into(), Ok((Err(Error::denied("no")), Ok(()))));
        let throttled = signal("x".into(), Ok((Err(Error::throttled("slow")), Ok(()))));
        let silent = signal("x".into(), Ok((Err(Error::unavailable("timeout")), Ok(()))));
        assert!(!denied.counts() && !throttled.counts() && silent.counts());
    }
}
