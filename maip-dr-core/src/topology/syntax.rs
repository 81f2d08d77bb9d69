//! What names, addresses and URLs look like.

/// The parts of a URL that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Url<'a> {
    /// `http` or `https`, as written.
    pub(super) scheme: &'a str,
    /// Whether a user stands before the host.
    pub(super) user: bool,
    /// The host, without brackets.
    pub(super) host: &'a str,
}

/// The parts of `text`; `None` where it is no URL.
pub(super) fn url(text: &str) -> Option<Url<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, place) = authority.rsplit_once('@').map_or((false, authority), |(_, place)| (true, place));
    let (host, port) = split_port(place);
    let right = !text.contains(char::is_whitespace)
        && is_address(host)
        && port.is_none_or(is_port)
        && scheme.bytes().all(|b| b.is_ascii_alphabetic());
    right.then_some(Url { scheme, user, host })
}

/// The host without brackets, and what stands after the colon.
fn split_port(place: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        return (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("") }));
    }
    place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether `text` is `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn is_host_port(text: &str) -> bool {
    let (host, port) = split_port(text);
    is_address(host) && port.is_some_and(is_port)
}

fn is_address(host: &str) -> bool {
    is_host(host) || host.parse::<std::net::IpAddr>().is_ok()
}

/// Whether `host` is this machine: 127.0.0.0/8, `::1` or `localhost`.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether `name` is a host's or a domain's name, with or without the closing dot.
pub(super) fn is_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// `us-west-2`, `us-gov-east-1`.
pub(super) fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let word = |w: &&str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase());
    let [area, middle @ .., number] = parts.as_slice() else { return false };
    !middle.is_empty()
        && word(area)
        && (2..=4).contains(&area.len())
        && middle.iter().all(word)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// Twelve digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The account of `arn:aws:iam::123456789012:role/NAME`; `None` where it is no role's ARN.
pub(super) fn role_account(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", "aws" | "aws-cn" | "aws-us-gov", "iam", "", account, role] = parts.as_slice() else {
        return None;
    };
    let name = role.strip_prefix("role/")?;
    let right = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&b);
    (is_account(account) && !name.is_empty() && name.bytes().all(right)).then_some(*account)
}

/// An RDS identifier: 1 to 63 letters, digits and single hyphens, a letter first and no hyphen last.
pub(super) fn is_rds(text: &str) -> bool {
    spelled(text, 1..=63, "-")
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with('-')
        && !text.contains("--")
}

/// Letters, digits and the characters of `also`, in a length within `length`.
pub(super) fn spelled(text: &str, length: std::ops::RangeInclusive<usize>, also: &str) -> bool {
    length.contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

/// As [`spelled`], with a letter or digit first.
pub(super) fn named(text: &str, most: usize, also: &str) -> bool {
    spelled(text, 1..=most, also) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// A Kubernetes name: small letters, digits and hyphens (and dots where `dots`), a letter or digit at both ends.
pub(super) fn is_kubernetes(text: &str, most: usize, dots: bool) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    named(text, most, if dots { "-." } else { "-" })
        && text.ends_with(inside)
        && text.chars().all(|c| inside(c) || c == '-' || c == '.')
}

/// The application's name: 2 to 40 small letters, digits and hyphens, a letter first and no hyphen last.
pub(super) fn is_application(text: &str) -> bool {
    is_kubernetes(text, 40, false) && text.len() >= 2 && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// A hosted zone's id.
pub(super) fn is_zone_id(text: &str) -> bool {
    text.starts_with('Z')
        && (2..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// The name of an environment variable.
pub(super) fn is_variable(text: &str) -> bool {
    spelled(text, 1..=128, "_") && !text.starts_with(|c: char| c.is_ascii_digit())
}
