//! What maip-dr knows about itself.

use clap::CommandFactory;
use maip_dr_core::{Error, Result, steps, topology};
use serde_json::json;

use crate::args::{Cli, Output};
use crate::output::{out, out_json};

pub(super) fn steps(output: Output) -> u8 {
    let registry = steps::registry();
    let width = registry.kinds().map(|k| k.kind.len()).max().unwrap_or(0);
    if output == Output::Json {
        let rows: Vec<_> = registry.kinds().map(|k| json!({ "kind": k.kind, "about": k.about })).collect();
        out_json(&rows);
        return 0;
    }
    for kind in registry.kinds() {
        let first = kind.about.split_inclusive(". ").next().unwrap_or(kind.about);
        out(&format!("{:width$}  {}\n", kind.kind, first.trim()));
    }
    0
}

pub(super) fn explain(kind: &str, output: Output) -> Result<u8> {
    let registry = steps::registry();
    let found = registry.kind(kind)?;
    let schema = (found.schema)();
    if output == Output::Json {
        out_json(&json!({ "kind": found.kind, "about": found.about, "with": schema }));
        return Ok(0);
    }
    out(&format!("{}\n\n{}\n\nParameters (`with`):\n", found.kind, wrapped(found.about)));
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let none = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    for (name, property) in properties {
        let needed = if required.iter().any(|r| r == name) { "" } else { " (optional)" };
        let about = property["description"].as_str().unwrap_or_default();
        out(&format!("  {name}{needed}: {about}\n"));
    }
    if properties.is_empty() {
        out("  none\n");
    }
    out(
        "\nIts calls, their Regions and the expected time depend on the topology: `maip-dr plan` shows them.\n",
    );
    Ok(0)
}

/// Lines of at most a hundred letters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, String::len);
        if line > 0 && line + word.len() >= 100 {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

pub(super) fn schema() -> u8 {
    let schema = topology::json_schema();
    match serde_json::to_string_pretty(&schema) {
        Ok(text) => out(&(text + "\n")),
        Err(e) => {
            crate::output::say_error(&Error::internal(format!("the schema cannot be shown: {e}")), false)
        }
    }
    0
}

pub(super) fn completions(shell: clap_complete::Shell) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "maip-dr", &mut text);
    out(&String::from_utf8_lossy(&text));
    0
}
