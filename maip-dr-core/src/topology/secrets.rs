//! Finds what looks like a secret, and says so without repeating it.

use crate::topology::document::{Data, Node, Position};
use crate::topology::problem::Problem;

/// What stands in an error in place of something that looks like a secret.
const HIDDEN: &str = "(hidden)";

/// Prefixes of tokens, and whose they are.
const TOKENS: [(&str, &str); 14] = [
    ("ghp_", "a GitHub token"),
    ("gho_", "a GitHub token"),
    ("ghu_", "a GitHub token"),
    ("ghs_", "a GitHub token"),
    ("ghr_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("glpat-", "a GitLab token"),
    ("xoxa-", "a Slack token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("xoxr-", "a Slack token"),
    ("xoxs-", "a Slack token"),
    ("xapp-", "a Slack token"),
    ("sk_live_", "an API key"),
];

/// What a URL that lets everyone who knows it post is called.
const WEBHOOK: &str = "a webhook's secret URL";

/// Parts of such URLs.
const WEBHOOKS: [&str; 4] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "/api/webhooks/",
    ".webhook.office.com/webhook",
];

/// Words in a key that announce a secret.
const KEYS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
];

/// Problems with each line of the text, comments included.
pub(super) fn in_text(text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if let Some((what, byte)) = find(content) {
            let column = content.get(..byte).map_or(1, |before| before.chars().count() as u64 + 1);
            problems.push(refused(Problem::at(Position { line, column }, said(what)), what));
        }
    }
    problems
}

/// Problems with every key and value of the tree.
pub(super) fn in_tree(root: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    visit(root, &mut Vec::new(), &mut problems);
    problems
}

fn visit(node: &Node, path: &mut Vec<String>, problems: &mut Vec<Problem>) {
    match &node.data {
        Data::Scalar(value) => {
            if let Some((what, _)) = value.as_str().and_then(find) {
                problems.push(refused(Problem::new(path, said(what)), what));
            }
        }
        Data::List(items) => {
            for (i, item) in items.iter().enumerate() {
                path.push(i.to_string());
                visit(item, path, problems);
                path.pop();
            }
        }
        Data::Map(entries) => {
            for entry in entries {
                // A key that is a secret itself stays out of the path.
                if let Some((what, _)) = find(&entry.key) {
                    problems.push(refused(Problem::new(path, said(what)), what));
                    continue;
                }
                path.push(entry.key.clone());
                if announces(path, &entry.node) {
                    let message = format!("the key {} announces a secret", shown(&entry.key));
                    problems.push(refused(Problem::key(path, message), "a secret"));
                } else {
                    visit(&entry.node, path, problems);
                }
                path.pop();
            }
        }
    }
}

/// Whether the last key of `path` is one that holds a secret: not a name the user gave to something of theirs.
fn announces(path: &[String], node: &Node) -> bool {
    let users_name = path.iter().any(|k| k == "deployments" || k == "stateful_sets");
    let scalar = matches!(node.data, Data::Scalar(_)) && !node.is_null();
    let key = path.last().map_or_else(String::new, |k| k.to_ascii_lowercase().replace(['_', '-', '.'], ""));
    scalar && !users_name && KEYS.iter().any(|word| key.contains(word))
}

fn said(what: &str) -> String {
    format!("this looks like {what}, and no secret may be in this file")
}

fn refused(problem: Problem, what: &str) -> Problem {
    problem.hint(if what == WEBHOOK {
        "write `webhook: env:SLACK_WEBHOOK`, and put the URL into that environment variable"
    } else {
        "remove it, and replace it where it is in use: credentials come from an AWS profile, a role or the \
         environment"
    })
}

/// `text` in backticks, unless it looks like a secret; never longer than a line.
pub(super) fn shown(text: &str) -> String {
    if find(text).is_some() {
        return HIDDEN.to_owned();
    }
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if text.chars().count() > 80 {
        short.push('…');
    }
    format!("`{short}`")
}

/// `text`, unless it holds what looks like a secret.
pub(super) fn hide(text: &str) -> &str {
    if find(text).is_some() { HIDDEN } else { text }
}

/// What in `text` looks like a secret, and the byte where it starts.
fn find(text: &str) -> Option<(&'static str, usize)> {
    private_key(text)
        .or_else(|| webhook(text))
        .or_else(|| password_in_url(text))
        .or_else(|| words(text).find_map(|(at, word)| Some((secret_word(word)?, at))))
}

fn private_key(text: &str) -> Option<(&'static str, usize)> {
    let at = text.find("-----BEGIN ")?;
    text.contains("PRIVATE KEY").then_some(("a private key", at))
}

fn webhook(text: &str) -> Option<(&'static str, usize)> {
    let lower = text.to_ascii_lowercase();
    WEBHOOKS.iter().find_map(|part| Some((WEBHOOK, lower.find(part)?)))
}

/// `SCHEME://USER:PASSWORD@HOST`.
fn password_in_url(text: &str) -> Option<(&'static str, usize)> {
    text.match_indices("://").find_map(|(at, _)| {
        let authority = text.get(at + 3..)?.split(['/', '?', '#', ' ', '"', '\'']).next()?;
        let (user, _) = authority.rsplit_once('@')?;
        user.contains(':').then_some(("a URL with a password", at + 3))
    })
}

/// The words of `text` and where they start; of `KEY=VALUE` also the value alone.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "_-./+=".contains(c);
    text.split(move |c: char| !inside(c))
        .filter(|word| word.len() >= 12)
        .flat_map(|word| [word, word.rsplit('=').next().unwrap_or(word)])
        .map(move |word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn secret_word(word: &str) -> Option<&'static str> {
    TOKENS
        .iter()
        .find(|(prefix, _)| word.starts_with(prefix) && word.len() >= prefix.len() + 10)
        .map(|(_, what)| *what)
        .or_else(|| is_access_key(word).then_some("an AWS access key"))
        .or_else(|| is_secret_key(word).then_some("an AWS secret key"))
        .or_else(|| is_jwt(word).then_some("a JSON web token"))
}

/// `AKIA` or `ASIA` and sixteen more, alone or inside a longer word.
fn is_access_key(word: &str) -> bool {
    word.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit()))
        .any(|part| part.len() == 20 && (part.starts_with("AKIA") || part.starts_with("ASIA")))
}

/// Forty characters of base64 with capitals, small letters and digits: no name here looks so.
fn is_secret_key(word: &str) -> bool {
    let has = |test: fn(&u8) -> bool| word.as_bytes().iter().any(test);
    word.len() == 40
        && !word.starts_with('/')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'/' || b == b'+')
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

fn is_jwt(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    word.starts_with("eyJ") && parts.len() == 3 && parts.iter().take(2).all(|part| part.len() >= 8)
}
