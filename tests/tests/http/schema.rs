//! Checks JSON against the schemas of an OpenAPI 3.1 document: as much of JSON Schema as ours use, and strictly.
//!
//! Stricter than JSON Schema in one point: a field that the schema does not name is a fault, for it is one the
//! document hides from its readers.

use serde_json::Value;

/// Lists what is wrong with a value, each with its place.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(document, schema, value, "$", &mut faults);
    faults
}

/// Follows `#/components/…`.
pub(crate) fn resolve<'a>(document: &'a Value, reference: &str) -> &'a Value {
    let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
    document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return check(document, resolve(document, reference), value, at, faults);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(options) = schema[choice].as_array() {
            let fits = |option| {
                let mut missed = Vec::new();
                check(document, option, value, at, &mut missed);
                missed.is_empty()
            };
            if !options.iter().any(fits) {
                faults.push(format!("{at} fits none of {choice}: {value}"));
            }
        }
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        faults.push(format!("{at} is {value}, not one of {allowed:?}"));
    }
    check_type(schema, value, at, faults);
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            check(document, items, value, &format!("{at}[{index}]"), faults);
        }
    }
    check_fields(document, schema, value, at, faults);
}

fn check_type(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let is = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} at {at} is unheard of"),
    };
    let name = &schema["type"];
    let fits = name.as_array().map_or_else(|| name.is_null() || is(name), |names| names.iter().any(is));
    if !fits {
        faults.push(format!("{at} is {value}, not {}", schema["type"]));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        faults.push(format!("{at} is {number}, below {least}"));
    }
}

fn check_fields(document: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(fields) = value.as_object() else { return };
    let (known, others) = (&schema["properties"], &schema["additionalProperties"]);
    if known.is_null() && others.is_null() {
        return;
    }
    for (name, value) in fields {
        match known.get(name).or_else(|| others.is_object().then_some(others)) {
            Some(schema) => check(document, schema, value, &format!("{at}.{name}"), faults),
            None => faults.push(format!("{at}.{name} is not in the document")),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if fields.get(name.as_str().unwrap()).is_none() {
            faults.push(format!("{at} lacks {name}"));
        }
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let document =
        serde_json::json!({"components": {"schemas": {"Kind": {"type": "string", "enum": ["a", "b"]}}}});
    let schema = serde_json::json!({
        "type": "object",
        "required": ["kind", "count"],
        "properties": {
            "kind": {"$ref": "#/components/schemas/Kind"},
            "count": {"type": "integer", "minimum": 0},
            "maybe": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Kind"}]},
            "list": {"type": "array", "items": {"type": ["string", "null"]}},
        }
    });
    for (value, found) in [
        (r#"{"kind": "a", "count": 1, "maybe": null, "list": ["x", null]}"#, 0),
        (r#"{"kind": "c", "count": 1}"#, 1),
        (r#"{"kind": "a"}"#, 1),
        (r#"{"kind": "a", "count": -1}"#, 1),
        (r#"{"kind": "a", "count": "1"}"#, 1),
        (r#"{"kind": "a", "count": 1, "more": 1}"#, 1),
        (r#"{"kind": "a", "count": 1, "maybe": "c", "list": [1]}"#, 2),
        ("[]", 1),
    ] {
        let faults = faults(&document, &schema, &serde_json::from_str(value).unwrap());
        assert_eq!(faults.len(), found, "{value}: {faults:?}");
    }
}
