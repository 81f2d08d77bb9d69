//! [`ProbeService`] over this machine's network.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use reqwest::header::HOST;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::clock::{SystemClock, timeout};
use crate::error::{Error, Result};
use crate::net::dns;
use crate::service::{DnsAnswer, HttpAnswer, HttpQuestion, ProbeService, RecordType};

const CONNECT: Duration = Duration::from_secs(2);

/// Looks from this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetProbe;

#[async_trait]
impl ProbeService for NetProbe {
    async fn http(&self, question: &HttpQuestion) -> Result<HttpAnswer> {
        timeout(&SystemClock, question.limit, ask(question)).await.and_then(|r| r).map_err(|e| {
            let at = question.connect.as_deref().map(|c| format!(" at {c}")).unwrap_or_default();
            e.context(format!("{}{at} does not answer", shown(&question.url)))
        })
    }

    async fn dns(&self, name: &str, record_type: RecordType, server: Option<String>) -> Result<DnsAnswer> {
        let servers = match server {
            Some(server) => vec![located(&server).await?],
            None => dns::own_resolvers()?,
        };
        let mut last = Error::unavailable("no name server was asked");
        for server in servers {
            match dns::addresses(name, record_type, server).await {
                Ok(answer) => return Ok(answer),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn authorities(&self, zone: &str, resolvers: &[String]) -> Result<Vec<String>> {
        // Servers that are named stand for the authorities: nothing else need be reached.
        if !resolvers.is_empty() {
            return Ok(resolvers.to_vec());
        }
        let mut last = Error::unavailable("no name server was asked");
        for resolver in dns::own_resolvers()? {
            let names = match dns::servers_of(zone, resolver).await {
                Ok(names) => names,
                Err(e) => {
                    last = e;
                    continue;
                }
            };
            let found = join_all(names.iter().map(|n| dns::addresses(n, RecordType::A, resolver))).await;
            let mut servers: Vec<String> = found
                .into_iter()
                .filter_map(|answer| answer.ok()?.addresses.first().map(|ip| format!("{ip}:53")))
                .collect();
            servers.sort();
            if !servers.is_empty() {
                return Ok(servers);
            }
            last = Error::not_found(format!("{resolver} knows no name servers of zone {zone}"))
                .hint("is the zone delegated in the public DNS? `dig NS` shows it");
        }
        Err(last)
    }
}

async fn ask(question: &HttpQuestion) -> Result<HttpAnswer> {
    let mut url = Url::parse(&question.url)
        .map_err(|e| Error::invalid(format!("{} is no URL: {e}", shown(&question.url))))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    // What the server is asked for stays the public name and its port, wherever it is asked.
    let authority = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let (place, port) = match &question.connect {
        Some(connect) => host_and_port(connect),
        None => (host.as_str(), None),
    };
    let port = port.or_else(|| url.port_or_known_default()).unwrap_or(443);
    let addresses = looked_up(place, port, &question.resolvers).await?;
    if url.set_port(Some(port)).is_err() {
        return Err(Error::invalid(format!("{} has no host", shown(&question.url))));
    }
    // One client a question: no connection, no address and no answer is kept.
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT)
        .pool_max_idle_per_host(0)
        .resolve_to_addrs(&host, &addresses)
        .build()
        .map_err(|e| Error::internal(format!("no HTTP client: {e}")))?;
    let answer = client.get(url).header(HOST, authority).send().await.map_err(|e| unanswered(&e, &host))?;
    Ok(HttpAnswer {
        status: answer.status().as_u16(),
        address: answer.remote_addr().map(|address| address.ip().to_string()),
        region: answer
            .headers()
            .get("x-maip-region")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
    })
}

/// The addresses of `host`, asked at `resolvers` where there are some.
async fn looked_up(host: &str, port: u16, resolvers: &[String]) -> Result<Vec<SocketAddr>> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let mut found = Vec::new();
    if resolvers.is_empty() {
        let all = tokio::net::lookup_host((host, port)).await;
        found.extend(all.map_err(|e| Error::unavailable(format!("{host} has no address: {e}")))?);
    }
    let mut last = None;
    for resolver in resolvers {
        let server = located(resolver).await?;
        for record_type in [RecordType::A, RecordType::Aaaa] {
            match dns::addresses(host, record_type, server).await {
                Ok(answer) => {
                    found.extend(answer.addresses.into_iter().map(|ip| SocketAddr::new(ip, port)));
                }
                Err(e) => last = Some(e),
            }
            // Where there is an IPv4 address nobody waits for the other question.
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
    if found.is_empty() {
        return Err(last.unwrap_or_else(|| Error::unavailable(format!("{host} has no address"))));
    }
    Ok(found)
}

/// `HOST:PORT` as an address.
async fn located(server: &str) -> Result<SocketAddr> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let (host, port) = host_and_port(server);
    let found = tokio::net::lookup_host((host, port.unwrap_or(53))).await;
    let found = found.map_err(|e| Error::unavailable(format!("name server {host} has no address: {e}")))?;
    found.into_iter().next().ok_or_else(|| Error::unavailable(format!("name server {host} has no address")))
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
fn host_and_port(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host.trim_matches(['[', ']']), Some(port)),
            Err(_) => (text, None),
        },
        _ => (text.trim_matches(['[', ']']), None),
    }
}

/// A URL without what may be secret in it.
fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path()),
        Err(_) => "the URL".to_owned(),
    }
}

fn unanswered(error: &reqwest::Error, host: &str) -> Error {
    let mut said = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(inner) = next {
        said = inner.to_string();
        next = inner.source();
    }
    let certificate = said.to_lowercase().contains("certificate");
    let what = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if certificate {
        format!("its certificate is not valid for {host}: {said}")
    } else if error.is_connect() {
        format!("no connection: {said}")
    } else {
        format!("no answer: {said}")
    };
    Error::unavailable(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_come_apart() {
        assert_eq!(host_and_port("alb.example.com"), ("alb.example.com", None));
        assert_eq!(host_and_port("127.0.0.2:8443"), ("127.0.0.2", Some(8443)));
        assert_eq!(host_and_port("[::1]:53"), ("::1", Some(53)));
        assert_eq!(host_and_port("[::1]"), ("::1", None));
        assert_eq!(host_and_port("::1"), ("::1", None));
    }

    #[test]
    fn a_url_is_shown_without_secrets() {
        assert_eq!(shown("https://u:pw@api.example.com/health?token=x#y"), "https://api.example.com/health");
    }
}
