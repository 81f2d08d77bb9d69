//! Who we are, by STS.

use async_trait::async_trait;
use aws_sdk_sts::Client;

use crate::aws::config::Reach;
use crate::aws::errors::{Call, lacks};
use crate::error::Result;
use crate::id::RegionId;
use crate::service::{Caller, IdentityService};

/// [`IdentityService`] over the Region's own STS.
#[derive(Debug)]
pub(super) struct Sts {
    region: RegionId,
    client: Client,
}

impl Sts {
    pub(super) fn new(reach: &Reach) -> Self {
        Self { region: reach.region.clone(), client: Client::new(&reach.read) }
    }
}

#[async_trait]
impl IdentityService for Sts {
    async fn caller(&self) -> Result<Caller> {
        let call = Call::reads("sts:GetCallerIdentity", &self.region);
        let answer = self.client.get_caller_identity().send().await.map_err(|e| call.failed(e))?;
        Ok(Caller {
            account: answer.account.ok_or_else(|| lacks(call.api, "account"))?,
            arn: answer.arn.ok_or_else(|| lacks(call.api, "ARN"))?,
        })
    }
}
