//! Probes and notifications against servers of this test's own.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record};
use maip_dr_core::ErrorKind;
use maip_dr_core::net::{NetNotify, NetProbe};
use maip_dr_core::service::{HttpQuestion, Notice, NotifyService, ProbeService, RecordType};
use maip_dr_core::topology::{CommandTarget, NotifyTarget, WebhookTarget};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

/// Answers every request with `answer`, and hands on what it was asked.
async fn http_server(answer: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (asked, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 16 * 1024];
            let mut text = String::new();
            loop {
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                text.push_str(&String::from_utf8_lossy(&bytes[..length]));
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
                let wanted = text
                    .to_lowercase()
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok())
                    .unwrap_or(0);
                if length == 0 || body.is_some_and(|body| body >= wanted) {
                    break;
                }
            }
            let _ = asked.send(text);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (at, seen)
}

fn question(url: String, connect: Option<String>) -> HttpQuestion {
    HttpQuestion { url, connect, resolvers: Vec::new(), limit: Duration::from_secs(5) }
}

const OK: &str =
    "HTTP/1.1 200 OK\r\nx-maip-region: us-west-2\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[tokio::test]
async fn an_answer_is_told_with_its_status_address_and_region() {
    let (at, mut seen) = http_server(OK).await;
    let answer =
        NetProbe.http(&question(format!("http://127.0.0.1:{}/health?x=1", at.port()), None)).await.unwrap();
    assert_eq!((answer.status, answer.address.as_deref()), (200, Some("127.0.0.1")));
    assert_eq!(answer.region.as_deref(), Some("us-west-2"));
    assert!(seen.recv().await.unwrap().starts_with("GET /health?x=1 HTTP/1.1"));
}

#[tokio::test]
async fn asked_elsewhere_it_is_still_asked_for_the_public_name() {
    let (at, mut seen) = http_server(OK).await;
    let asked = question("http://api.maip.example.com/health".into(), Some(at.to_string()));
    assert_eq!(NetProbe.http(&asked).await.unwrap().status, 200);
    assert!(seen.recv().await.unwrap().to_lowercase().contains("host: api.maip.example.com\r\n"));
    let asked = question("http://api.maip.example.com:8080/health".into(), Some(at.to_string()));
    assert_eq!(NetProbe.http(&asked).await.unwrap().status, 200);
    assert!(seen.recv().await.unwrap().to_lowercase().contains("host: api.maip.example.com:8080\r\n"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_so_is_any_status() {
    for (answer, status) in [
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 302),
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", 503),
    ] {
        let (at, _seen) = http_server(answer).await;
        let answer = NetProbe.http(&question(format!("http://{at}/"), None)).await.unwrap();
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn no_answer_is_unavailable_and_says_how() {
    // Accepts, and never answers: the listener's queue takes the connection.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:hunter2@{}/health?token=hunter2", silent.local_addr().unwrap());
    let asked = HttpQuestion { limit: Duration::from_millis(100), ..question(url, None) };
    let error = NetProbe.http(&asked).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = NetProbe.http(&question(format!("http://{gone}/"), None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains("refused"), "{error}");
    let (plain, _seen) = http_server(OK).await;
    let error = NetProbe.http(&question(format!("https://{plain}/"), None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(10, 0, 0, last))))
}

fn alias(owner: &str, ttl: u32, to: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(to))))
}

/// A name server, over UDP and TCP on one port, that makes its answer of each question: first what goes before it
/// on the wire as noise, then the answer.
async fn name_server(
    answer: impl Fn(&str, &mut Message) + Send + Sync + Clone + 'static,
    noise: impl Fn(&Message) -> Vec<Vec<u8>> + Send + 'static,
) -> String {
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (tcp, udp);
        }
    };
    let at = tcp.local_addr().unwrap().to_string();
    let answered = move |bytes: &[u8], over_tcp: bool| {
        let mut message = Message::from_vec(bytes).unwrap().into_response();
        let asked = message.queries[0].name().to_string();
        answer(&asked, &mut message);
        if over_tcp {
            message.metadata.truncation = false;
        }
        message
    };
    let by_tcp = answered.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            let message = answered(&buffer[..length], false);
            for bytes in noise(&message) {
                udp.send_to(&bytes, peer).await.unwrap();
            }
            udp.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut buffer = vec![0; usize::from(length)];
            stream.read_exact(&mut buffer).await.unwrap();
            let bytes = by_tcp(&buffer, true).to_vec().unwrap();
            stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    at
}

fn quiet(_: &Message) -> Vec<Vec<u8>> {
    Vec::new()
}

async fn look_up(name: &str, server: String) -> maip_dr_core::Result<maip_dr_core::service::DnsAnswer> {
    NetProbe.dns(name, RecordType::A, Some(server)).await
}

#[tokio::test]
async fn addresses_come_sorted_with_the_least_time_to_live() {
    let server = name_server(
        |asked, message| {
            message.metadata.authoritative = true;
            message.add_answers([a(asked, 60, 9), a(asked, 20, 3)]);
        },
        quiet,
    )
    .await;
    let answer = look_up("api.maip.example.com", server).await.unwrap();
    let shown: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.3", "10.0.0.9"]);
    assert_eq!((answer.ttl_s, answer.authoritative), (20, true));
}

#[tokio::test]
async fn aliases_are_followed_within_an_answer_and_beyond_it() {
    let server = name_server(
        |asked, message| match asked {
            "api.example.com." => {
                message.add_answers([
                    alias(asked, 30, "one.example.com."),
                    alias("one.example.com.", 5, "two.example.com."),
                ]);
            }
            "two.example.com." => {
                message.add_answers([a(asked, 60, 1)]);
            }
            _ => {
                message.add_answers([alias(asked, 30, asked)]);
            }
        },
        quiet,
    )
    .await;
    let answer = look_up("api.example.com", server.clone()).await.unwrap();
    assert_eq!((answer.addresses.len(), answer.ttl_s), (1, 5));
    let circle = look_up("circle.example.com", server).await.unwrap_err();
    assert_eq!(circle.kind, ErrorKind::Unavailable, "{circle}");
}

#[tokio::test]
async fn no_such_name_is_an_answer_and_a_failure_is_none() {
    let server = name_server(
        |asked, message| {
            let failed = asked.starts_with("failed");
            message.metadata.response_code =
                if failed { ResponseCode::ServFail } else { ResponseCode::NXDomain };
        },
        quiet,
    )
    .await;
    assert!(look_up("nobody.example.com", server.clone()).await.unwrap().addresses.is_empty());
    let error = look_up("failed.example.com", server.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.to_string().contains(&server), "{error}");
    assert_eq!(look_up("bad..name", server).await.unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn noise_and_forged_answers_are_passed_over() {
    let server = name_server(
        |asked, message| {
            message.add_answers([a(asked, 60, 1)]);
        },
        |real| {
            let mut forged = real.clone();
            forged.metadata.id = forged.metadata.id.wrapping_add(1);
            forged.answers = vec![a("api.example.com.", 60, 66)];
            let mut other = real.clone();
            other.queries.clear();
            vec![b"nonsense".to_vec(), forged.to_vec().unwrap(), other.to_vec().unwrap()]
        },
    )
    .await;
    let answer = look_up("api.example.com", server).await.unwrap();
    assert_eq!(answer.addresses[0].to_string(), "10.0.0.1");
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_over_tcp() {
    let server = name_server(
        |asked, message| {
            message.metadata.truncation = true;
            message.add_answers((0..200).map(|i| a(asked, 60, i)));
            // Over UDP nothing of it arrives; over TCP everything does.
        },
        |real| {
            let mut cut = real.clone();
            cut.answers.clear();
            vec![cut.to_vec().unwrap()]
        },
    )
    .await;
    assert_eq!(look_up("many.example.com", server).await.unwrap().addresses.len(), 200);
}

#[tokio::test]
async fn names_are_looked_up_at_the_resolvers_that_are_given() {
    let (at, mut seen) = http_server(OK).await;
    let server = name_server(
        |asked, message| {
            let here = Record::from_rdata(name(asked), 60, RData::A(A(Ipv4Addr::LOCALHOST)));
            message.add_answers([here]);
        },
        quiet,
    )
    .await;
    let url = format!("http://api.maip.example.com:{}/", at.port());
    let asked = HttpQuestion { resolvers: vec![server.clone()], ..question(url, None) };
    assert_eq!(NetProbe.http(&asked).await.unwrap().status, 200);
    assert!(seen.recv().await.unwrap().contains(&format!("api.maip.example.com:{}", at.port())));
    let servers = [server];
    assert_eq!(NetProbe.authorities("maip.example.com", &servers).await.unwrap(), servers);
}

fn notice() -> Notice {
    Notice { application: "maip".into(), run: "r-1".into(), what: "held".into(), text: "it waits".into() }
}

fn webhook(url: String) -> NotifyTarget {
    NotifyTarget::Webhook(WebhookTarget { webhook: url })
}

fn command(words: &[&str]) -> NotifyTarget {
    NotifyTarget::Command(CommandTarget { command: words.iter().map(|w| (*w).to_owned()).collect() })
}

#[tokio::test]
async fn a_webhook_gets_the_text_and_the_fields() {
    let (at, mut seen) = http_server(OK).await;
    NetNotify::default().send(&webhook(format!("http://{at}/hook")), &notice()).await.unwrap();
    let asked = seen.recv().await.unwrap();
    assert!(asked.starts_with("POST /hook"), "{asked}");
    let body: serde_json::Value = serde_json::from_str(asked.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(body["text"].as_str().unwrap().contains("it waits"), "{body}");
    assert_eq!((body["run"].as_str(), body["what"].as_str()), (Some("r-1"), Some("held")));
}

#[tokio::test]
async fn a_webhooks_url_is_never_repeated() {
    let (at, _seen) = http_server("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [
        format!("http://{at}/hunter2"),
        format!("http://{gone}/hunter2"),
        "http://example.com/hunter2".into(),
    ] {
        let error = NetNotify::default().send(&webhook(url), &notice()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let error =
        NetNotify::default().send(&webhook("env:MAIP_DR_NO_SUCH".into()), &notice()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("MAIP_DR_NO_SUCH"), "{error}");
}

#[tokio::test]
async fn a_command_gets_the_notice_on_its_standard_input() {
    let folder = std::env::temp_dir().join(format!("maip-dr-net-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("notice.json");
    let script = format!("cat > {}", file.display());
    NetNotify::default().send(&command(&["sh", "-c", &script]), &notice()).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(body["run"], "r-1");
    std::fs::remove_dir_all(&folder).unwrap();
    // One that does not read is no failure; one that fails is, with its last words.
    NetNotify::default().send(&command(&["true"]), &notice()).await.unwrap();
    let loud = "head -c 200000 /dev/zero >&2; echo; echo first >&2; echo last words >&2; exit 3";
    let error = NetNotify::default().send(&command(&["sh", "-c", loud]), &notice()).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    let error = NetNotify::default().send(&command(&["/no/such/program"]), &notice()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_command_that_hangs_is_killed() {
    let folder = std::env::temp_dir().join(format!("maip-dr-hang-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // It holds the pipe's other end open until it dies; then our read ends.
    let script = format!("exec 3> {}; exec tail -f /dev/null", pipe.display());
    let reader = tokio::task::spawn_blocking(move || std::fs::read(&pipe).unwrap());
    let limited = NetNotify::within(Duration::from_millis(300));
    let error = limited.send(&command(&["sh", "-c", &script]), &notice()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(reader.await.unwrap().is_empty());
    std::fs::remove_dir_all(&folder).unwrap();
}
