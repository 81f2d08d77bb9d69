//! One question to one name server, nothing cached: UDP, then TCP where the answer does not fit.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType as Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::clock::{SystemClock, timeout};
use crate::error::{Error, ErrorKind, Result};
use crate::service::{DnsAnswer, RecordType};

/// A name server that is there answers in milliseconds; a packet may be lost once.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// A longer chain of aliases is a circle.
const CHAIN: usize = 8;

/// Asks `server` for the addresses of `name`, following aliases.
pub(super) async fn addresses(name: &str, record_type: RecordType, server: SocketAddr) -> Result<DnsAnswer> {
    let wanted = match record_type {
        RecordType::A | RecordType::Cname => Type::A,
        RecordType::Aaaa => Type::AAAA,
    };
    let mut target = parsed(name)?;
    let mut answer = DnsAnswer { addresses: Vec::new(), ttl_s: u32::MAX, authoritative: false };
    for link in 0..CHAIN {
        let message = ask(&target, wanted, server).await?;
        if link == 0 {
            answer.authoritative = message.metadata.authoritative;
        }
        let alias = follow(&message, &mut target, &mut answer);
        if !answer.addresses.is_empty() || !alias {
            answer.addresses.sort_unstable();
            answer.addresses.dedup();
            answer.ttl_s = if answer.ttl_s == u32::MAX { 0 } else { answer.ttl_s };
            return Ok(answer);
        }
    }
    Err(Error::unavailable(format!("the aliases of {name} run in a circle")))
}

/// The names of the servers that `zone` is delegated to.
pub(super) async fn servers_of(zone: &str, server: SocketAddr) -> Result<BTreeSet<String>> {
    let message = ask(&parsed(zone)?, Type::NS, server).await?;
    let names = message.answers.iter().filter_map(|record| match &record.data {
        RData::NS(ns) => Some(ns.0.to_ascii().trim_end_matches('.').to_ascii_lowercase()),
        _ => None,
    });
    Ok(names.collect())
}

fn parsed(name: &str) -> Result<Name> {
    let mut parsed =
        Name::from_ascii(name).map_err(|e| Error::invalid(format!("`{name}` is no DNS name: {e}")))?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// Takes over what belongs to `target` in `message`; true where it is an alias, `target` then being its end.
fn follow(message: &Message, target: &mut Name, answer: &mut DnsAnswer) -> bool {
    let mut aliased = false;
    // An alias may come after what it leads to; a chain of n links needs n rounds at most.
    for _ in 0..=message.answers.len() {
        let link = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(to) if record.name == *target => Some((to.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((to, ttl)) = link else { break };
        answer.ttl_s = answer.ttl_s.min(ttl);
        *target = to;
        aliased = true;
    }
    for record in message.answers.iter().filter(|record| record.name == *target) {
        let address: IpAddr = match &record.data {
            RData::A(a) => a.0.into(),
            RData::AAAA(a) => a.0.into(),
            _ => continue,
        };
        answer.ttl_s = answer.ttl_s.min(record.ttl);
        answer.addresses.push(address);
    }
    aliased
}

async fn ask(name: &Name, wanted: Type, server: SocketAddr) -> Result<Message> {
    let mut question = Message::query();
    question.metadata.id = RandomState::new().build_hasher().finish() as u16;
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), wanted));
    let mut last = Error::unavailable(format!("name server {server} did not answer"));
    for _ in 0..TRIES {
        match timeout(&SystemClock, PATIENCE, over_udp(&question, server)).await.and_then(|r| r) {
            Ok(message) if message.metadata.truncation => {
                let whole = timeout(&SystemClock, PATIENCE, over_tcp(&question, server)).await;
                return judged(whole.and_then(|r| r)?, name, server);
            }
            Ok(message) => return judged(message, name, server),
            Err(e) => last = e.context(format!("name server {server} did not answer")),
        }
    }
    Err(last)
}

/// "No such name" is an answer; "I failed" and "not for you" are none.
fn judged(message: Message, name: &Name, server: SocketAddr) -> Result<Message> {
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
        code => Err(Error::unavailable(format!("name server {server} answers {code} for {name}"))),
    }
}

/// Whether `answer` belongs to `question`: everything else is noise or forged.
fn belongs(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id && answer.queries == question.queries
}

fn lost(e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, e.to_string())
}

fn wire(question: &Message) -> Result<Vec<u8>> {
    question.to_vec().map_err(|e| Error::internal(format!("a DNS question cannot be written: {e}")))
}

async fn over_udp(question: &Message, server: SocketAddr) -> Result<Message> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(|e| lost(&e))?;
    // Connected: only this server's datagrams are received.
    socket.connect(server).await.map_err(|e| lost(&e))?;
    socket.send(&wire(question)?).await.map_err(|e| lost(&e))?;
    let mut buffer = vec![0_u8; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|e| lost(&e))?;
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if belongs(&answer, question) => return Ok(answer),
            _ => {}
        }
    }
}

async fn over_tcp(question: &Message, server: SocketAddr) -> Result<Message> {
    let mut stream = TcpStream::connect(server).await.map_err(|e| lost(&e))?;
    let bytes = wire(question)?;
    let length = u16::try_from(bytes.len()).map_err(|_| Error::internal("a DNS question is too long"))?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await.map_err(|e| lost(&e))?;
    let length = stream.read_u16().await.map_err(|e| lost(&e))?;
    let mut buffer = vec![0_u8; usize::from(length)];
    stream.read_exact(&mut buffer).await.map_err(|e| lost(&e))?;
    match Message::from_vec(&buffer) {
        Ok(answer) if belongs(&answer, question) => Ok(answer),
        _ => Err(Error::unavailable("the answer over TCP is not one to the question")),
    }
}

/// The machine's own resolvers, as `/etc/resolv.conf` names them.
pub(super) fn own_resolvers() -> Result<Vec<SocketAddr>> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let found: Vec<SocketAddr> = nameservers(&text);
    if found.is_empty() {
        return Err(Error::unavailable("this machine names no resolver in /etc/resolv.conf")
            .hint("name some with `resolvers` in the topology"));
    }
    Ok(found)
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.split('%').next()?.parse::<IpAddr>().ok())
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_resolvers_are_read() {
        let text = "# nameserver 1.1.1.1\nsearch x\n nameserver 10.0.0.2\nnameserver fe80::1%eth0\nnameserver nonsense\n";
        let shown: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.2:53", "[fe80::1]:53"]);
    }
}
