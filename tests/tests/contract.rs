//! The AWS and Kubernetes backends keep the contracts of the service traits, against the doubles and two real control
//! planes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;
use std::time::Duration;

use maip_dr_core::aws;
use maip_dr_core::service::contract::{Given, violations};
use maip_dr_core::topology::parse;
use maip_dr_tests::Lab;

/// Names the lab's topology to the process that has the lab's credentials in its environment.
const TOPOLOGY: &str = "MAIP_DR_TEST_TOPOLOGY";

#[test]
fn the_real_clients_keep_the_contracts() {
    if let Ok(file) = std::env::var(TOPOLOGY) {
        return keep_the_contracts(&file);
    }
    let lab = Lab::start(&["--kubernetes"]);
    let ended = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_real_clients_keep_the_contracts", "--nocapture"])
        .envs(&lab.at.env)
        .env(TOPOLOGY, &lab.at.topology)
        .status()
        .unwrap();
    assert!(ended.success(), "what does not hold is above");
}

fn keep_the_contracts(file: &str) {
    let topology = parse(&std::fs::read_to_string(file).unwrap(), file).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let broken = runtime.block_on(async {
        let world = aws::world(&topology).await.unwrap();
        violations(&Given { world: &world, topology: &topology, patience: Duration::from_secs(60) }).await
    });
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
