//! [`NotifyService`]: webhooks and local commands.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::clock::{SystemClock, timeout};
use crate::error::{Error, Result};
use crate::service::{Notice, NotifyService};
use crate::topology::NotifyTarget;

/// Nobody waits longer for a message to be taken.
const LIMIT: Duration = Duration::from_secs(5);

/// Tells people from this machine.
#[derive(Debug, Clone, Copy)]
pub struct NetNotify {
    limit: Duration,
}

impl Default for NetNotify {
    fn default() -> Self {
        Self { limit: LIMIT }
    }
}

impl NetNotify {
    /// With another limit than 5 s for one message.
    pub fn within(limit: Duration) -> Self {
        Self { limit }
    }
}

#[async_trait]
impl NotifyService for NetNotify {
    async fn send(&self, target: &NotifyTarget, notice: &Notice) -> Result<()> {
        let body = body(notice);
        let sent = async {
            match target {
                NotifyTarget::Webhook(hook) => post(&hook.webhook, &body).await,
                NotifyTarget::Command(command) => run(&command.command, &body).await,
            }
        };
        timeout(&SystemClock, self.limit, sent).await.and_then(|r| r)
    }
}

/// `text` is what Slack shows; the fields are for programs.
fn body(notice: &Notice) -> Value {
    json!({
        "text": format!("maip-dr {}: run {} {}: {}", notice.application, notice.run, notice.what, notice.text),
        "application": notice.application, "run": notice.run, "what": notice.what, "message": notice.text,
    })
}

/// The URL itself is a secret: no error repeats more of it than its host.
fn webhook_url(written: &str) -> Result<Url> {
    let text = match written.strip_prefix("env:") {
        Some(name) => std::env::var(name).map_err(|_| {
            Error::invalid(format!(
                "the environment variable {name}, which holds a webhook's URL, is not set"
            ))
        })?,
        None => written.to_owned(),
    };
    let url = Url::parse(&text).map_err(|_| Error::invalid("a webhook's URL cannot be read"))?;
    let host = url.host_str().unwrap_or_default();
    let loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !loopback {
        return Err(Error::refused(format!("the webhook at {host} is not https"))
            .hint("only a loopback address may do without"));
    }
    Ok(url)
}

async fn post(written: &str, body: &Value) -> Result<()> {
    let url = webhook_url(written)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let client = Client::builder()
        .redirect(Policy::none())
        .build()
        .map_err(|e| Error::internal(format!("no HTTP client: {}", e.without_url())))?;
    let sent =
        client.post(url).header("content-type", "application/json").body(body.to_string()).send().await;
    let answer = sent.map_err(|e| {
        Error::unavailable(format!("the webhook at {host} does not answer")).caused_by(e.without_url())
    })?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Error::unavailable(format!("the webhook at {host} answers {status}")));
    }
    Ok(())
}

async fn run(words: &[String], body: &Value) -> Result<()> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::invalid("the command of a notification is empty"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::not_found(format!("{program} cannot be started: {e}")))?;
    let stdin = child.stdin.take();
    let stderr = child.stderr.take();
    let text = body.to_string();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read is no failure.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    let read = async {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = (&mut stderr).take(4096).read_to_end(&mut said).await;
            // The rest is read too, or the program would wait for somebody to do so.
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        }
        String::from_utf8_lossy(&said).into_owned()
    };
    let ((), said, status) = futures::join!(write, read, child.wait());
    let status = status.map_err(|e| Error::internal(format!("{program}: {e}")))?;
    if status.success() {
        return Ok(());
    }
    let last = said.lines().last().unwrap_or_default();
    Err(Error::unavailable(format!("{program} ended with {status}")).caused_by(last))
}
