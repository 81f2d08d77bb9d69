//! A file as a tree that knows where each of its parts was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Error as YamlError, Location, Options, Spanned};

use crate::topology::problem::Problem;
use crate::topology::secrets;

/// The largest file that is read.
const MAX_BYTES: usize = 1024 * 1024;
/// The deepest nesting; a topology needs eight.
const MAX_DEPTH: usize = 32;

/// Where something was written: line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// The line.
    pub(super) line: u64,
    /// The column, in characters.
    pub(super) column: u64,
}

impl Position {
    const START: Self = Self { line: 1, column: 1 };

    fn of(location: Location) -> Self {
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// One value and where it was written; data from a program was written nowhere.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where the value starts.
    pub(super) at: Option<Position>,
    /// The value.
    pub(super) data: Data,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub(super) enum Data {
    /// Keys in their order.
    Map(Vec<Entry>),
    /// Items.
    List(Vec<Node>),
    /// Text, a number, a boolean or null.
    Scalar(Value),
}

/// One key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key was written.
    pub(super) at: Option<Position>,
    /// The value.
    pub(super) node: Node,
}

impl Node {
    /// Reads YAML or JSON text.
    pub(super) fn from_text(text: &str) -> Result<Self, Problem> {
        if text.len() > MAX_BYTES {
            return Err(Problem::at(Position::START, "the file is larger than 1 MiB")
                .hint("a topology is a few kilobytes: is this the right file?"));
        }
        let read: Result<Option<Spanned<Data>>, YamlError> =
            serde_saphyr::from_str_with_options(text, options());
        match read {
            Ok(Some(root)) => Ok(root.into()),
            Ok(None) => Err(empty()),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Takes data that came from a program.
    pub(super) fn from_value(value: &Value) -> Result<Self, Problem> {
        Self::nested(value, 0)
    }

    fn nested(value: &Value, depth: usize) -> Result<Self, Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::new::<&str>(&[], "the data is nested too deeply").hint(too_deep()));
        }
        let data = match value {
            Value::Object(map) => Data::Map(
                map.iter()
                    .map(|(key, value)| {
                        Ok(Entry { key: key.clone(), at: None, node: Self::nested(value, depth + 1)? })
                    })
                    .collect::<Result<_, Problem>>()?,
            ),
            Value::Array(items) => {
                Data::List(items.iter().map(|i| Self::nested(i, depth + 1)).collect::<Result<_, _>>()?)
            }
            scalar => Data::Scalar(scalar.clone()),
        };
        Ok(Self { at: None, data })
    }

    /// The plain data, without the keys that say nothing: an optional key set to null is an absent one.
    pub(super) fn to_value(&self) -> Value {
        match &self.data {
            Data::Map(entries) => Value::Object(
                entries
                    .iter()
                    .filter(|e| !e.node.is_null())
                    .map(|e| (e.key.clone(), e.node.to_value()))
                    .collect::<Map<_, _>>(),
            ),
            Data::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Data::Scalar(value) => value.clone(),
        }
    }

    /// Whether it is null.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.data, Data::Scalar(Value::Null))
    }

    /// Its text, where it is text.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The entry `key` of a map.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// The item `index` of a list.
    pub(super) fn item(&self, index: &str) -> Option<&Self> {
        match &self.data {
            Data::List(items) => items.get(index.parse::<usize>().ok()?),
            _ => None,
        }
    }
}

impl From<Spanned<Data>> for Node {
    fn from(read: Spanned<Data>) -> Self {
        Self { at: Some(Position::of(read.defined)), data: read.value }
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_documents: 8,
            max_nodes: 50_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn empty() -> Problem {
    Problem::at(Position::START, "the file is empty").hint("examples/maip-prod.yaml is one to start from")
}

fn too_deep() -> &'static str {
    "a topology nests eight levels at most"
}

/// What the reader of YAML says, without a word of the file's values.
fn unreadable(error: &YamlError) -> Problem {
    let error = innermost(error);
    let at = error.location().map_or(Position::START, Position::of);
    let (message, hint) = match error {
        YamlError::DuplicateMappingKey { key, .. } => (
            format!("the key {} is there twice", key.as_deref().map_or_else(String::new, secrets::shown)),
            "keep one of the two".to_owned(),
        ),
        YamlError::Budget { .. }
        | YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => (
            "the file is nested too deeply, is too large or repeats itself through too many aliases"
                .to_owned(),
            format!("{}, and needs few anchors", too_deep()),
        ),
        YamlError::MultipleDocuments { .. } => {
            ("there is a second document".to_owned(), "one topology a file: remove the `---`".to_owned())
        }
        other => (
            reader_words(other),
            "the file must be YAML or JSON; indent with spaces, and quote text that holds `: ` or ` #`"
                .to_owned(),
        ),
    };
    Problem::at(at, message).hint(hint)
}

fn innermost(error: &YamlError) -> &YamlError {
    match error {
        YamlError::AliasError { error, .. } => innermost(error),
        other => other.without_snippet(),
    }
}

/// The reader's own message on one line, without its position.
fn reader_words(error: &YamlError) -> String {
    let full = error.to_string();
    let line = full.lines().next().unwrap_or_default();
    let words = line.rsplit_once(" at line ").map_or(line, |(words, _)| words);
    let words = words.strip_prefix("error: ").unwrap_or(words);
    format!("this cannot be read: {}", secrets::hide(words))
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys and values, a list, text, a number, true, false or null")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(Data::Scalar(value.into()))
    }

    /// Beyond 64 bits: no key takes such a number, so that only its being one matters.
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Data, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Data, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Data, E> {
        Ok(Data::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Scalar(Value::Null))
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Data, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        Data::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Data>>()? {
            list.push(item.into());
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Data, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Data>>()? {
            let at = Some(Position::of(key.defined));
            entries.push(Entry { key: key.value, at, node: value.into() });
        }
        Ok(Data::Map(entries))
    }
}
