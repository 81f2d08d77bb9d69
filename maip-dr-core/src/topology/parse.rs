//! Text or data to [`Topology`], with the place of everything that is wrong.

use serde_json::{Map, Value, json};

use crate::error::Result;
use crate::topology::document::Node;
use crate::topology::problem::{self, Problem};
use crate::topology::{Topology, secrets, structure, validate};

/// What a path starts with where the topology came as data.
const DATA: &str = "topology";

/// Reads a topology file (YAML or JSON) and checks it.
///
/// # Errors
/// `Invalid`: every problem at once, each with line, column, what is wrong and what would be right. Nothing that
/// looks like a secret is repeated.
pub fn parse(text: &str, file: &str) -> Result<Topology> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let refuse = |root: Option<&Node>, problems| problem::error(file, root, problems);
    let secrets = secrets::in_text(text);
    if !secrets.is_empty() {
        return Err(refuse(None, secrets));
    }
    let root = Node::from_text(text).map_err(|problem| refuse(None, vec![problem]))?;
    read(&root).map_err(|problems| refuse(Some(&root), problems))
}

/// Reads a topology that came as data and checks it.
///
/// # Errors
/// `Invalid`: every problem at once, each with its path, what is wrong and what would be right.
pub fn parse_json(value: Value) -> Result<Topology> {
    let root = Node::from_value(&value).map_err(|problem| problem::error(DATA, None, vec![problem]))?;
    read(&root).map_err(|problems| problem::error(DATA, Some(&root), problems))
}

/// The topology that `root` is: secrets first, so that no later message can repeat one.
fn read(root: &Node) -> Result<Topology, Vec<Problem>> {
    let secrets = secrets::in_tree(root);
    if !secrets.is_empty() {
        return Err(secrets);
    }
    let mut problems = structure::check(root, &marked_schema());
    match serde_json::from_value::<Topology>(root.to_value()) {
        Ok(topology) => {
            problems.extend(validate::validate(&topology));
            if problems.is_empty() { Ok(topology) } else { Err(problems) }
        }
        Err(_) if !problems.is_empty() => Err(problems),
        Err(error) => Err(vec![Problem::new::<&str>(&[], secrets::hide(&error.to_string()))]),
    }
}

/// The JSON Schema of the topology file, made from the types it is read into.
pub fn json_schema() -> Value {
    let mut schema = marked_schema();
    if let Some(duration) = duration_of(&mut schema) {
        duration.remove("x-duration");
    }
    schema
}

/// The schema, in which the definition of a duration carries a mark of its own.
fn marked_schema() -> Value {
    let mut schema = schemars::schema_for!(Topology).to_value();
    if let Some(duration) = duration_of(&mut schema) {
        duration.insert("pattern".into(), json!(r"^\s*([0-9]+\s*[a-zA-Z]+\s*)+$"));
        duration.insert("x-duration".into(), json!(true));
    }
    schema
}

fn duration_of(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.pointer_mut("/$defs/Duration")?.as_object_mut()
}
