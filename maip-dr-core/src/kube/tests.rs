//! What the backend sends and what it makes of the answers, over a small HTTP server.

use std::sync::{Arc, Mutex};

use ::kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::ErrorKind;
use crate::kube::KubeWorkloads;
use crate::service::{Autoscaler, Scope, WorkloadKind, WorkloadService};

const NS: &str = "maip";

/// What the server answers: a status and a body; `None` closes the connection without an answer.
type Answers = dyn Fn(&str, &str) -> Option<(u16, Value)> + Send + Sync;

/// A Kubernetes API of as much as a test needs.
struct Server {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    service: KubeWorkloads,
}

impl Server {
    /// `answers` is given `METHOD PATH` without the query, and the query.
    async fn with(answers: impl Fn(&str, &str) -> Option<(u16, Value)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answers): (_, Arc<Answers>) = (asked.clone(), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, log.clone(), answers.clone()));
            }
        });
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        Self { asked, service: KubeWorkloads::over(client) }
    }

    /// The bodies of the requests that begin so.
    fn bodies(&self, begin: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(line, _)| line.starts_with(begin)).map(|(_, body)| body.clone()).collect()
    }
}

async fn serve(mut stream: TcpStream, log: Arc<Mutex<Vec<(String, Value)>>>, answers: Arc<Answers>) {
    let mut seen = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while seen.len() < end + length {
            stream.read_buf(&mut seen).await.unwrap();
        }
        let line = String::from_utf8_lossy(&seen).lines().next().unwrap().to_owned();
        let body = serde_json::from_slice(&seen[end..end + length]).unwrap_or(Value::Null);
        seen.drain(..end + length);
        let target = line.rsplit_once(' ').unwrap().0.to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        log.lock().unwrap().push((target.clone(), body));
        let Some((status, body)) = answers(path, query) else { return };
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code });
    (code, status)
}

fn list(items: Value) -> (u16, Value) {
    (
        200,
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": items }),
    )
}

fn deployment(replicas: u32, change: impl Fn(&mut Value)) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "api", "namespace": NS, "generation": 3, "resourceVersion": "41", "annotations": {} },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": "api" } },
            "strategy": { "type": "RollingUpdate" },
            "template": { "metadata": { "labels": { "app": "api" }, "annotations": {} }, "spec": { "containers": [] } } },
        "status": { "observedGeneration": 3, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas },
    });
    change(&mut object);
    object
}

fn autoscaler(min: u32, max: u32) -> Value {
    json!({ "metadata": { "name": "api-hpa", "resourceVersion": "17" }, "spec": { "minReplicas": min, "maxReplicas": max,
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" } } })
}

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/maip/deployments/api";
const AUTOSCALERS: &str = "GET /apis/autoscaling/v2/namespaces/maip/horizontalpodautoscalers";

/// One Deployment and its autoscalers; every patch is accepted.
async fn one(object: Value, autoscalers: Value) -> Server {
    Server::with(move |asked, _| {
        Some(match asked {
            AUTOSCALERS => list(autoscalers.clone()),
            a if a.starts_with("GET /apis/apps/v1/namespaces/maip/deployments/") => (200, object.clone()),
            a if a.starts_with("PATCH") && a.ends_with("/scale") => {
                (200, json!({ "metadata": {}, "spec": {}, "status": { "replicas": 0 } }))
            }
            a if a.starts_with("PATCH") && a.contains("autoscaling") => (200, autoscaler(1, 1)),
            a if a.starts_with("PATCH") => (200, object.clone()),
            other => panic!("{other} is not expected"),
        })
    })
    .await
}

async fn raised(server: &Server, to: u32) -> crate::Result<()> {
    server.service.raise(NS, WorkloadKind::Deployment, "api", to).await
}

#[tokio::test]
async fn replicas_are_raised_on_the_version_that_was_seen_and_never_lowered() {
    let server = one(deployment(2, |_| ()), json!([])).await;
    raised(&server, 4).await.unwrap();
    let patch = server.bodies("PATCH");
    assert_eq!(patch, [json!({ "metadata": { "resourceVersion": "41" }, "spec": { "replicas": 4 } })]);
    raised(&server, 2).await.unwrap();
    raised(&server, 1).await.unwrap();
    assert_eq!(server.bodies("PATCH").len(), 1, "enough is left as it is");
}

#[tokio::test]
async fn where_an_autoscaler_owns_it_its_minimum_is_raised() {
    let server = one(deployment(2, |_| ()), json!([autoscaler(2, 3)])).await;
    raised(&server, 5).await.unwrap();
    let patches =
        server.bodies("PATCH /apis/autoscaling/v2/namespaces/maip/horizontalpodautoscalers/api-hpa");
    let patch =
        json!({ "metadata": { "resourceVersion": "17" }, "spec": { "minReplicas": 5, "maxReplicas": 5 } });
    assert_eq!(patches, [patch]);
    raised(&server, 2).await.unwrap();
    assert_eq!(server.bodies("PATCH").len(), 1);
    // At 0 replicas an autoscaler is switched off, whatever its minimum.
    let server = one(deployment(0, |_| ()), json!([autoscaler(5, 9)])).await;
    raised(&server, 5).await.unwrap();
    assert_eq!(server.bodies("PATCH")[0]["spec"], json!({ "replicas": 5 }));
}

#[tokio::test]
async fn what_is_to_be_kept_is_refused() {
    let kept = deployment(1, |d| d["metadata"]["annotations"]["maip-dr/scale"] = json!("keep"));
    let recreated = deployment(1, |d| d["spec"]["strategy"]["type"] = json!("Recreate"));
    for object in [kept, recreated] {
        let server = one(object, json!([])).await;
        assert_eq!(raised(&server, 4).await.unwrap_err().kind, ErrorKind::Refused);
        assert!(server.bodies("PATCH").is_empty());
    }
}

#[tokio::test]
async fn a_conflict_looks_again_and_a_lost_answer_is_a_doubt() {
    let patches = Arc::new(Mutex::new(0));
    let counted = patches.clone();
    let server = Server::with(move |asked, _| match asked {
        AUTOSCALERS => Some(list(json!([]))),
        a if a.starts_with("PATCH") => {
            let mut count = counted.lock().unwrap();
            *count += 1;
            match *count {
                1 => Some(failure(409, "Conflict")),
                2 => Some((200, json!({ "metadata": {}, "spec": {}, "status": { "replicas": 0 } }))),
                _ => None,
            }
        }
        _ => Some((200, deployment(2, |_| ()))),
    })
    .await;
    raised(&server, 4).await.unwrap();
    assert_eq!(*patches.lock().unwrap(), 2);
    let lost = raised(&server, 4).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::InDoubt, "{lost}");
}

#[tokio::test]
async fn a_restart_with_the_same_token_changes_nothing() {
    let server = one(deployment(2, |_| ()), json!([])).await;
    server.service.restart(NS, "api", "run-1").await.unwrap();
    let patch = &server.bodies(&format!("PATCH {DEPLOYMENT}"))[0];
    assert_eq!(patch["spec"]["template"]["metadata"]["annotations"]["maip-dr/restarted-by"], "run-1");
    let done = deployment(2, |d| {
        d["spec"]["template"]["metadata"]["annotations"]["maip-dr/restarted-by"] = json!("run-1");
    });
    let server = one(done, json!([])).await;
    server.service.restart(NS, "api", "run-1").await.unwrap();
    assert!(server.bodies("PATCH").is_empty());
}

#[tokio::test]
async fn workloads_and_nodes_are_read_for_what_they_are() {
    let server = Server::with(|asked, _| {
        Some(match asked {
            AUTOSCALERS => list(json!([autoscaler(2, 6)])),
            "GET /api/v1/namespaces/maip" => (200, json!({ "metadata": { "name": NS } })),
            "GET /apis/apps/v1/namespaces/maip/deployments" => list(json!([deployment(2, |d| {
                d["status"]["conditions"] = json!([{ "type": "Progressing", "status": "False",
                    "reason": "ProgressDeadlineExceeded", "message": "too long" }]);
            })])),
            "GET /api/v1/nodes" => {
                let node = |name: &str, ready: &str, spec: Value| json!({
                    "metadata": { "name": name, "labels": { "eks.amazonaws.com/nodegroup": "g", "topology.kubernetes.io/zone": "us-west-2a" } },
                    "spec": spec, "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
                list(json!([
                    node("good", "True", json!({})),
                    node("lost", "Unknown", json!({})),
                    node("cordoned", "True", json!({ "unschedulable": true })),
                    node("tainted", "True", json!({ "taints": [{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }] })),
                ]))
            }
            "GET /api/v1/namespaces/maip/pods" => list(json!([
                { "metadata": { "name": "api-1" }, "status": { "conditions": [{ "type": "PodScheduled", "status": "False",
                    "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Too many pods" }] } },
                { "metadata": { "name": "api-2" }, "status": { "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } }] } },
                { "metadata": { "name": "api-3" }, "status": { "containerStatuses": [{ "name": "c", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": { "waiting": { "reason": "ContainerCreating" } } }] } },
            ])),
            _ => failure(404, "NotFound"),
        })
    })
    .await;
    let listing = server.service.deployments(NS).await.unwrap();
    assert_eq!(listing.version, "7");
    let api = &listing.items[0];
    assert!(api.rolled_out());
    assert_eq!(api.autoscaler, Some(Autoscaler { name: "api-hpa".into(), min: 2, max: 6 }));
    assert_eq!(api.stuck.as_deref(), Some("ProgressDeadlineExceeded: too long"));
    let ready: Vec<bool> = server.service.nodes().await.unwrap().items.iter().map(|n| n.ready).collect();
    assert_eq!(ready, [true, false, false, false]);
    let problems = server.service.problems(NS).await.unwrap();
    let problems: Vec<_> = problems.iter().map(|p| (p.pod.as_str(), p.reason.as_str())).collect();
    assert_eq!(problems, [("api-1", "Unschedulable"), ("api-2", "ImagePullBackOff")]);
    let absent = server.service.deployments("other").await.unwrap_err();
    assert_eq!(absent.kind, ErrorKind::NotFound, "an absent namespace is not an empty one: {absent}");
}

#[tokio::test]
async fn a_watch_ends_with_the_first_change_or_with_a_mark_that_is_too_old() {
    let server = Server::with(|_, query| {
        Some(if query.contains("resourceVersion=7") {
            (200, json!({ "type": "MODIFIED", "object": deployment(2, |_| ()) }))
        } else {
            failure(410, "Expired")
        })
    })
    .await;
    let scope = Scope::Deployments(NS.into());
    server.service.changed(&scope, "7").await.unwrap();
    server.service.changed(&scope, "1").await.unwrap();
}

#[tokio::test]
async fn an_api_that_is_not_ready_or_not_there_is_unavailable() {
    let server = Server::with(|_, _| Some(failure(500, "not yet"))).await;
    assert_eq!(server.service.ready().await.unwrap_err().kind, ErrorKind::Unavailable);
    let server = Server::with(|_, _| Some(failure(403, "Forbidden"))).await;
    let denied = server.service.ready().await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::Denied);
    assert!(denied.hint.is_some());
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::try_from(Config::new(format!("http://{closed}").parse().unwrap())).unwrap();
    let gone = KubeWorkloads::over(client);
    assert_eq!(gone.ready().await.unwrap_err().kind, ErrorKind::Unavailable);
    // Nothing was sent, so nothing is in doubt.
    let refused = gone.raise(NS, WorkloadKind::Deployment, "api", 4).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
}
