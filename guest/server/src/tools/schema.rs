//! Schemas of arguments and answers, derived from their types.
//!
//! Plain JSON Schema that every client understands: nothing refers to anything else, and nothing has a list of types,
//! because some clients map schemas to a dialect that knows only one.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

/// Keywords that say something about a value of any type.
const ANNOTATIONS: [&str; 3] = ["description", "default", "examples"];

/// The schema of what a tool takes.
pub(super) fn of_arguments<T: JsonSchema>() -> Arc<JsonObject> {
    root::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// The schema of what a tool answers with.
pub(super) fn of_answer<T: JsonSchema>() -> Arc<JsonObject> {
    root::<T>(SchemaSettings::draft2020_12().for_serialize())
}

fn root<T: JsonSchema>(settings: SchemaSettings) -> Arc<JsonObject> {
    let settings = settings.with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    plain(&mut schema);
    let Value::Object(mut schema) = schema else { return Arc::default() };
    // The name of the type.
    schema.remove("title");
    schema.entry("properties").or_insert_with(|| json!({}));
    Arc::new(schema)
}

/// Removes what is said about types themselves, and writes lists of types as alternatives.
fn plain(value: &mut Value) {
    match value {
        Value::Object(schema) => {
            // It comes from the documentation of a type, which is for programmers. What a field is for stays.
            if schema.get("type").is_some_and(|name| name == "object") {
                schema.remove("description");
            }
            if let Some(Value::Array(types)) = schema.get("type") {
                let types = types.clone();
                *schema = alternatives(std::mem::take(schema), &types);
            }
            schema.values_mut().for_each(plain);
        }
        Value::Array(values) => values.iter_mut().for_each(plain),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn alternatives(mut schema: Map<String, Value>, types: &[Value]) -> Map<String, Value> {
    schema.remove("type");
    let mut whole: Map<String, Value> =
        ANNOTATIONS.iter().filter_map(|name| Some(((*name).to_owned(), schema.remove(*name)?))).collect();
    let of = |name: &Value| {
        let mut one = if name == "null" { Map::new() } else { schema.clone() };
        one.insert("type".to_owned(), name.clone());
        Value::Object(one)
    };
    whole.insert("anyOf".to_owned(), types.iter().map(of).collect());
    whole
}
