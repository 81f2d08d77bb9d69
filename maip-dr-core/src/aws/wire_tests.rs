//! What the adapters send and what they make of the answers, over a scripted connection.

use crate::aws::config::Reach;
use crate::aws::scripted::{Reply, Script, ok};
use crate::aws::{dynamodb, eks, msk, rds, route53, sts};
use crate::error::ErrorKind;
use crate::id::RegionId;
use crate::service::{
    AliasTarget, ChangeAction, ChangeStatus, DatabaseService, DnsService, IdentityService, NodeGroupService,
    RecordChange, RecordSet, RecordType, Routing, Scaling, StreamService, TableService, UpdateStatus,
};

fn over<T>(script: &Script, make: impl Fn(&Reach) -> T) -> T {
    make(&Reach::scripted(script.clone()))
}

fn rds_error(code: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>said so</Message></Error></ErrorResponse>"
    )
}

const REPLICA: &str = "<DescribeDBInstancesResponse><DescribeDBInstancesResult><DBInstances><DBInstance>
    <DBInstanceIdentifier>replica</DBInstanceIdentifier><DbiResourceId>db-R</DbiResourceId>
    <DBInstanceArn>arn:aws:rds:us-west-2:123456789012:db:replica</DBInstanceArn><Engine>postgres</Engine>
    <DBInstanceStatus>available</DBInstanceStatus><DBInstanceClass>db.r6g.xlarge</DBInstanceClass>
    <BackupRetentionPeriod>0</BackupRetentionPeriod><MultiAZ>true</MultiAZ>
    <ReadReplicaSourceDBInstanceIdentifier>arn:aws:rds:us-east-1:123456789012:db:primary</ReadReplicaSourceDBInstanceIdentifier>
    <StatusInfos><DBInstanceStatusInfo><StatusType>read replication</StatusType><Normal>true</Normal><Status>replicating</Status></DBInstanceStatusInfo></StatusInfos>
    <PendingModifiedValues><MasterUserPassword>hunter2</MasterUserPassword><EngineVersion>15.7</EngineVersion></PendingModifiedValues>
    <Endpoint><Address>replica.abc.us-west-2.rds.amazonaws.com</Address><Port>5432</Port></Endpoint>
  </DBInstance></DBInstances></DescribeDBInstancesResult></DescribeDBInstancesResponse>";

#[tokio::test]
async fn a_replica_is_read_with_its_source_and_its_replication() {
    let script = Script::of([ok(REPLICA)]);
    let seen = over(&script, rds::Rds::new).describe("replica").await.unwrap();
    assert_eq!(seen.replica_source.as_deref(), Some("arn:aws:rds:us-east-1:123456789012:db:primary"));
    assert_eq!(seen.replication.as_deref(), Some("replicating"));
    assert_eq!((seen.status.as_str(), seen.backup_retention_days, seen.multi_az), ("available", 0, true));
    assert_eq!(seen.pending_changes, ["password=***", "engine_version=15.7"], "no password is repeated");
    assert!(!seen.looks_writable());
    assert!(script.asked()[0].contains("Action=DescribeDBInstances"), "{:?}", script.asked());
    assert!(script.asked()[0].contains("DBInstanceIdentifier=replica"));
}

#[tokio::test]
async fn promote_and_rename_say_what_they_must() {
    let script = Script::of([
        ok("<PromoteReadReplicaResponse><PromoteReadReplicaResult/></PromoteReadReplicaResponse>"),
        ok("<ModifyDBInstanceResponse><ModifyDBInstanceResult/></ModifyDBInstanceResponse>"),
    ]);
    let service = over(&script, rds::Rds::new);
    service.promote("replica", 7).await.unwrap();
    service.rename("primary", "primary-fenced").await.unwrap();
    let asked = script.asked();
    for part in ["Action=PromoteReadReplica", "DBInstanceIdentifier=replica", "BackupRetentionPeriod=7"] {
        assert!(asked[0].contains(part), "{asked:?}");
    }
    for part in ["Action=ModifyDBInstance", "NewDBInstanceIdentifier=primary-fenced", "ApplyImmediately=true"]
    {
        assert!(asked[1].contains(part), "{asked:?}");
    }
}

#[tokio::test]
async fn a_mutating_call_is_sent_once_and_its_lost_answer_is_a_doubt() {
    let html = "<html><body>502 Bad Gateway</body></html>";
    for (reply, kind) in [
        (Reply::Reset, ErrorKind::InDoubt),
        (Reply::Silence, ErrorKind::InDoubt),
        (Reply::Unreachable, ErrorKind::Unavailable),
        (Reply::Answer(502, html.into()), ErrorKind::InDoubt),
        (Reply::Answer(400, rds_error("Throttling")), ErrorKind::Throttled),
        (Reply::Answer(400, rds_error("InvalidDBInstanceState")), ErrorKind::Conflict),
        (Reply::Answer(404, rds_error("DBInstanceNotFound")), ErrorKind::NotFound),
        (Reply::Answer(403, rds_error("AccessDenied")), ErrorKind::Denied),
    ] {
        let script = Script::of([reply.clone()]);
        let error = over(&script, rds::Rds::new).promote("replica", 7).await.unwrap_err();
        assert_eq!(error.kind, kind, "{reply:?}: {error}");
        assert_eq!(script.asked().len(), 1, "sent once");
        assert_eq!(error.context["api"], "rds:PromoteReadReplica");
        assert_eq!(error.context["region"], "us-west-2");
    }
}

#[tokio::test]
async fn a_read_without_a_usable_answer_is_unavailable() {
    for reply in [
        Reply::Reset,
        Reply::Silence,
        Reply::Unreachable,
        Reply::Answer(500, String::new()),
        ok("<html>Welcome to the airport</html>"),
    ] {
        let script = Script::of([reply.clone()]);
        match over(&script, rds::Rds::new).describe("replica").await {
            Err(e) => {
                assert!(matches!(e.kind, ErrorKind::Unavailable | ErrorKind::NotFound), "{reply:?} gives {e}")
            }
            Ok(found) => panic!("{reply:?} passes for {found:?}"),
        }
    }
}

fn alias(weight: Option<u8>) -> RecordSet {
    RecordSet {
        name: "api.maip.example.com".into(),
        record_type: RecordType::A,
        set_identifier: weight.map(|_| "us-west-2".into()),
        routing: weight.map_or(Routing::Simple, |weight| Routing::Weighted { weight }),
        ttl_s: None,
        values: Vec::new(),
        alias: Some(AliasTarget {
            dns_name: "dr-alb.us-west-2.elb.amazonaws.com".into(),
            hosted_zone_id: "Z1H1FL5HABSF5".into(),
            evaluate_target_health: true,
        }),
        health_check_id: None,
    }
}

#[tokio::test]
async fn a_zone_is_found_by_its_exact_name() {
    let zone = |id: &str, name: &str, private: bool| {
        format!(
            "<HostedZone><Id>/hostedzone/{id}</Id><Name>{name}</Name><CallerReference>r</CallerReference><Config><PrivateZone>{private}</PrivateZone></Config></HostedZone>"
        )
    };
    let page = |zones: String, more: bool| {
        let next = if more {
            "<NextDNSName>maip.example.com.</NextDNSName><NextHostedZoneId>Z2</NextHostedZoneId>"
        } else {
            ""
        };
        ok(&format!(
            "<ListHostedZonesByNameResponse><HostedZones>{zones}</HostedZones><IsTruncated>{more}</IsTruncated>{next}<MaxItems>100</MaxItems></ListHostedZonesByNameResponse>"
        ))
    };
    let script = Script::of([
        page(zone("Z1", "maip.example.com.", false), true),
        page(zone("Z2", "maip.example.com.", true) + &zone("Z3", "maip.example.net.", false), true),
    ]);
    let found = over(&script, route53::Route53::new).zones("Maip.Example.com.").await.unwrap();
    let found: Vec<_> = found.iter().map(|z| (z.id.as_str(), z.private)).collect();
    assert_eq!(found, [("Z1", false), ("Z2", true)]);
    assert!(script.asked()[1].contains("hostedzoneid=Z2"), "{:?}", script.asked());
}

#[tokio::test]
async fn record_sets_are_read_for_what_they_are() {
    let script = Script::of([ok("<ListResourceRecordSetsResponse><ResourceRecordSets>
        <ResourceRecordSet><Name>api.maip.example.com.</Name><Type>A</Type><SetIdentifier>us-west-2</SetIdentifier><Weight>0</Weight>
          <AliasTarget><HostedZoneId>Z1H1FL5HABSF5</HostedZoneId><DNSName>dr-alb.us-west-2.elb.amazonaws.com.</DNSName><EvaluateTargetHealth>true</EvaluateTargetHealth></AliasTarget></ResourceRecordSet>
        <ResourceRecordSet><Name>api.maip.example.com.</Name><Type>AAAA</Type><SetIdentifier>p</SetIdentifier><Failover>PRIMARY</Failover><TTL>60</TTL>
          <ResourceRecords><ResourceRecord><Value>::1</Value></ResourceRecord></ResourceRecords><HealthCheckId>h-1</HealthCheckId></ResourceRecordSet>
        <ResourceRecordSet><Name>api.maip.example.com.</Name><Type>A</Type><SetIdentifier>l</SetIdentifier><Region>us-east-1</Region></ResourceRecordSet>
        <ResourceRecordSet><Name>api.maip.example.com.</Name><Type>TXT</Type><TTL>60</TTL></ResourceRecordSet>
        <ResourceRecordSet><Name>\\052.maip.example.com.</Name><Type>A</Type><TTL>60</TTL></ResourceRecordSet>
      </ResourceRecordSets><IsTruncated>true</IsTruncated><MaxItems>100</MaxItems></ListResourceRecordSetsResponse>")]);
    let found = over(&script, route53::Route53::new).records("Z1", "api.maip.example.com").await.unwrap();
    assert_eq!(found.len(), 3, "neither TXT nor another name: {found:?}");
    assert_eq!(found[0], alias(Some(0)));
    assert_eq!(found[1].routing, Routing::Failover { primary: true });
    assert_eq!((found[1].ttl_s, found[1].health_check_id.as_deref()), (Some(60), Some("h-1")));
    assert_eq!(found[2].routing, Routing::Other { name: "latency".into() });
    assert_eq!(script.asked().len(), 1, "the next name is past ours: no second page is asked for");
}

#[tokio::test]
async fn a_change_goes_out_as_one_batch_and_a_refusal_keeps_its_reasons() {
    let script = Script::of([
        ok("<ChangeResourceRecordSetsResponse><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-11-23T03:00:00Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>"),
        Reply::Answer(400, "<?xml version=\"1.0\"?><InvalidChangeBatch xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Messages><Message>first reason</Message><Message>second reason</Message></Messages><RequestId>r</RequestId></InvalidChangeBatch>".into()),
        Reply::Answer(400, rds_error("PriorRequestNotComplete")),
        ok("<GetChangeResponse><ChangeInfo><Id>/change/C1</Id><Status>INSYNC</Status><SubmittedAt>2026-11-23T03:00:00Z</SubmittedAt></ChangeInfo></GetChangeResponse>"),
    ]);
    let service = over(&script, route53::Route53::new);
    let changes = [RecordChange { action: ChangeAction::Upsert, record: alias(Some(100)) }];
    assert_eq!(service.change("Z1", "run 1", &changes).await.unwrap(), "C1");
    let sent = &script.asked()[0];
    for part in [
        "POST /2013-04-01/hostedzone/Z1/rrset",
        "<Comment>run 1</Comment>",
        "<Action>UPSERT</Action>",
        "<Weight>100</Weight>",
        "<SetIdentifier>us-west-2</SetIdentifier>",
        "<HostedZoneId>Z1H1FL5HABSF5</HostedZoneId>",
        "<EvaluateTargetHealth>true</EvaluateTargetHealth>",
    ] {
        assert!(sent.contains(part), "no {part} in {sent}");
    }
    assert!(!sent.contains("<TTL>"), "an alias has no TTL");
    let refused = service.change("Z1", "run 1", &changes).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
    assert!(
        refused.message.contains("first reason") && refused.message.contains("second reason"),
        "{refused}"
    );
    assert_eq!(service.change("Z1", "run 1", &changes).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(service.change_status("C1").await.unwrap(), ChangeStatus::InSync);
}

#[tokio::test]
async fn node_groups_are_read_and_scaled() {
    let script = Script::of([
        ok(
            r#"{"nodegroup":{"nodegroupName":"g","status":"DEGRADED","scalingConfig":{"minSize":1,"maxSize":20,"desiredSize":2},"health":{"issues":[{"code":"AsgInstanceLaunchFailures","message":"no capacity"}]}}}"#,
        ),
        ok(r#"{"update":{"id":"u-1","status":"InProgress"}}"#),
        ok(
            r#"{"update":{"id":"u-1","status":"Failed","errors":[{"errorCode":"NodeCreationFailure","errorMessage":"why"}]}}"#,
        ),
        Reply::Answer(409, r#"{"__type":"ResourceInUseException","message":"another update"}"#.into()),
        ok(
            r#"{"cluster":{"name":"dr","status":"ACTIVE","endpoint":"https://x","certificateAuthority":{"data":"UEVN"}}}"#,
        ),
    ]);
    let service = over(&script, eks::Eks::new);
    let group = service.describe("dr", "g").await.unwrap();
    assert_eq!(group.scaling, Scaling { min: 1, desired: 2, max: 20 });
    assert_eq!(group.issues, ["AsgInstanceLaunchFailures: no capacity"]);
    let wanted = Scaling { min: 4, desired: 8, max: 20 };
    assert_eq!(service.scale("dr", "g", wanted, "token-1").await.unwrap(), "u-1");
    let sent = &script.asked()[1];
    for part in
        [r#""clientRequestToken":"token-1""#, r#""desiredSize":8"#, r#""minSize":4"#, r#""maxSize":20"#]
    {
        assert!(sent.contains(part), "no {part} in {sent}");
    }
    let status = service.update_status("dr", "g", "u-1").await.unwrap();
    assert_eq!(status, UpdateStatus::Failed("NodeCreationFailure: why".into()));
    assert_eq!(service.scale("dr", "g", wanted, "t").await.unwrap_err().kind, ErrorKind::Conflict);
    let cluster = service.cluster("dr").await.unwrap();
    assert_eq!(cluster.certificate_authority.as_deref(), Some("PEM"));
}

#[tokio::test]
async fn a_stream_is_found_by_its_exact_name_on_any_page() {
    let list = |name: &str, next: &str| {
        ok(&format!(
            r#"{{"clusterInfoList":[{{"clusterArn":"arn:{name}","clusterName":"{name}","state":"ACTIVE"}}]{next}}}"#
        ))
    };
    let script =
        Script::of([list("kafka-old", r#","nextToken":"n""#), list("kafka", ""), list("kafka-old", "")]);
    let service = over(&script, msk::Msk::new);
    assert_eq!(service.describe("kafka").await.unwrap().arn, "arn:kafka");
    assert_eq!(service.describe("kafka").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_table_names_its_other_replicas() {
    let script = Script::of([ok(
        r#"{"Table":{"TableStatus":"ACTIVE","Replicas":[{"RegionName":"us-west-2","ReplicaStatus":"ACTIVE"},{"RegionName":"us-east-1","ReplicaStatus":"REGION_DISABLED"},{"RegionName":"eu-west-1"}]}}"#,
    )]);
    let table = over(&script, dynamodb::DynamoDb::new).describe("t").await.unwrap();
    assert_eq!(table.status, "ACTIVE");
    let other = |id: &str, status: &str| (RegionId::from(id), status.to_owned());
    assert_eq!(table.replicas, [other("us-east-1", "REGION_DISABLED"), other("eu-west-1", "UNKNOWN")]);
}

#[tokio::test]
async fn the_caller_is_told_and_a_bad_key_is_denied() {
    let script = Script::of([
        ok(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/a</Arn><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
        ),
        Reply::Answer(403, rds_error("InvalidClientTokenId")),
    ]);
    let service = over(&script, sts::Sts::new);
    assert_eq!(service.caller().await.unwrap().account, "123456789012");
    let error = service.caller().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.hint.is_some());
}
