use std::time::Duration;

use async_trait::async_trait;
use futures::future::join;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::seconds_between;
use crate::error::{Error, Result, Risk};
use crate::id::RegionId;
use crate::journal::optional_millis;
use crate::service::{Instance, LagSample};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::by_hand;
use crate::topology::Topology;

/// The metric has one sample a minute; an older one says nothing about now.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// How far back the series goes into the record.
const SERIES: Duration = Duration::from_secs(30 * 60);

/// Records how far the replica is behind, before the promotion destroys the evidence.
#[derive(Debug)]
pub(super) struct RecordWatermark {
    params: Params,
    instance: String,
    objective: Duration,
    topology: Topology,
}

/// Which database, and which of the two looks.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The database's logical name.
    database: String,
    /// The replica's Region.
    region: RegionId,
    /// `first` decides about the loss of data; `final`, after the fence, is only recorded.
    #[serde(default)]
    phase: When,
}

/// Which of the two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum When {
    #[default]
    First,
    Final,
}

/// How much data, in seconds, is lost by promoting: an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rpo {
    /// At least.
    pub min: f64,
    /// At most; absent = unknown.
    pub max: Option<f64>,
}

/// How far a replica has got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watermark {
    /// The newest lag in seconds; absent = unknown.
    pub lag_s: Option<f64>,
    /// When it was taken.
    #[serde(with = "optional_millis", default)]
    pub sampled_at: Option<Timestamp>,
    /// The replica holds everything that the primary had committed by this moment.
    #[serde(with = "optional_millis", default)]
    pub last_replayed_at: Option<Timestamp>,
    /// The loss.
    pub rpo_s: Rpo,
    /// The state of replication in the service's words.
    pub replication: Option<String>,
}

impl Watermark {
    /// The watermark of `samples` (oldest first; negative = the service could not tell) at `now`.
    ///
    /// ReplicaLag is `now - time of the last replayed commit`: once the source is gone it grows by itself, so it is
    /// an upper bound of the loss. With the moment of the impact known, nothing was committed after it, and the
    /// bound is `impact - last replayed`.
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_PostgreSQL.Replication.ReadReplicas.html>
    pub fn of(
        samples: &[LagSample],
        now: Timestamp,
        impact: Option<Timestamp>,
        replication: Option<String>,
    ) -> Self {
        let terminated = replication.as_deref() == Some("terminated");
        let usable = |s: &&LagSample| s.seconds >= 0.0 && s.seconds.is_finite() && !terminated;
        let newest =
            samples.last().filter(usable).filter(|s| seconds_between(s.at, now) <= FRESH.as_secs_f64());
        let newest_usable = samples.iter().rev().find(usable);
        let last_replayed_at = newest_usable
            .and_then(|s| s.at.checked_sub(jiff::SignedDuration::try_from_secs_f64(s.seconds).ok()?).ok());
        let by_lag = newest.map(|s| s.seconds);
        let by_impact =
            impact.zip(last_replayed_at).map(|(impact, replayed)| seconds_between(replayed, impact).max(0.0));
        let max = match (by_lag, by_impact) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            lag_s: by_lag,
            sampled_at: newest.map(|s| s.at),
            last_replayed_at,
            rpo_s: Rpo { min: 0.0, max },
            replication,
        }
    }

    /// Whether the loss is proven to stay within `objective`.
    pub fn within(&self, objective: Duration) -> bool {
        self.rpo_s.max.is_some_and(|max| max <= objective.as_secs_f64())
    }

    /// In words.
    pub fn detail(&self) -> String {
        match self.rpo_s.max {
            Some(max) => format!("at most {max:.0} s of data would be lost"),
            None => "how much data would be lost is unknown".to_owned(),
        }
    }

    /// The error that holds a run over its objective.
    pub(super) fn over(&self, database: &str, objective: Duration, found: Value) -> Error {
        let span = crate::duration::Span(objective);
        let base = match self.rpo_s.max {
            Some(max) => Error::refused(format!(
                "{database} may lose up to {max:.0} s of data; the objective is {span}"
            )),
            None => Error::refused(format!(
                "how much data {database} would lose is unknown; the objective is {span}"
            ))
            .caused_by("the replica's lag is missing, stale or not to be told (-1)"),
        };
        let hint = if self.last_replayed_at.is_some() {
            "if you know when the application failed, --impact-at TIME gives a tighter bound; else go on with "
        } else {
            "look at the replica; go on with "
        };
        let risk = Risk::DataLoss { seconds: self.rpo_s.max };
        base.hint(format!("{hint}{}", risk.option())).needs(risk, found)
    }
}

/// Reads the replica and its lag.
pub(super) async fn measure(
    cx: &StepCtx,
    region: &RegionId,
    instance: &str,
) -> Result<(Instance, Watermark, Vec<LagSample>)> {
    let database = cx.region(region)?.database();
    let now = cx.now();
    let since =
        now.checked_sub(jiff::SignedDuration::try_from(SERIES).unwrap_or_default()).unwrap_or(Timestamp::MIN);
    let (found, samples) = join(database.describe(instance), database.replica_lag(instance, since)).await;
    let found = found?;
    // A metric that cannot be read is unknown, and unknown is over the objective.
    let samples = samples.unwrap_or_else(|e| {
        cx.note(&format!("the lag of {instance} cannot be read: {}", e.one_line()));
        Vec::new()
    });
    let watermark = Watermark::of(&samples, now, cx.impact_at, found.replication.clone());
    Ok((found, watermark, samples))
}

impl StepKind for RecordWatermark {
    const KIND: &'static str = "db.record_watermark";
    const ABOUT: &'static str = "Records the replica's state, its lag series and what it has replayed: the evidence for \
        the loss of data, which a promotion destroys. The first look gives the RPO as an interval; over the objective, \
        or unknown, it holds the run until --accept-data-loss. The final one, after the fence, is only recorded.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (_, instance) = topology.instance(&params.database, &params.region)?;
        Ok(Self {
            instance: instance.to_owned(),
            objective: topology.objectives.rpo.0,
            topology: topology.clone(),
            params,
        })
    }
}

#[async_trait]
impl Step for RecordWatermark {
    fn summary(&self) -> String {
        match self.params.phase {
            When::First => format!("record how far {} is behind, and what would be lost", self.instance),
            When::Final => format!("record how far {} is behind, once more after the fence", self.instance),
        }
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let (region, resource) = (&self.params.region, format!("db:{}", self.instance));
        vec![
            ApiCall::reads("rds:DescribeDBInstances", region, Plane::Control, &resource),
            ApiCall::reads("cloudwatch:GetMetricData", region, Plane::Data, resource),
        ]
    }
    fn by_hand(&self) -> Vec<String> {
        let command = format!(
            "cloudwatch get-metric-statistics --namespace AWS/RDS --metric-name ReplicaLag \
             --dimensions Name=DBInstanceIdentifier,Value={} --start-time $(date -u -d '30 min ago' +%FT%TZ) \
             --end-time $(date -u +%FT%TZ) --period 60 --statistics Maximum",
            self.instance
        );
        vec![by_hand::aws(&self.topology, &self.params.region, &command)]
    }
    fn timing(&self) -> Timing {
        Timing::secs(2, 60)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let (instance, watermark, samples) = measure(cx, &self.params.region, &self.instance).await?;
        let series: Vec<Value> = samples
            .iter()
            .rev()
            .take(15)
            .map(|s| json!([crate::journal::millis::text(s.at), s.seconds]))
            .collect();
        let mut found = serde_json::to_value(&watermark).unwrap_or_default();
        if let Value::Object(map) = &mut found {
            map.insert("database".into(), json!(self.params.database));
            map.insert("phase".into(), json!(self.params.phase));
            map.insert("instance".into(), json!(instance));
            map.insert("series_newest_first".into(), json!(series));
            map.insert("detail".into(), json!(watermark.detail()));
        }
        if self.params.phase == When::Final || watermark.within(self.objective) {
            Ok(Observed::Done(found))
        } else {
            Err(watermark.over(&self.params.database, self.objective, found))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-23T03:{text}Z").parse().unwrap()
    }
    fn sample(text: &str, seconds: f64) -> LagSample {
        LagSample { at: at(text), seconds }
    }
    fn max(samples: &[LagSample], now: &str, impact: Option<&str>) -> Option<f64> {
        Watermark::of(samples, at(now), impact.map(at), Some("replicating".into())).rpo_s.max
    }

    #[test]
    fn the_bound_is_the_newest_lag() {
        assert_eq!(max(&[sample("10:00", 9.0), sample("11:00", 2.0)], "11:30", None), Some(2.0));
    }

    #[test]
    fn missing_stale_and_minus_one_are_unknown() {
        assert_eq!(max(&[], "11:30", None), None);
        assert_eq!(max(&[sample("10:00", 3.0), sample("11:00", -1.0)], "11:30", None), None);
        assert_eq!(max(&[sample("01:00", 3.0)], "11:30", None), None);
    }

    #[test]
    fn a_known_impact_tightens_the_bound() {
        let growing = [sample("10:00", 2.0), sample("11:00", 62.0), sample("12:00", 122.0)];
        assert_eq!(max(&growing, "12:10", None), Some(122.0));
        assert_eq!(max(&growing, "12:10", Some("10:03")), Some(5.0));
        assert_eq!(max(&[sample("10:00", 2.0), sample("11:00", -1.0)], "12:10", Some("10:03")), Some(5.0));
        assert_eq!(max(&growing, "12:10", Some("09:00")), Some(0.0), "replayed past the impact");
    }

    #[test]
    fn terminated_replication_is_unknown_whatever_the_metric_says() {
        let w = Watermark::of(&[sample("11:00", 2.0)], at("11:30"), None, Some("terminated".into()));
        assert_eq!(w.rpo_s.max, None);
    }
}
