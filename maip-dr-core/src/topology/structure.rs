//! Holds a tree against the schema of the types it is read into: keys, types and ranges.

use serde_json::Value;

use crate::duration::Span;
use crate::topology::document::{Data, Entry, Node};
use crate::topology::problem::Problem;
use crate::topology::secrets::shown;

/// Keys that the design names and this version does not read: where, and what serves instead.
const NOT_YET: [(&[&str], &str); 3] = [
    (&["approvals"], "leave it out, or write `approvals: ~`; `--yes` answers the one question of a run"),
    (
        &["databases", "*", "regions", "*", "sql"],
        "leave it out: the watermark is read from RDS and CloudWatch",
    ),
    (&["journal", "dynamodb"], "write `journal: { file: DIR }`, or leave it out for the state directory"),
];

/// Values that the design names and this version does not read.
const WORDS_NOT_YET: [(&[&str], &[&str], &str); 1] =
    [(&["traffic", "*", "method"], &["health_switch", "routing_control"], "use alias or weighted")];

/// Every difference between `root` and `schema`.
pub(super) fn check(root: &Node, schema: &Value) -> Vec<Problem> {
    let mut walk = Walk { root: schema, path: Vec::new(), problems: Vec::new() };
    walk.value(root, schema, "examples/maip-prod.yaml is a file to start from");
    walk.problems
}

struct Walk<'s> {
    root: &'s Value,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl<'s> Walk<'s> {
    /// Checks `node`; `about` is what the schema says of the key that holds it.
    fn value(&mut self, node: &Node, schema: &'s Value, about: &str) {
        let schema = self.resolved(schema);
        if is_duration(schema) {
            self.duration(node, about);
        } else if let Some(options) = alternatives(schema) {
            self.one_of(node, options, about);
        } else if !fits(node, schema) {
            self.wrong(node, &expected(schema), about);
        } else {
            match &node.data {
                Data::Map(entries) => self.map(entries, node, schema, about),
                Data::List(items) => self.list(items, schema, about),
                Data::Scalar(value) => self.range(value, schema, about),
            }
        }
    }

    fn resolved(&self, schema: &'s Value) -> &'s Value {
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
        pointer.and_then(|p| self.root.pointer(p)).unwrap_or(schema)
    }

    fn refuse(&mut self, message: String, about: &str) {
        self.problems.push(Problem::new(&self.path, message).hint(about));
    }

    fn wrong(&mut self, node: &Node, expected: &str, about: &str) {
        let unquoted = expected.contains("text")
            && matches!(&node.data, Data::Scalar(v) if v.is_number() || v.is_boolean());
        let hint = if unquoted { "put it in quotes" } else { about };
        self.refuse(format!("this must be {expected}, not {}", said(node)), hint);
    }

    fn duration(&mut self, node: &Node, about: &str) {
        let read = node.as_str().map(str::parse::<Span>);
        if !matches!(read, Some(Ok(_))) {
            let message = format!("{} is not a duration", said(node));
            let hint =
                if about.is_empty() { String::new() } else { format!(" ({})", about.trim_end_matches('.')) };
            self.refuse(message, &format!("write 30s, 15m or 2h{hint}"));
        }
    }

    /// The options with the options of options in their place.
    fn flat(&self, options: &'s [Value]) -> Vec<&'s Value> {
        let inner = |o: &'s Value| match alternatives(o) {
            Some(inner) => self.flat(inner),
            None => vec![o],
        };
        options.iter().map(|o| self.resolved(o)).flat_map(inner).collect()
    }

    /// One of several shapes, or one of several words.
    fn one_of(&mut self, node: &Node, options: &'s [Value], about: &str) {
        let options = self.flat(options);
        let words: Vec<&str> = options.iter().flat_map(|o| words(o)).collect();
        let word = node.as_str().is_some_and(|text| words.contains(&text));
        let shapes: Vec<&&Value> =
            options.iter().filter(|o| self::words(o).is_empty() && fits(node, o)).collect();
        match shapes.as_slice() {
            _ if word => {}
            [only] => self.value(node, only, about),
            [] => self.no_option(node, &options, &words, about),
            several => match several.iter().find(|o| holds_required(node, o)) {
                Some(right) => self.value(node, right, about),
                None => self.refuse(format!("this needs {}", required_of(several).join(" or ")), about),
            },
        }
    }

    fn no_option(&mut self, node: &Node, options: &[&Value], words: &[&str], about: &str) {
        let shapes = options.iter().filter(|o| self::words(o).is_empty()).map(|o| expected(o));
        let all: Vec<String> =
            shapes.chain(words.iter().map(|w| format!("`{w}`"))).filter(|s| s != "null").collect();
        let expected = all.join(" or ");
        match self.word_not_yet(node) {
            Some((word, hint)) => self.refuse(format!("`{word}` is not supported yet"), hint),
            None if words.is_empty() => self.wrong(node, &expected, about),
            None => self.refuse(format!("this must be {expected}, not {}", said(node)), about),
        }
    }

    fn word_not_yet<'n>(&self, node: &'n Node) -> Option<(&'n str, &'static str)> {
        let word = node.as_str()?;
        let (.., hint) =
            WORDS_NOT_YET.iter().find(|(path, words, _)| self.is_at(path) && words.contains(&word))?;
        Some((word, hint))
    }

    fn is_at(&self, pattern: &[&str]) -> bool {
        self.path.len() == pattern.len() && self.path.iter().zip(pattern).all(|(k, p)| *p == "*" || k == p)
    }

    fn map(&mut self, entries: &[Entry], node: &Node, schema: &'s Value, of_all: &str) {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|o| o.is_object());
        let known_keys: Vec<&str> = known.map_or_else(Vec::new, |k| k.keys().map(String::as_str).collect());
        let required = required(schema);
        let mut meant = Vec::new();
        for entry in entries {
            self.path.push(entry.key.clone());
            let not_yet = NOT_YET.iter().find(|(path, _)| self.is_at(path));
            let property = known.and_then(|k| k.get(&entry.key));
            if let Some((_, hint)) = not_yet {
                self.not_yet(&entry.key, &entry.node, hint);
            } else if let Some(property) = property {
                if !entry.node.is_null() || required.contains(&entry.key.as_str()) {
                    self.value(&entry.node, property, &about(property, &entry.key));
                }
            } else if let Some(others) = others {
                self.value(&entry.node, others, of_all);
            } else {
                meant.extend(self.unknown(&entry.key, &known_keys));
            }
            self.path.pop();
        }
        let missing: Vec<&str> = required.into_iter().filter(|key| !meant.contains(key)).collect();
        self.missing(node, schema, &missing);
    }

    fn not_yet(&mut self, key: &str, node: &Node, hint: &str) {
        if !node.is_null() {
            self.problems.push(Problem::key(&self.path, format!("`{key}` is not supported yet")).hint(hint));
        }
    }

    /// Refuses the key; the known one that was meant.
    fn unknown(&mut self, key: &str, known: &[&'s str]) -> Option<&'s str> {
        let nearest = known
            .iter()
            .map(|k| (*k, strsim::jaro_winkler(k, &key.to_ascii_lowercase())))
            .filter(|(_, near)| *near > 0.75)
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .map(|(k, _)| k);
        let meant = nearest.map_or_else(String::new, |k| format!("did you mean `{k}`? "));
        let hint = format!("{meant}known here: {}", known.join(", "));
        self.problems.push(Problem::key(&self.path, format!("unknown key {}", shown(key))).hint(hint));
        nearest
    }

    fn missing(&mut self, node: &Node, schema: &'s Value, required: &[&str]) {
        for key in required.iter().filter(|key| node.entry(key).is_none()) {
            let property = schema.pointer(&format!("/properties/{key}"));
            let hint = property.map_or_else(String::new, |p| about(p, key));
            self.refuse(format!("the key `{key}` is missing"), &hint);
        }
    }

    fn list(&mut self, items: &[Node], schema: &'s Value, about: &str) {
        let Some(each) = schema.get("items") else { return };
        for (i, item) in items.iter().enumerate() {
            self.path.push(i.to_string());
            self.value(item, each, about);
            self.path.pop();
        }
    }

    fn range(&mut self, value: &Value, schema: &'s Value, about: &str) {
        let Some(number) = value.as_f64().filter(|_| value.is_number()) else { return };
        let (low, high) = (bound(schema, "minimum"), bound(schema, "maximum").or_else(|| widest(schema)));
        let outside = low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high);
        if outside {
            let range = match (low, high) {
                (Some(low), Some(high)) if low >= high => format!("{low}"),
                (Some(low), Some(high)) => format!("{low} to {high}"),
                (Some(low), None) => format!("at least {low}"),
                (None, high) => format!("at most {}", high.unwrap_or_default()),
            };
            self.refuse(format!("this must be {range}, not {value}"), about);
        }
    }
}

fn alternatives(schema: &Value) -> Option<&[Value]> {
    schema.get("anyOf").or_else(|| schema.get("oneOf"))?.as_array().map(Vec::as_slice)
}

fn is_duration(schema: &Value) -> bool {
    schema.get("x-duration").is_some()
}

fn bound(schema: &Value, which: &str) -> Option<f64> {
    schema.get(which).and_then(Value::as_f64)
}

/// The largest number of the schema's integer type.
fn widest(schema: &Value) -> Option<f64> {
    match schema.get("format").and_then(Value::as_str)? {
        "uint8" => Some(f64::from(u8::MAX)),
        "uint16" => Some(f64::from(u16::MAX)),
        "uint32" => Some(f64::from(u32::MAX)),
        _ => None,
    }
}

fn required(schema: &Value) -> Vec<&str> {
    schema
        .get("required")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |keys| keys.iter().filter_map(Value::as_str).collect())
}

fn holds_required(node: &Node, schema: &Value) -> bool {
    required(schema).iter().any(|key| node.entry(key).is_some())
}

fn required_of(schemas: &[&&Value]) -> Vec<String> {
    schemas.iter().flat_map(|s| required(s)).map(|key| format!("`{key}`")).collect()
}

/// The words that a schema allows; none where it allows a shape.
fn words(schema: &Value) -> Vec<&str> {
    let one = schema.get("const").and_then(Value::as_str);
    let several = schema.get("enum").and_then(Value::as_array);
    one.into_iter().chain(several.into_iter().flatten().filter_map(Value::as_str)).collect()
}

/// What the schema says of a property, as a hint.
fn about(property: &Value, key: &str) -> String {
    let said = property.get("description").and_then(Value::as_str).unwrap_or_default();
    let line = said.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    if line.is_empty() { String::new() } else { format!("`{key}`: {line}") }
}

/// The schema's types, null left out.
fn types(schema: &Value) -> Vec<&str> {
    let types = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    types.into_iter().filter(|t| *t != "null").collect()
}

fn fits(node: &Node, schema: &Value) -> bool {
    let types = types(schema);
    let is = |t: &&str| match &node.data {
        Data::Map(_) => *t == "object",
        Data::List(_) => *t == "array",
        Data::Scalar(Value::String(_)) => *t == "string",
        Data::Scalar(Value::Bool(_)) => *t == "boolean",
        Data::Scalar(Value::Number(n)) => {
            *t == "number"
                || (*t == "integer" && (n.is_u64() || n.is_i64() || n.as_f64().is_some_and(|f| f > 1e18)))
        }
        Data::Scalar(_) => false,
    };
    let word = words(schema).is_empty() || node.as_str().is_some_and(|t| words(schema).contains(&t));
    types.iter().any(is) && word
}

fn expected(schema: &Value) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(" or ");
    }
    let names = types(schema).into_iter().map(|t| match t {
        "object" => "a map of keys and values",
        "array" => "a list",
        "string" => "text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        other => other,
    });
    names.collect::<Vec<_>>().join(" or ")
}

/// What a node is, for a message.
fn said(node: &Node) -> String {
    match &node.data {
        Data::Map(_) => "a map of keys and values".to_owned(),
        Data::List(_) => "a list".to_owned(),
        Data::Scalar(Value::Null) => "empty".to_owned(),
        Data::Scalar(Value::String(text)) => shown(text),
        Data::Scalar(value) => shown(&value.to_string()),
    }
}
