//! The topology file: what it accepts, and what it says of everything else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use maip_dr_core::topology::{Topology, json_schema, parse, parse_json};
use maip_dr_core::{Error, ErrorKind};
use proptest::prelude::*;
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../examples/maip-prod.yaml");
const FILE: &str = "maip-dr.yaml";

/// The example with `from` replaced.
fn edited(from: &str, to: &str) -> String {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "`{from}` must be in the example once");
    EXAMPLE.replace(from, to)
}

fn refused(text: &str) -> Error {
    let error = parse(text, FILE).expect_err(text);
    assert_eq!(error.kind, ErrorKind::Invalid);
    error
}

/// Takes the mark out of `marked`: the text, and the line and column where it stood.
fn marked(marked: &str) -> (String, usize, usize) {
    let at = marked.find('§').expect("a mark");
    let before = &marked[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    (marked.replace('§', ""), line, column)
}

/// A slip: what of the example is replaced, by what (`§` stands where the error must point), what the error says
/// and what its hint says.
type Slip = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const SLIPS: &[Slip] = &[
    // Reading.
    ("application: maip", "application: maip\n§application: maip", "`application` is there twice", "keep one"),
    ("objectives: { rto: 15m, rpo: 60s }", "objectives: { rto: 15m, §rto: 60s }", "`rto` is there twice", "keep one"),
    ("primary: us-east-1  ", "§primary\n", "cannot be read", "YAML or JSON"),
    // Keys and types.
    ("standby: us-west-2", "§standbby: us-west-2", "unknown key `standbby`", "did you mean `standby`? known here: application, approvals"),
    ("instance: maip-prod-postgres }", "instance: maip-prod-postgres, §port: 5432 }", "unknown key `port`", "known here: instance"),
    ("lag_max: 5s", "§lag: 5s", "unknown key `lag`", "did you mean `lag_max`?"),
    ("    health: {", "    §healthy: {", "unknown key `healthy`", "did you mean `health`?"),
    ("us-west-2: { msk: maip-prod-dr-kafka }", "us-west-2: §{ }", "the key `msk` is missing", "exact name"),
    ("account: \"123456789012\" }   # in", "account: §123456789012 }   # in", "must be text, not `123456789012`", "put it in quotes"),
    ("restart: true", "restart: §yes", "must be true or false, not `yes`", "Deployments are restarted"),
    ("types: [A]", "types: §A", "must be a list, not `A`", "record types"),
    ("types: [A]", "types: [§MX]", "must be `A` or `AAAA` or `CNAME`, not `MX`", "record types"),
    ("standby: us-west-2", "standby: §{ best: us-west-2 }", "must be text or a list, not a map", "best first"),
    ("replicas: 4", "replicas: §four", "must be a whole number, not `four`", "never lowered"),
    ("replicas: 4", "replicas: §-1", "must be 0 to 4294967295, not -1", "never lowered"),
    ("min: 4", "min: §1.5", "must be a whole number, not `1.5`", "autoscaler goes no lower"),
    ("deployments: {}", "deployments: { api: §kept }", "must be a whole number or `keep`, not `kept`", ""),
    ("rto: 15m", "rto: §15", "`15` is not a duration", "write 30s, 15m or 2h"),
    ("rto: 15m", "rto: §soon", "`soon` is not a duration", "write 30s, 15m or 2h"),
    ("notify: []", "notify: [§{ mail: me }]", "this needs `webhook` or `command`", ""),
    ("notify: []", "notify: [{ webhook: \"env:HOOK\", §url: x }]", "unknown key `url`", "known here: webhook"),
    ("version: 1", "version: §2", "must be 1, not 2", "`version`"),
    ("version: 1", "version: §\"1\"", "must be a whole number, not `1`", "`version`"),
    // The head of the file.
    ("application: maip", "application: §Maip", "`Maip` is not a name for the application", "small letters"),
    ("application: maip", "application: §m", "`m` is not a name for the application", "2 to 40"),
    ("primary: us-east-1 ", "primary: §us_east ", "`us_east` is not the name of a Region", "us-west-2"),
    ("standby: us-west-2", "standby: §[]", "there is no standby Region", "at least one"),
    ("standby: us-west-2", "standby: [us-west-2, §us-east-1]", "is the primary and cannot", "another Region"),
    ("standby: us-west-2", "standby: [us-west-2, §us-west-2]", "is there twice", "once"),
    // Regions of resources.
    ("      us-west-2: { instance: maip-prod-postgres-replica }", "      us-west-2: { instance: r }\n      §eu-west-1: { instance: r }", "Region `eu-west-1` is neither the primary nor a standby", "us-east-1 and us-west-2"),
    ("      us-west-2: { instance: maip-prod-postgres-replica }", "", "the database `postgres` has no entry for Region `us-west-2`", "every standby"),
    ("      us-east-1: { msk: maip-prod-kafka }\n", "", "the stream `kafka` has no entry for Region `us-east-1`", "every standby"),
    // Access.
    ("# in any", "\n  §eu-west-1: {} # in any", "Region `eu-west-1` is neither", "add it to `standby`"),
    ("account: \"123456789012\" }   # in", "account: §\"1234\" }   # in", "`1234` is not an account", "twelve digits"),
    ("account: \"123456789012\" }   # in", "role_arn: §\"arn:aws:iam::123456789012:user/me\" }   # in", "is not the ARN of a role", "role/NAME"),
    ("account: \"123456789012\" }   # in", "account: \"123456789012\", role_arn: §\"arn:aws:iam::210987654321:role/dr\" }   # in", "the role is in account 210987654321", "the same"),
    ("account: \"123456789012\" }   # in", "endpoint_url: §\"http://aws.example.com\" }   # in", "the endpoint at `aws.example.com` is not https", "this machine only"),
    ("account: \"123456789012\" }   # in", "endpoint_url: §\"https://me@aws.example.com\" }   # in", "a user stands in this URL", "without USER@"),
    ("account: \"123456789012\" }   # in", "endpoint_url: §aws }   # in", "this is not a URL", "https://HOST:PORT"),
    // Databases.
    ("backup_retention_days: 7", "backup_retention_days: §0", "must be 1 to 35, not 0", "without backups cannot have the replica"),
    ("backup_retention_days: 7", "backup_retention_days: §36", "must be 1 to 35, not 36", "backups"),
    ("instance: maip-prod-postgres }", "instance: §maip--prod }", "`maip--prod` is not an RDS instance", "single hyphens"),
    ("instance: maip-prod-postgres }", "instance: §1maip }", "`1maip` is not an RDS instance", "a letter first"),
    ("instance: maip-prod-postgres }", "instance: §maip- }", "`maip-` is not an RDS instance", "no hyphen last"),
    ("\nclusters:", "  twin:\n    regions:\n      us-east-1: { instance: §maip-prod-postgres }\n      us-west-2: { instance: other }\n\nclusters:", "is already the database `postgres` in us-east-1", "one instance is one"),
    ("  postgres:", "  §\"post gres\":", "`post gres` cannot name anything", "letters, digits"),
    // Clusters.
    ("us-east-1: { eks: maip-prod-eks-cluster, node_groups: {} }", "us-east-1: §{}", "nothing says how to reach this cluster", "kubeconfig: PATH"),
    ("eks: maip-prod-eks-cluster", "eks: §-maip", "`-maip` is not an EKS cluster's name", "1 to 100"),
    ("eks: maip-prod-eks-cluster", "eks: maip, context: §dr", "a context is of a kubeconfig", "kubeconfig: PATH"),
    ("        eks: maip-prod-dr-eks-cluster\n        node_groups: {", "        kubeconfig: ./k\n        node_groups: §{", "node groups belong to an EKS cluster", "eks: NAME"),
    ("maip-prod-dr-nodegroup: {", "maip-prod-dr-nodegroup: §{ min: 9, desired: 8, max: 20 }, other: {", "contradict each other: min 9 desired 8 max 20", "min <= desired <= max"),
    ("min: 4, desired: 8, max: 20", "min: 0, desired: 0, max: §0", "the largest size is 0", "at least 1"),
    ("maip-prod-dr-nodegroup: {", "§\"a b\": {", "`a b` is not a node group's name", "1 to 63"),
    ("maip-services: {", "§Maip_Services: {", "`Maip_Services` is not a namespace's name", "small letters"),
    ("replicas: 4", "replicas: §10001", "10001 replicas are more than", "at most 10000"),
    ("deployments: {}", "stateful_sets: { db: §20000 }", "20000 replicas are more than", "at most 10000"),
    ("deployments: {}", "deployments: { §API: keep }", "`API` is not a Kubernetes name", "small letters"),
    // Streams and tables.
    ("msk: maip-prod-kafka", "msk: §maip_kafka", "`maip_kafka` is not an MSK cluster's name", "not the ARN"),
    ("dynamodb: maip-prod-merchant-analytics", "dynamodb: §ab", "`ab` is not a DynamoDB table's name", "3 to 255"),
    ("lag_max: 5s", "lag_max: §0s", "the duration is zero", "more than zero"),
    // Traffic.
    ("zone: maip.example.com ", "zone: maip.example.com\n    zone_id: §Z0123456789 ", "both `zone` and `zone_id`", "remove the other"),
    ("    zone: maip.example.com               # or zone_id\n    record", "    §record", "neither `zone` nor `zone_id`", "example.com"),
    ("zone: maip.example.com ", "zone_id: §/hostedzone/Z1 ", "is not a hosted zone's id", "without `/hostedzone/`"),
    ("zone: maip.example.com ", "zone: §\"maip example\" ", "`maip example` is not a zone's name", "example.com"),
    ("record: api.maip.example.com", "record: §\"*.maip.example.com\"", "is not a host's name", "api.example.com"),
    ("zone: maip.example.com               # or zone_id\n    record: api", "zone: ip.example.com\n    record: §api", "`api.maip.example.com` is not in the zone `ip.example.com`", ".ip.example.com"),
    ("types: [A]", "types: §[]", "no record type is named", "[A, AAAA]"),
    ("types: [A]", "types: [A, §A]", "A is there twice", "once"),
    ("types: [A]", "types: §[CNAME, A]", "CNAME cannot stand beside", "no other record"),
    ("method: alias", "method: §health_switch", "`health_switch` is not supported yet", "alias or weighted"),
    ("method: alias", "method: §routing_control", "`routing_control` is not supported yet", "alias or weighted"),
    ("method: alias", "method: §magic", "must be `alias` or `weighted`, not `magic`", "How it is moved"),
    ("load_balancer: maip-prod-alb-1111111111.us-east-1", "load_balancer: §maip-prod-alb-1111111111.us-east-2", "the load balancer is in us-east-2, and this entry is of us-east-1", "of us-east-1"),
    ("load_balancer: maip-prod-alb-1111111111.us-east-1.elb", "load_balancer: §n.elb.eu-west-1", "the load balancer is in eu-west-1", "of us-east-1"),
    ("load_balancer: maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com", "load_balancer: §\"https://lb\"", "is not a DNS name", "without https://"),
    ("Z1H1FL5HABSF5", "§Z35SXDOTRQ7X7K", "`Z35SXDOTRQ7X7K` is the zone of Application and Classic Load Balancers in us-east-1", "in us-west-2 are in Z1H1FL5HABSF5"),
    ("Z1H1FL5HABSF5", "§Z18D5FSROUN65G", "`Z18D5FSROUN65G` is the zone of Network Load Balancers in us-west-2", "are in Z1H1FL5HABSF5"),
    ("Z1H1FL5HABSF5", "§Z999", "`Z999` is not the zone of Application and Classic Load Balancers in us-west-2", "are in Z1H1FL5HABSF5"),
    ("Z1H1FL5HABSF5", "§z1h1", "`z1h1` is not a hosted zone's id", "capitals"),
    ("hosted_zone_id: Z1H1FL5HABSF5", "hosted_zone_id: Z1H1FL5HABSF5, connect: §\"10.0.0.1\"", "`10.0.0.1` is not HOST:PORT", "10.0.0.2:53"),
    ("types: [A]", "resolvers: [\"127.0.0.1:53\", §\"dns:0\"]", "`dns:0` is not HOST:PORT", "10.0.0.2:53"),
    ("\"https://api.maip.example.com/actuator/health\"", "§\"https://www.maip.example.com/\"", "is not the record `api.maip.example.com`", "https://api.maip.example.com/"),
    ("\"https://api.maip.example.com/actuator/health\"", "§\"ftp://api.maip.example.com/\"", "`ftp://` cannot be asked", "https://api.maip.example.com/"),
    ("\"https://api.maip.example.com/actuator/health\"", "§api.maip.example.com", "this is not a URL", "https://api.maip.example.com/"),
    ("status: 200", "status: §42", "must be 100 to 599, not 42", "status"),
    // The way back, deadlines, notices, the journal.
    ("shift: [10, 50, 90, 100]", "shift: [10, §300]", "must be 1 to 100, not 300", "not weights, which Route 53 counts from 0 to 255"),
    ("shift: [10, 50, 90, 100]", "shift: [§0, 100]", "must be 1 to 100, not 0", "Per cent"),
    ("shift: [10, 50, 90, 100]", "shift: [50, §10, 100]", "10 does not rise above 50", "more home"),
    ("shift: [10, 50, 90, 100]", "shift: [10, §90]", "the shifts do not end at 100", "end with 100"),
    ("shift: [10, 50, 90, 100]", "shift: §[]", "the shifts do not end at 100", "end with 100"),
    ("bake: 10m", "bake: §0s", "the duration is zero", "more than zero"),
    ("rpo: 60s", "rpo: §0s", "the duration is zero", "more than zero"),
    ("notify: []", "timeouts: { §db.promte: 30m }", "there is no step kind `db.promte`", "did you mean `db.promote`? known kinds: db."),
    ("notify: []", "timeouts: { db.promote: §0s }", "the duration is zero", "more than zero"),
    ("notify: []", "timeouts: { db.promote: §25h }", "25h is longer than a day", "24h"),
    ("notify: []", "notify: [{ webhook: §\"http://hooks.example.com/private-path\" }]", "the webhook at `hooks.example.com` is not https", "this machine only"),
    ("notify: []", "notify: [{ webhook: §\"env:1X\" }]", "`1X` is not the name of an environment variable", "env:NAME"),
    ("notify: []", "notify: [{ webhook: §hello }]", "this is not a URL", "env:NAME"),
    ("notify: []", "notify: [{ command: §[] }]", "the command is empty", "arguments"),
    ("notify: []", "§approvals: { need: 2, from: [ann, bob] }", "`approvals` is not supported yet", "--yes"),
    ("notify: []", "journal: { §dynamodb: { table: t, region: us-east-1 } }", "`dynamodb` is not supported yet", "file: DIR"),
    ("instance: maip-prod-postgres }", "instance: maip-prod-postgres, §sql: { url_env: X } }", "`sql` is not supported yet", "leave it out"),
];

#[test]
fn every_slip_is_pointed_at_and_put_right() {
    let mut wrong = Vec::new();
    for (from, to, message, hint) in SLIPS {
        // Where nothing is left to point at, the position is not told by a mark.
        let (text, place) = match to.contains('§') {
            true => {
                let (text, line, column) = marked(&edited(from, to));
                (text, format!("{FILE}:{line}:{column}: "))
            }
            false => (edited(from, to), format!("{FILE}:")),
        };
        let error = match parse(&text, FILE) {
            Ok(_) => {
                wrong.push(format!("{to}: accepted"));
                continue;
            }
            Err(error) => error,
        };
        let told = error.hint.clone().unwrap_or_default();
        let right = error.kind == ErrorKind::Invalid
            && error.message.starts_with(&place)
            && error.message.contains(message)
            && told.contains(hint)
            && !error.message.contains("follow")
            && error.context.contains_key("line")
            && error.context.contains_key("column");
        if !right {
            wrong.push(format!("{to}\n  expected {place}{message}\n  hint {hint}\n  got {error}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn positions_are_the_files_own() {
    let text = "version: 1\napplication: maip\nprimary: us-east-1\nstandby: us-west-2\ntables:\n  t: { dynamodb: x }\n";
    let error = refused(text);
    assert!(error.message.starts_with("maip-dr.yaml:6:18: `x` is not"), "{error}");
    assert_eq!((error.context["line"].as_str(), error.context["column"].as_str()), ("6", "18"));
    assert_eq!(error.context["path"], "tables.t.dynamodb");
    // JSON, characters beyond ASCII, and an anchor: the place is where the value was written.
    let error = refused("{\"version\": 1, \"ä\": 2,\n \"primary\": 3}");
    assert!(error.to_string().contains("maip-dr.yaml:1:16: unknown key `ä`"), "{error}");
    assert!(error.to_string().contains("maip-dr.yaml:2:13: this must be text, not `3`"), "{error}");
    let error = refused(&edited("notify: []", "timeouts: { db.promote: &zero 0s, db.fence: *zero }"));
    assert!(error.message.contains("(1 more problem follows)"), "{error}");
}

#[test]
fn all_problems_are_told_at_once_in_the_files_order() {
    let text = EXAMPLE
        .replace("backup_retention_days: 7", "backup_retention_days: 0")
        .replace("min: 4", "min: 40")
        .replace("lag_max: 5s", "lag_max: 0s")
        .replace("Z1H1FL5HABSF5", "Z35SXDOTRQ7X7K")
        .replace("bake: 10m", "bake: 0s");
    let error = refused(&text);
    assert!(error.message.contains("must be 1 to 35, not 0 (4 more problems follow)"), "{error}");
    let told: Vec<&str> =
        ["min 40 desired 8", "duration is zero", "Z35SXDOTRQ7X7K", "duration is zero"].into();
    for (cause, word) in error.causes.iter().zip(&told) {
        assert!(cause.starts_with("maip-dr.yaml:") && cause.contains(word), "{cause} / {word}");
    }
    assert_eq!(error.causes.len(), told.len());
}

#[test]
fn a_flood_of_problems_is_cut_off() {
    let many: String = (0..500).map(|i| format!("  t{i}: {{ dynamodb: x }}\n")).collect();
    let error = refused(&format!(
        "version: 1\napplication: maip\nprimary: us-east-1\nstandby: us-west-2\ntables:\n{many}"
    ));
    assert_eq!(error.causes.len(), 20);
    assert_eq!(error.causes[19], "and 480 more");
}

/// A line with something that looks like a secret, and the part that no error may repeat. Put together at run time,
/// so that nobody's scanner takes this file for a leak.
fn secrets() -> Vec<(String, String)> {
    let key = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    let session = format!("ASIA{}", "IOSFODNN7EXAMPLE");
    let secret = format!("wJalrXUtnFEMI/K7MDENG/{}", "bPxRfiCYEXAMPLEKEY");
    let github = format!("ghp_{}", "0123456789abcdefABCDEF");
    let slack = format!("xoxb-{}", "123456789012-abcdef");
    let hook = format!("T000/B000/{}", "marked0marked0marked0");
    let jwt = format!("eyJhbGciOi.eyJzdWIiOi.{}", "marked0signature");
    let words = [
        (format!("regions: {{ us-east-1: {{ profile: {key} }} }}"), key.clone()),
        (format!("# {session}"), session),
        (format!("x: [{{ y: \"{secret}\" }}]"), secret.clone()),
        (format!("aws_secret_access_key={secret}"), secret),
        (format!("{github}: 1"), github.clone()),
        (format!("application: {github}"), github),
        (format!("notify: [{{ command: [curl, -H, \"Authorization: Bearer {slack}\"] }}]"), slack),
        (format!("notify: [{{ webhook: https://hooks.slack.com/services/{hook} }}]"), hook),
        (format!("x: {jwt}"), jwt),
        ("x: https://me:marked0marked0@db.example.com/".into(), "marked0".into()),
        ("x: |\n  -----BEGIN RSA PRIVATE KEY-----\n  marked0".into(), "marked0".into()),
        ("db_password: marked0".into(), "marked0".into()),
        ("x: { apiKey: marked0 }".into(), "marked0".into()),
        ("auth-token: marked0".into(), "marked0".into()),
        ("client_secret: marked0".into(), "marked0".into()),
    ];
    words.into()
}

#[test]
fn secrets_are_refused_and_never_repeated() {
    for (line, secret) in secrets() {
        let header = "version: 1\napplication: maip\nprimary: us-east-1\nstandby: us-west-2\n";
        let header = if line.starts_with("application") {
            header.replace("application: maip\n", "")
        } else {
            header.into()
        };
        let error = refused(&format!("{header}{line}\n"));
        let told = format!("{error}\n{}\n{:?}", error.one_line(), error);
        assert!(!told.contains(&secret), "{line}: {told}");
        assert!(error.message.contains("secret"), "{line}: {told}");
        assert!(error.hint.is_some_and(|hint| hint.contains("environment")), "{line}");
        // Nor where the file cannot even be read.
        let broken = refused(&format!("{header}{line}\n  }}: [\n"));
        assert!(!format!("{broken:?}").contains(&secret), "{line}: {broken:?}");
    }
}

#[test]
fn secrets_in_data_are_refused_by_path() {
    let token = format!("ghp_{}", "0123456789abcdefABCDEF");
    let error = parse_json(json!({ "version": 1, "notify": [{ "command": ["curl", token] }] })).unwrap_err();
    assert!(
        error.message.starts_with("topology.notify[0].command[1]: this looks like a GitHub token"),
        "{error}"
    );
    assert!(!format!("{error:?}").contains(&token));
    let error = parse_json(json!({ "databases": { "postgres": { "password": "marked0" } } })).unwrap_err();
    assert!(error.message.starts_with("topology.databases.postgres.password: the key `password`"), "{error}");
    assert!(!format!("{error:?}").contains("marked0"));
}

#[test]
fn names_that_only_sound_like_secrets_are_fine() {
    let text = edited("deployments: {}", "deployments: { token-service: 3, secret-store: keep }");
    parse(&text, FILE).unwrap();
    parse(&edited("notify: []", "notify: [{ webhook: \"env:SLACK_WEBHOOK\" }]"), FILE).unwrap();
    parse(&edited("notify: []", "notify: [{ webhook: \"https://chat.example.com/hook\" }]"), FILE).unwrap();
}

#[test]
fn a_webhooks_path_stays_out_of_errors() {
    let error = refused(&edited("notify: []", "notify: [{ webhook: \"http://chat.example.com/marked0\" }]"));
    assert!(
        error.message.contains("`chat.example.com`") && !format!("{error:?}").contains("marked0"),
        "{error:?}"
    );
    let error = refused(&edited("notify: []", "notify: [{ webhook: \"chat.example.com/marked0\" }]"));
    assert!(!format!("{error:?}").contains("marked0"), "{error:?}");
}

#[test]
fn hostile_files_are_refused_soon() {
    let deep = format!("a: {}1{}", "[".repeat(200), "]".repeat(200));
    let block: String = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let items = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{items}]\n"));
    }
    let large = format!("# {}\n{EXAMPLE}", "x".repeat(1024 * 1024));
    for (text, word) in
        [(&deep, "nested"), (&block, "nested"), (&bomb, "aliases"), (&large, "larger than 1 MiB")]
    {
        let error = refused(text);
        assert!(error.message.contains(word), "{error}");
        assert!(error.message.starts_with("maip-dr.yaml:") && error.hint.is_some(), "{error}");
    }
    let mut data = json!(1);
    for _ in 0..100 {
        data = json!([data]);
    }
    assert!(parse_json(data).unwrap_err().message.contains("nested too deeply"));
}

#[test]
fn files_with_nothing_in_them_are_told_so() {
    for (text, word) in [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("---\n", "empty"),
        ("- a\n", "a map of keys"),
        ("hello", "a map of keys"),
    ] {
        let error = refused(text);
        assert!(
            error.message.starts_with("maip-dr.yaml:") && error.message.contains(word),
            "{text}: {error}"
        );
    }
    assert!(refused(&format!("{EXAMPLE}---\nversion: 1\n")).message.contains("second document"));
}

#[test]
fn a_slip_that_two_lists_of_a_file_share_is_found_in_data_by_its_path() {
    let mut data = serde_json::to_value(parse(EXAMPLE, FILE).unwrap()).unwrap();
    data["databases"]["postgres"]["backup_retention_days"] = json!(0);
    data["failback"]["shift"] = json!([10, 5, 100]);
    data["traffic"]["api"]["zonee"] = json!("x");
    let error = parse_json(data).unwrap_err();
    assert!(
        error.message.starts_with("topology.databases.postgres.backup_retention_days: this must be"),
        "{error}"
    );
    assert!(error.causes[0].starts_with("topology.traffic.api.zonee: unknown key `zonee`"), "{error}");
    assert_eq!(error.context["path"], "databases.postgres.backup_retention_days");
    assert!(!error.context.contains_key("line"));
}

#[test]
fn what_a_topology_serialises_to_is_read_back() {
    let more = edited("deployments: {}", "deployments: { api: 12, scheduler: keep }, stateful_sets: { db: 2 }")
        .replace("notify: []", "notify: [{ webhook: \"env:HOOK\" }, { command: [true-ish, x] }]\njournal: { file: runs }\ntimeouts: { db.promote: 90s }\napprovals: ~\n")
        .replace("standby: us-west-2", "standby: [us-west-2]");
    for text in [EXAMPLE, &more] {
        let topology: Topology = parse(text, FILE).unwrap();
        let data = serde_json::to_value(&topology).unwrap();
        assert_eq!(parse_json(data.clone()).unwrap(), topology);
        assert_eq!(parse(&data.to_string(), FILE).unwrap(), topology);
    }
}

#[test]
fn other_ways_to_write_it_are_accepted() {
    let kubeconfig = "us-east-1: { kubeconfig: /home/me/.kube/config, context: east }";
    let ways = [
        ("us-east-1: { eks: maip-prod-eks-cluster, node_groups: {} }", kubeconfig),
        (
            "us-east-1: { eks: maip-prod-eks-cluster, node_groups: {} }",
            "us-east-1: { eks: e, kubeconfig: k, context: c, node_groups: ~ }",
        ),
        ("notify: []", "notify:\njournal:\ntimeouts:\napprovals:"),
        ("zone: maip.example.com ", "zone_id: Z0123456789ABC "),
        ("zone: maip.example.com ", "zone: Maip.Example.COM. "),
        ("record: api.maip.example.com", "record: API.maip.example.com."),
        ("\"https://api.maip.example.com/actuator/health\"", "http://api.maip.example.com:8080/"),
        (
            "types: [A]",
            "types: [A, AAAA]\n    resolvers: [\"127.0.0.1:5353\", \"[::1]:53\", \"dns.example.com:53\"]",
        ),
        ("# in any", "\n  # in any"),
        (
            "us-east-1: { profile: maip-prod, account: \"123456789012\" }",
            "us-east-1: { account: \"123456789012\", role_arn: \"arn:aws:iam::123456789012:role/ops/dr\" }",
        ),
        (
            "us-east-1: { profile: maip-prod, account: \"123456789012\" }",
            "us-east-1: { endpoint_url: \"http://127.0.0.5:4566\" }",
        ),
        (
            "us-east-1: { profile: maip-prod, account: \"123456789012\" }",
            "us-east-1: { endpoint_url: \"http://[::1]:4566/\" }",
        ),
        (
            "us-east-1: { profile: maip-prod, account: \"123456789012\" }",
            "us-east-1: { endpoint_url: \"https://vpce.example.com\" }",
        ),
        (
            "load_balancer: maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com, hosted_zone_id: Z35SXDOTRQ7X7K",
            "load_balancer: n-1.elb.us-east-1.amazonaws.com, hosted_zone_id: Z26RNL4JYFTOTI",
        ),
        (
            "load_balancer: maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com, hosted_zone_id: Z35SXDOTRQ7X7K",
            "load_balancer: dualstack.n-1.us-east-1.elb.amazonaws.com., hosted_zone_id: Z35SXDOTRQ7X7K",
        ),
        (
            "load_balancer: maip-prod-alb-1111111111.us-east-1.elb.amazonaws.com, hosted_zone_id: Z35SXDOTRQ7X7K",
            "load_balancer: lb.example.com, hosted_zone_id: Z0ANY",
        ),
    ];
    for (from, to) in ways {
        if let Err(error) = parse(&edited(from, to), FILE) {
            panic!("{to}: {error}");
        }
    }
}

/// The topology that a lab of local servers writes.
#[test]
fn a_topology_of_local_servers_is_accepted() {
    let region =
        |n: u8| json!({ "account": "123456789012", "endpoint_url": format!("http://127.0.0.{n}:4566") });
    let cluster = |c: &str| json!({ "eks": c, "node_groups": {}, "kubeconfig": "/tmp/k", "context": c });
    let balancer = |region: &str, zone: &str, n: u8| {
        json!({ "load_balancer": format!("alb-{n}.{region}.elb.amazonaws.com"), "hosted_zone_id": zone,
                "connect": format!("127.0.0.{n}:8080") })
    };
    let data = json!({
        "version": 1, "application": "maip", "primary": "us-east-1", "standby": "us-west-2",
        "regions": { "us-east-1": region(5), "us-west-2": region(6) },
        "clusters": { "services": { "regions": { "us-east-1": cluster("east"), "us-west-2": cluster("west") } } },
        "traffic": { "api": {
            "zone": "maip.example.com", "record": "api.maip.example.com", "types": ["A"], "method": "weighted",
            "regions": { "us-east-1": balancer("us-east-1", "Z35SXDOTRQ7X7K", 2),
                         "us-west-2": balancer("us-west-2", "Z1H1FL5HABSF5", 3) },
            "health": { "url": "http://api.maip.example.com:8080/actuator/health", "status": 200 },
            "resolvers": ["127.0.0.1:5353"] } },
    });
    parse(&data.to_string(), FILE).unwrap();
    parse_json(data).unwrap();
}

/// The schema that `schema` points at or is.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#'));
    pointer.and_then(|p| root.pointer(p)).unwrap_or(schema)
}

/// Holds every key of `value` against `schema`.
fn fits(root: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = resolved(root, schema);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let property = schema["properties"].get(key).or_else(|| schema.get("additionalProperties"));
                let property = property.filter(|p| p.is_object());
                let property = property.unwrap_or_else(|| panic!("{path}.{key} is not in the schema"));
                fits(root, property, value, &format!("{path}.{key}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fits(root, &schema["items"], item, path)),
        _ => {}
    }
}

#[test]
fn the_schema_describes_the_example() {
    let schema = json_schema();
    let example: Value = serde_saphyr::from_str(EXAMPLE).unwrap();
    fits(&schema, &schema, &example, "topology");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let pattern = schema["$defs"]["Duration"]["pattern"].as_str().unwrap();
    assert_eq!(schema["$defs"]["Duration"]["type"], "string");
    assert!(pattern.starts_with('^') && !schema.to_string().contains("x-duration"));
}

#[test]
fn the_schemas_keys_are_the_types_own_and_each_is_described() {
    let schema = json_schema();
    let topology = serde_json::to_value(parse(EXAMPLE, FILE).unwrap()).unwrap();
    let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&schema["properties"]), keys(&topology));
    let samples = [
        ("Objectives", "/objectives"),
        ("RegionAccess", "/regions/us-east-1"),
        ("Database", "/databases/postgres"),
        ("DatabaseIn", "/databases/postgres/regions/us-east-1"),
        ("Cluster", "/clusters/services"),
        ("ClusterIn", "/clusters/services/regions/us-west-2"),
        ("Scaling", "/clusters/services/regions/us-west-2/node_groups/maip-prod-dr-nodegroup"),
        ("NamespaceWorkloads", "/clusters/services/workloads/maip-services"),
        ("StreamResource", "/streams/kafka"),
        ("StreamIn", "/streams/kafka/regions/us-east-1"),
        ("TableResource", "/tables/merchant-analytics"),
        ("Traffic", "/traffic/api"),
        ("TrafficIn", "/traffic/api/regions/us-east-1"),
        ("Health", "/traffic/api/health"),
        ("Failback", "/failback"),
        ("JournalPlace", "/journal"),
    ];
    for (name, pointer) in samples {
        let definition = &schema["$defs"][name];
        assert_eq!(keys(&definition["properties"]), keys(topology.pointer(pointer).unwrap()), "{name}");
    }
    let all = std::iter::once(&schema).chain(schema["$defs"].as_object().unwrap().values());
    for object in all.filter(|d| d["properties"].is_object()) {
        assert_eq!(object["additionalProperties"], false, "{object}");
        for (key, property) in object["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{key} has no description");
        }
    }
}

/// What a mutation does to the example.
fn mutated(kind: u8, at: usize, length: usize, bytes: &[u8]) -> String {
    let mut text = EXAMPLE.as_bytes().to_vec();
    let start = at % text.len();
    let end = (start + length).min(text.len());
    match kind {
        0 => drop(text.drain(start..end)),
        1 => drop(text.splice(start..end, bytes.iter().copied())),
        2 => drop(text.splice(start..start, text[start..end].to_vec())),
        _ => {
            let mut lines: Vec<&str> = EXAMPLE.lines().collect();
            let line = at % lines.len();
            match kind {
                3 => drop(lines.remove(line)),
                4 => lines.insert(line, lines[line]),
                _ => lines.swap(line, (at + length) % EXAMPLE.lines().count()),
            }
            text = lines.join("\n").into_bytes();
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_a_file_it_is_read_or_refused_with_words(
        kind in 0u8..6,
        at in any::<usize>(),
        length in 0usize..120,
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]:,-&*!|>'\"%#~ \n\t".to_vec())], 0..12),
    ) {
        match parse(&mutated(kind, at, length, &bytes), FILE) {
            Ok(topology) => {
                let data = serde_json::to_value(&topology).unwrap();
                prop_assert_eq!(parse_json(data).unwrap(), topology);
            }
            Err(error) => {
                prop_assert_eq!(error.kind, ErrorKind::Invalid);
                prop_assert!(error.message.starts_with("maip-dr.yaml:"), "{}", error);
                prop_assert!(error.message.len() > 20 && error.hint.is_some(), "{}", error);
            }
        }
    }
}

/// The documentation names every key of the schema.
#[test]
fn the_reference_has_every_key() {
    let reference = include_str!("../../docs/topology-file.md");
    let schema = json_schema();
    // What an approval is made of can wait until approvals are supported.
    let types = schema["$defs"].as_object().unwrap().iter().filter(|(name, _)| *name != "Approvals");
    let all = std::iter::once(&schema).chain(types.map(|(_, definition)| definition));
    for (key, _) in all.filter_map(|d| d["properties"].as_object()).flatten() {
        let named = [format!("`{key}`"), format!(".{key}`"), format!("`{key}."), format!("{key}:")];
        assert!(named.iter().any(|n| reference.contains(n)), "{key} is not in docs/topology-file.md");
    }
}

/// The example that the documentation shows is what is said.
#[test]
fn the_reference_shows_what_is_said() {
    let text = edited("backup_retention_days: 7", "backup_retention_days: 0")
        .replace("Z1H1FL5HABSF5", "Z35SXDOTRQ7X7K");
    let error = refused(&text);
    let reference = include_str!("../../docs/topology-file.md");
    assert!(reference.contains(&error.message), "{error}");
    assert!(reference.contains(&error.causes[0]), "{error}");
}
