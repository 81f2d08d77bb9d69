use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::Result;
use crate::id::RegionId;
use crate::service::{HttpAnswer, HttpQuestion};
use crate::step::{ApiCall, Observed, Plane, Step, StepCtx, StepKind, Timing, Undo};
use crate::steps::dns_verify::{addresses, looked_up};
use crate::topology::{Topology, Traffic, TrafficIn};

/// Asks the application itself.
#[derive(Debug)]
pub(super) struct VerifyEndpoint {
    params: Params,
    traffic: Traffic,
    target: TrafficIn,
}

/// Which name, in which Region, and from where.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The traffic entry's logical name.
    traffic: String,
    /// The Region that must answer.
    region: RegionId,
    /// False: its load balancer is asked directly, under the public name. True: whoever the public name points to.
    public: bool,
}

impl StepKind for VerifyEndpoint {
    const KIND: &'static str = "endpoint.verify";
    const ABOUT: &'static str = "Asks the application's health URL until it answers with the configured status. Directly: at \
        the Region's load balancer, with the public name as host and TLS name, before any user is sent there. Publicly: \
        wherever the public name leads; the answer must come from the right Region (by the header x-maip-region, else by \
        the load balancer's addresses). A resolver that still answers the old address is named, with the TTL left.";
    type Params = Params;
    fn build(params: Params, topology: &Topology) -> Result<Self> {
        let (traffic, target) = topology.traffic(&params.traffic, &params.region)?;
        Ok(Self { traffic: traffic.clone(), target: target.clone(), params })
    }
}

impl VerifyEndpoint {
    /// Who answered, where that is not the Region that should; its own word counts, else its address.
    async fn origin(&self, cx: &StepCtx, answer: &HttpAnswer) -> Result<Option<String>> {
        if let Some(region) = &answer.region {
            return Ok((region != self.params.region.as_str()).then(|| region.clone()));
        }
        let probe = &*cx.world.probe;
        let mut expected = BTreeSet::new();
        for record_type in looked_up(&self.traffic) {
            // Not to be found out is not to be told from the wrong one: the step goes on looking.
            expected.extend(
                addresses(probe, &self.target.load_balancer, record_type, &self.traffic.resolvers).await?,
            );
        }
        let address = answer.address.clone().unwrap_or_default();
        Ok((!expected.iter().any(|ip| ip.to_string() == address)).then_some(address))
    }

    /// Who still answers another address, and for how long.
    async fn stale(&self, cx: &StepCtx) -> Option<String> {
        let probe = &*cx.world.probe;
        let record_type = looked_up(&self.traffic).into_iter().next()?;
        let expected =
            addresses(probe, &self.target.load_balancer, record_type, &self.traffic.resolvers).await.ok()?;
        let servers: Vec<Option<String>> = if self.traffic.resolvers.is_empty() {
            vec![None]
        } else {
            self.traffic.resolvers.iter().cloned().map(Some).collect()
        };
        let mut lines = Vec::new();
        for server in servers {
            let name = server.clone().unwrap_or_else(|| "this machine's resolver".to_owned());
            if let Ok(answer) = probe.dns(&self.traffic.record, record_type, server).await
                && !answer.addresses.iter().any(|a| expected.contains(a))
            {
                let shown: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
                lines.push(format!("{name} still answers {} for {} s", shown.join(" "), answer.ttl_s));
            }
        }
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

#[async_trait]
impl Step for VerifyEndpoint {
    fn summary(&self) -> String {
        if self.params.public {
            format!(
                "ask {} as a user does, until {} answers {}",
                self.traffic.health.url, self.params.region, self.traffic.health.status
            )
        } else {
            format!(
                "ask {} directly for {}, before users are sent there",
                self.target.load_balancer, self.traffic.health.url
            )
        }
    }
    fn region(&self) -> Option<&RegionId> {
        Some(&self.params.region)
    }
    fn undo_policy(&self) -> Undo {
        Undo::NotNeeded
    }
    fn calls(&self) -> Vec<ApiCall> {
        vec![ApiCall::reads(
            "http:GET",
            &self.params.region,
            Plane::Data,
            format!("url:{}", self.traffic.health.url),
        )]
    }
    fn by_hand(&self) -> Vec<String> {
        let url = &self.traffic.health.url;
        vec![if self.params.public {
            format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' {url}")
        } else {
            let at = self.target.connect.as_deref().unwrap_or(&self.target.load_balancer);
            format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' --connect-to ::{at} {url}")
        }]
    }
    fn timing(&self) -> Timing {
        if self.params.public { Timing::secs(60, 15 * 60) } else { Timing::secs(10, 10 * 60) }
    }

    async fn observe(&self, cx: &StepCtx) -> Result<Observed> {
        let connect = (!self.params.public)
            .then(|| self.target.connect.clone().unwrap_or_else(|| self.target.load_balancer.clone()));
        let question = HttpQuestion {
            url: self.traffic.health.url.clone(),
            connect,
            resolvers: self.traffic.resolvers.clone(),
            limit: Duration::from_secs(5),
        };
        let answered = cx.world.probe.http(&question).await;
        if self.params.public {
            let from = match &answered {
                Ok(answer) => self.origin(cx, answer).await?,
                Err(_) => None,
            };
            if let Some(from) = from.or(answered.is_err().then(String::new)) {
                if let Some(stale) = self.stale(cx).await {
                    return Ok(Observed::Underway(format!("DNS not propagated yet: {stale}")));
                }
                if !from.is_empty() {
                    return Ok(Observed::Underway(format!("{from} still answers the public name")));
                }
            }
        }
        let answer = answered?;
        if answer.status != self.traffic.health.status {
            return Ok(Observed::Underway(format!(
                "it answers {}, not {}",
                answer.status, self.traffic.health.status
            )));
        }
        let by = if self.params.public { "the public name" } else { "the load balancer" };
        Ok(Observed::Done(json!({
            "traffic": self.params.traffic, "public": self.params.public, "status": answer.status, "region": answer.region,
            "address": answer.address, "detail": format!("{by} answers {}", answer.status),
        })))
    }
}
