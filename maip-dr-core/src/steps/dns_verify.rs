use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::timeout;
use crate::error::{Error, Result};
use crate::id::RegionId;
use crate::service::{ProbeService, RecordType};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::survey::zone_of;
use crate::topology::{Topology, Traffic, TrafficIn};

/// One question to one name server.
const QUESTION: Duration = Duration::from_secs(3);

/// Asks the name's own authorities where it points.
#[derive(Debug)]
pub(super) struct VerifyDns {
    params: Params,
    traffic: Traffic,
    target: TrafficIn,
}

/// Which name, and where to.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The traffic entry's logical name.
    traffic: String,
    /// The Region that it must point at.
    region: RegionId,
}

impl StepKind for VerifyDns {
    const KIND: &'static str = "dns.verify";
    const ABOUT: &'static str = "Asks every authoritative name server of the zone directly and compares its answer with the \
        addresses of the Region's load balancer, looked up at the same moment. INSYNC is what Route 53 says; this is what \
        it answers. Resolvers may keep the old answer until its TTL is over: endpoint.verify reports those.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (traffic, target) = topology.traffic(&params.traffic, &params.region)?;
        Ok(Self { traffic: traffic.clone(), target: target.clone(), params })
    }
}

/// The types of address that a name is asked for; one that is an alias by CNAME is asked for what it leads to.
pub(super) fn looked_up(traffic: &Traffic) -> BTreeSet<RecordType> {
    let address = |t: &RecordType| if *t == RecordType::Cname { RecordType::A } else { *t };
    traffic.types.iter().map(address).collect()
}

/// The addresses of a load balancer, asked at `servers` (none = the machine's own resolver).
pub(super) async fn addresses(
    probe: &dyn ProbeService,
    name: &str,
    record_type: RecordType,
    servers: &[String],
) -> Result<BTreeSet<IpAddr>> {
    let asked: Vec<Option<String>> =
        if servers.is_empty() { vec![None] } else { servers.iter().cloned().map(Some).collect() };
    let mut last = Error::unavailable("no name server was asked");
    for server in asked {
        match probe.dns(name, record_type, server).await {
            Ok(answer) if !answer.addresses.is_empty() => return Ok(answer.addresses.into_iter().collect()),
            Ok(_) => last = Error::unavailable(format!("{name} has no {record_type} record")),
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[async_trait]
impl Step for VerifyDns {
    fn summary(&self) -> String {
        format!("ask the authoritative name servers where {} points", self.traffic.record)
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        let zone = self.traffic.zone_id.as_deref().or(self.traffic.zone.as_deref()).unwrap_or_default();
        let api = if self.traffic.zone_id.is_some() { "route53:GetHostedZone" } else { "dns:Query" };
        vec![ApiCall::reads(api, &RegionId::from("us-east-1"), Plane::Data, format!("zone:{zone}"))]
    }
    fn by_hand(&self) -> Vec<String> {
        let zone = self.traffic.zone.as_deref().unwrap_or("ZONE");
        vec![format!(
            "for ns in $(dig +short NS {zone}); do dig +norecurse +short {} @$ns; done   # compare: dig +short {}",
            self.traffic.record, self.target.load_balancer
        )]
    }
    fn timing(&self) -> Timing {
        Timing::secs(5, 5 * 60)
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let probe = &*cx.world.probe;
        let zone = match &self.traffic.zone {
            Some(zone) => zone.clone(),
            None => zone_of(&cx.world, &self.traffic).await?.name,
        };
        let authorities = probe.authorities(&zone, &self.traffic.resolvers).await?;
        let mut behind = Vec::new();
        let mut agreed = BTreeSet::new();
        for record_type in looked_up(&self.traffic) {
            let expected =
                addresses(probe, &self.target.load_balancer, record_type, &self.traffic.resolvers).await?;
            let asked = authorities.iter().map(|server| {
                let expected = &expected;
                async move {
                    let question = probe.dns(&self.traffic.record, record_type, Some(server.clone()));
                    match timeout(cx.clock(), QUESTION, question).await.and_then(|r| r) {
                        // A load balancer answers some of its addresses at a time: one in common is enough.
                        Ok(answer) if answer.addresses.iter().any(|a| expected.contains(a)) => (server, None),
                        Ok(answer) => {
                            let shown: Vec<String> = answer.addresses.iter().map(IpAddr::to_string).collect();
                            let said = match shown.as_slice() {
                                [] => "answers nothing".to_owned(),
                                some => format!("still answers {} for {} s", some.join(" "), answer.ttl_s),
                            };
                            (server, Some(said))
                        }
                        Err(e) => (server, Some(e.one_line())),
                    }
                }
            });
            for (server, problem) in join_all(asked).await {
                match problem {
                    Some(problem) => behind.push(format!("{server} {record_type} {problem}")),
                    None => {
                        agreed.insert(server.clone());
                    }
                }
            }
        }
        if behind.is_empty() && !authorities.is_empty() {
            return Ok(Observed::Done(json!({
                "traffic": self.params.traffic, "authorities": authorities,
                "detail": format!("{} authoritative name servers agree", authorities.len()),
            })));
        }
        Ok(Observed::Underway(format!(
            "DNS not propagated yet: {} of {} name servers agree; {}",
            agreed.len(),
            authorities.len(),
            behind.join(", ")
        )))
    }
}
