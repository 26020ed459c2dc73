//! The JSON Schema of the YAML, and the reference that is made from it: there is
//! no second list of keys.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::root::Raw;
use super::source::Document;

/// Columns of the reference.
const WIDTH: usize = 84;

/// The JSON Schema (2020-12) of the YAML: with it an editor completes and
/// explains a configuration.
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Raw>().to_value();
    tidy(&mut schema);
    schema
}

/// Takes out what says nothing: defaults of null, and those of whole sections,
/// whose keys say them.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("default").is_some_and(|d| d.is_null() || d.is_object() || empty(d)) {
                map.remove("default");
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                *text = paragraphs(text).join("\n\n");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_str().is_some_and(str::is_empty)
}

/// Where else a key is known, as in `isr`.
pub(super) fn sections_with(key: &str) -> Vec<String> {
    fn look(schema: &Value, section: &str, key: &str, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                for (word, inner) in map {
                    match (word.as_str(), inner) {
                        ("properties", Value::Object(keys)) => {
                            if keys.contains_key(key) && !found.iter().any(|f| f == section) {
                                found.push(section.to_owned());
                            }
                            for (name, schema) in keys {
                                look(schema, name, key, found);
                            }
                        }
                        ("default" | "examples", _) => {}
                        _ => look(inner, section, key, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| look(item, section, key, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    look(&schema(), "the top level", key, &mut found);
    found
}

/// Every key with its meaning, its default and an example: a configuration that
/// can be read.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut out = String::new();
    out.push_str(
        "# Every key of the configuration, with its meaning, its default and an example.\n",
    );
    out.push_str("# This file is made from the types that read it: see src/config.\n#\n");
    comment(&mut out, schema["description"].as_str().unwrap_or_default(), "");
    keys(&mut out, &schema, "");
    out
}

/// The keys of a section, each with its comment.
fn keys(out: &mut String, schema: &Value, indent: &str) {
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    for (name, schema) in known {
        describe(out, schema, indent);
        entry(out, name, schema, indent, 0);
    }
}

/// The meaning of a key, the values it can have, and its default.
fn describe(out: &mut String, schema: &Value, indent: &str) {
    if indent.is_empty() {
        out.push('\n');
    }
    let mut text = schema["description"].as_str().unwrap_or_default().to_owned();
    if let Some(choices) =
        schema["oneOf"].as_array().filter(|c| c.iter().all(|c| c["const"].is_string()))
    {
        let choices: Vec<String> = choices
            .iter()
            .map(|c| {
                let meaning = c["description"].as_str().unwrap_or_default();
                format!("`{}`: {meaning}", c["const"].as_str().unwrap_or_default())
            })
            .collect();
        let _ = write!(text, " {}.", choices.join("; "));
    }
    if let Some(default) = schema.get("default") {
        let _ = write!(text, " Default: `{}`.", flow(default));
    }
    comment(out, &text, indent);
}

/// A key with a value; `nth` picks among the examples.
fn entry(out: &mut String, name: &str, schema: &Value, indent: &str, nth: usize) {
    let deeper = format!("{indent}  ");
    if let Some(section) = section(schema) {
        let any = section["properties"].as_object().is_some_and(|keys| !keys.is_empty());
        let _ = writeln!(out, "{indent}{name}:{}", if any { "" } else { " {}" });
        keys(out, section, &deeper);
    } else if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        let _ = writeln!(out, "{indent}{name}:");
        named(out, &schema["propertyNames"]["examples"], values, &deeper);
    } else if let Some(items) = schema.get("items").filter(|items| section(items).is_some()) {
        let _ = writeln!(out, "{indent}{name}:");
        list(out, items, &deeper);
    } else {
        let _ = writeln!(out, "{indent}{name}: {}", flow(example(schema, nth)));
    }
}

/// The alternative of a schema that has keys of its own.
fn section(schema: &Value) -> Option<&Value> {
    if schema
        .get("type")
        .is_some_and(|t| t == "object" || *t == serde_json::json!(["object", "null"]))
        && schema.get("additionalProperties").is_none_or(|more| *more == Value::Bool(false))
    {
        return Some(schema);
    }
    alternatives(schema).find_map(section)
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    schema["anyOf"].as_array().into_iter().flatten()
}

/// A map of names that are free: the first one in its shortest form, the last in
/// its longest.
fn named(out: &mut String, names: &Value, values: &Value, indent: &str) {
    let names: Vec<&str> =
        names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (index, name) in names.iter().enumerate() {
        let short = alternatives(values).find(|v| section(v).is_none());
        match short.filter(|_| index + 1 < names.len()) {
            Some(short) => entry(out, name, short, indent, 0),
            None => entry(out, name, values, indent, 0),
        }
    }
}

/// A list of sections of which each has exactly one of several keys (`oneOf`):
/// one item for each of them, of which the first has all the other keys, too.
fn list(out: &mut String, items: &Value, indent: &str) {
    let alternative = |one: &Value| one["required"][0].as_str().map(str::to_owned);
    let exclusive: Vec<String> =
        items["oneOf"].as_array().into_iter().flatten().filter_map(alternative).collect();
    let required: Vec<&str> =
        items["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let none = Map::new();
    let known = items["properties"].as_object().unwrap_or(&none);
    let deeper = format!("{indent}  ");
    for (nth, own) in exclusive.iter().enumerate() {
        if nth > 0 {
            out.push('\n');
        }
        let mut item = String::new();
        for (name, schema) in known {
            let is_exclusive = exclusive.contains(name);
            if name != own && (is_exclusive || (nth > 0 && !required.contains(&name.as_str()))) {
                continue;
            }
            if nth == 0 || is_exclusive {
                describe(&mut item, schema, &deeper);
            }
            entry(&mut item, name, schema, &deeper, nth);
        }
        // The dash stands before the first line of the item that is a key.
        let mut dashed = false;
        for line in item.lines() {
            let key = line.strip_prefix(&deeper).filter(|rest| !rest.starts_with('#') && !dashed);
            match key {
                Some(key) => {
                    let _ = writeln!(out, "{indent}- {key}");
                    dashed = true;
                }
                None => {
                    let _ = writeln!(out, "{line}");
                }
            }
        }
    }
}

/// The n-th example, or the first, or the default.
fn example(schema: &Value, nth: usize) -> &Value {
    let examples = schema["examples"].as_array().map(Vec::as_slice).unwrap_or_default();
    examples.get(nth).or(examples.first()).unwrap_or(&schema["default"])
}

/// A value on one line, as YAML.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => {
            // Where YAML would take a plain one for something else, quotes do.
            let plain = Document::parse(text).map(|read| read.root.value);
            let same = matches!(plain, Ok(super::source::Value::Text(read)) if read == *text);
            if same && !text.contains([',', '{', '}', '[', ']']) || text.starts_with("${") {
                text.clone()
            } else {
                value.to_string()
            }
        }
        other => other.to_string(),
    }
}

/// Paragraphs of a doc comment, each on one line.
fn paragraphs(text: &str) -> Vec<String> {
    text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A comment, wrapped.
fn comment(out: &mut String, text: &str, indent: &str) {
    for (index, paragraph) in paragraphs(text).iter().enumerate() {
        if index > 0 {
            let _ = writeln!(out, "{indent}#");
        }
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let long = indent.len() + 2 + line.chars().count() + 1 + word.chars().count() > WIDTH;
            if long && !line.is_empty() {
                let _ = writeln!(out, "{indent}# {line}");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            let _ = writeln!(out, "{indent}# {line}");
        }
    }
}
