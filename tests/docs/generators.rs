//! What code generators and linters need of the documents: a name for each operation and each schema, unions that can
//! be told apart, and examples that are valid. `.ci/documents` runs the generators and the linters themselves.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::document::{Document, operations};

/// The operations of the OpenAPI document.
fn all_operations(document: &Document) -> Vec<&Value> {
    let paths = document.0["paths"].as_object().expect("paths").values();
    paths.flat_map(|path| operations(path).map(|(_, operation)| operation)).collect()
}

/// Calls `visit` with each object below `value`, and with its path.
fn each_object(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            visit(path, value);
            for (name, field) in fields {
                each_object(field, &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(all) => all.iter().for_each(|one| each_object(one, path, visit)),
        _ => {}
    }
}

// contract §11.6
#[test]
fn every_operation_has_an_id_a_summary_a_description_and_a_tag() {
    let document = Document::openapi();
    let tags = document.0["tags"].as_array().expect("tags");
    let tags: BTreeSet<_> = tags.iter().map(|tag| &tag["name"]).map(Value::to_string).collect();
    let mut ids = BTreeSet::new();
    for operation in all_operations(&document) {
        let id = operation["operationId"].as_str().expect("an id");
        let is_camel_case = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.bytes().all(|byte| byte.is_ascii_alphabetic());
        assert!(is_camel_case, "{id}");
        assert!(ids.insert(id), "{id} twice");
        for text in ["summary", "description"] {
            assert!(operation[text].as_str().is_some_and(|text| !text.is_empty()), "{id}: {text}");
        }
        assert!(tags.contains(&operation["tags"][0].to_string()), "{id}");
    }
    for (method, path, id) in [
        ("post", "/sessions", "createSession"),
        ("post", "/rooms/{room_id}/join", "joinRoom"),
        ("get", "/rooms/all", "listRooms"),
    ] {
        assert_eq!(document.0["paths"][path][method]["operationId"], id);
    }
}

// contract §11.6
#[test]
fn every_schema_of_a_body_has_a_name() {
    let document = Document::openapi();
    let mut bodies = 0;
    each_object(&document.0, "", &mut |path, object| {
        if path.rsplit('/').nth(2) == Some("content") {
            let name = object["schema"]["$ref"].as_str().unwrap_or_default();
            assert!(name.starts_with("#/components/schemas/"), "{path}: {}", object["schema"]);
            bodies += 1;
        }
    });
    assert!(bodies > 20, "{bodies}");
    for document in [Document::openapi(), Document::asyncapi()] {
        each_object(&document.0, "", &mut |path, object| {
            let is_named =
                path.strip_prefix("/components/schemas/").is_some_and(|name| !name.contains('/'));
            let is_of_bindings = path == "/channels/room/bindings/ws/query";
            assert!(object.get("properties").is_none() || is_named || is_of_bindings, "{path}");
        });
    }
}

// contract §11.7
#[test]
fn the_members_of_a_union_of_events_are_told_apart_by_type() {
    let document = Document::openapi();
    let mut unions = 0;
    for (name, schema) in document.0["components"]["schemas"].as_object().expect("schemas") {
        let Some(members) = schema["oneOf"].as_array() else { continue };
        unions += 1;
        assert_eq!(schema["discriminator"]["propertyName"], "type", "{name}");
        let mapping = schema["discriminator"]["mapping"].as_object().expect("a mapping");
        assert_eq!(mapping.len(), members.len(), "{name}");
        for (kind, target) in mapping {
            assert!(members.contains(&json!({ "$ref": target })), "{name}: {kind}");
            let member = document.resolve(&json!({ "$ref": target })).clone();
            assert_eq!(member["properties"]["type"], json!({ "const": kind }), "{name}");
            assert!(member["required"].as_array().expect("names").contains(&json!("type")));
        }
    }
    assert!(unions > 0);
}

/// Regression: a union of two arrays, of which generators took the first one for both forms.
// contract §11.7
#[test]
fn the_forms_of_public_rooms_differ_in_the_items() {
    let document = Document::openapi();
    let rooms = &document.0["components"]["schemas"]["PublicRooms"]["properties"]["rooms"];
    assert_eq!(rooms["type"], "array");
    let items = rooms["items"]["oneOf"].as_array().expect("a union");
    let types: Vec<_> = items.iter().map(|one| &document.resolve(one)["type"]).collect();
    assert_eq!(types, ["object", "string"]);
}

/// openapi-python-client 0.29 generates a syntax error for an optional constant.
// contract §11.6
#[test]
fn no_optional_field_is_a_constant() {
    for document in [Document::openapi(), Document::asyncapi()] {
        each_object(&document.0, "", &mut |path, object| {
            for (name, schema) in object["properties"].as_object().into_iter().flatten() {
                let required = object["required"].as_array();
                let is_required = required.is_some_and(|names| names.contains(&json!(name)));
                assert!(is_required || schema.get("const").is_none(), "{path}: {name}");
            }
        });
    }
}

// contract §11.8
#[test]
fn every_event_has_an_example_and_every_example_is_valid() {
    let events = Document::asyncapi();
    let messages = events.0["channels"]["room"]["messages"].as_object().expect("messages");
    for (name, message) in messages {
        let example = &message["examples"][0]["payload"];
        assert_eq!(events.mismatch(&message["payload"], example), None, "{name}");
    }
    for document in [Document::openapi(), events] {
        for (name, schema) in document.0["components"]["schemas"].as_object().expect("schemas") {
            for example in schema["examples"].as_array().into_iter().flatten() {
                assert_eq!(document.mismatch(schema, example), None, "{name}");
                let known = schema["properties"].as_object().into_iter().flatten();
                let known: BTreeSet<_> = known.map(|(name, _)| name).collect();
                for field in example.as_object().into_iter().flatten() {
                    assert!(known.contains(field.0), "{name}: {}", field.0);
                }
            }
        }
    }
}

/// `/docs` fills in its forms with them.
// contract §11.2
#[test]
fn every_body_of_a_request_has_an_example() {
    let document = Document::openapi();
    for operation in all_operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if body.is_object() {
            let example = &document.resolve(body)["examples"][0];
            assert!(example.is_object(), "{}", operation["operationId"]);
        }
    }
}

// contract §11.8
#[test]
fn servers_and_operations_of_the_socket_name_its_credentials() {
    let document = Document::asyncapi();
    let servers = document.0["servers"].as_object().expect("servers").values();
    let operations = document.0["operations"].as_object().expect("operations").values();
    let mut count = 0;
    for one in servers.chain(operations) {
        let schemes = one["security"].as_array().expect("schemes").iter();
        let types: Vec<_> = schemes.map(|scheme| &document.resolve(scheme)["type"]).collect();
        assert_eq!(types, ["http", "httpApiKey"]);
        count += 1;
    }
    assert_eq!(count, 4);
}
