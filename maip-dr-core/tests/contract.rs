//! The simulated world keeps the contracts of the service traits.
#![cfg(all(feature = "sim", feature = "test-util"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use maip_dr_core::api::on_clock;
use maip_dr_core::service::contract::{Given, violations};
use maip_dr_core::sim::{EXAMPLE, Sandbox, Scenario};
use maip_dr_core::topology::parse;

#[tokio::test]
async fn the_sandbox_keeps_the_contracts() {
    let topology = parse(EXAMPLE, "example").unwrap();
    let at = "2026-11-23T03:12:30Z".parse().unwrap();
    let healthy = Scenario::named("healthy").unwrap();
    let world = Sandbox::memory(&topology, &healthy, 7, at).unwrap().world();
    let given = Given { world: &world, topology: &topology, patience: Duration::from_secs(1800) };
    let broken = on_clock(&world, async { Ok(violations(&given).await) }).await.unwrap();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
