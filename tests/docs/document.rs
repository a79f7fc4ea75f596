//! Compares responses with the OpenAPI document and records which of the documented ones have been seen.

use std::collections::BTreeSet;

use serde_json::{Value, from_slice};

use crate::client::{Answer, Request};
use crate::server::Server;

/// The OpenAPI or the AsyncAPI document.
pub struct Document(pub Value);

impl Document {
    pub fn openapi() -> Document {
        Document(from_slice(&disposable_chat::web::OPENAPI.content()).expect("JSON"))
    }

    pub fn asyncapi() -> Document {
        Document(from_slice(&disposable_chat::web::ASYNCAPI.content()).expect("JSON"))
    }

    /// The target of a `$ref`, or the value itself.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.strip_prefix('#').expect("within the document");
        let target = self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} has no target"));
        assert_eq!(
            value.as_object().map(|object| object.len()),
            Some(1),
            "fields beside {reference}"
        );
        self.resolve(target)
    }

    /// The reason why `value` does not match `schema`, if so. Panics on keywords that the documents have not used so far.
    pub fn mismatch(&self, schema: &Value, value: &Value) -> Option<String> {
        for (keyword, wanted) in schema.as_object().expect("a schema is an object") {
            let items = || value.as_array().into_iter().flatten();
            let fits = match keyword.as_str() {
                "$ref" => {
                    let target = serde_json::json!({ "$ref": wanted });
                    match self.mismatch(self.resolve(&target), value) {
                        Some(mismatch) => return Some(mismatch),
                        None => true,
                    }
                }
                "description" | "default" | "examples" => true,
                // The constants of the union's members say the same.
                "discriminator" => true,
                // Bounds on what clients send. Other tests show how the server applies them.
                "minLength" | "maxLength" | "minimum" | "maximum" => true,
                "type" => match wanted {
                    Value::Array(types) => types.iter().any(|one| is_of_type(one, value)),
                    one => is_of_type(one, value),
                },
                "const" => value == wanted,
                "enum" => wanted.as_array().expect("an array").contains(value),
                // Of strings only, where there may be null, too.
                "pattern" | "format" => value.as_str().is_none_or(|text| has_form(wanted, text)),
                "items" => match items().find_map(|item| self.mismatch(wanted, item)) {
                    Some(mismatch) => return Some(mismatch),
                    None => true,
                },
                "oneOf" => {
                    let schemas = wanted.as_array().expect("an array").iter();
                    schemas.filter(|one| self.mismatch(one, value).is_none()).count() == 1
                }
                "required" => {
                    let mut names = wanted.as_array().expect("an array").iter();
                    names.all(|name| value.get(name.as_str().expect("a name")).is_some())
                }
                "properties" => {
                    let mut fields = wanted.as_object().expect("an object").iter();
                    let mismatch = fields.find_map(|(name, schema)| {
                        let mismatch = self.mismatch(schema, value.get(name)?)?;
                        Some(format!("{name}: {mismatch}"))
                    });
                    if mismatch.is_some() {
                        return mismatch;
                    }
                    true
                }
                other => panic!("unsupported keyword {other}"),
            };
            if !fits {
                return Some(format!("{value} does not match {keyword} {wanted}"));
            }
        }
        None
    }
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    match wanted.as_str().expect("a type's name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("unsupported type {other}"),
    }
}

/// The patterns and formats that the documents use.
fn has_form(wanted: &Value, text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    match wanted.as_str().expect("a string") {
        "^[0-9a-f]{10}([0-9a-f]{22})?$" => hex(text) && [10, 32].contains(&text.len()),
        "^[0-9a-f]{16}$" => hex(text) && text.len() == 16,
        "uuid" => hex(&text.replace('-', "")) && text.len() == 36,
        "date-time" => text.len() == "2025-08-19T13:45:00.123456Z".len() && text.ends_with('Z'),
        // What clients send: `.ci/documents` compares these patterns with the server.
        request if request.contains("\\u") => true,
        other => panic!("unsupported pattern or format {other}"),
    }
}

/// Sends requests and compares each response with the document.
pub struct Checker {
    pub document: Document,
    /// Path, method and key of the documented responses that have come. The key is a status or `default`.
    seen: BTreeSet<(String, String, String)>,
    /// Status and code of the errors that have come.
    pub errors: BTreeSet<(u16, String)>,
}

impl Checker {
    pub fn new() -> Checker {
        let document = Document::openapi();
        Checker { document, seen: BTreeSet::new(), errors: BTreeSet::new() }
    }

    /// Sends a request to a documented operation, and asserts the status and that the response is documented.
    #[track_caller]
    pub fn ask(&mut self, server: &Server, path: &str, request: Request, status: u16) -> Answer {
        let mut http = server.http();
        http.send_request(&request);
        let method = method_of(&request);
        // A 304 has no content and no length, like a response to HEAD.
        let answer = http.answer_to(if status == 304 { "HEAD" } else { &method });
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        self.check(path, &method, &answer);
        answer
    }

    /// Like `ask`, and asserts the code of the error.
    #[track_caller]
    pub fn refused(&mut self, at: &Server, path: &str, request: Request, status: u16, code: &str) {
        let answer = self.ask(at, path, request, status);
        assert_eq!(answer.json()["code"], code, "{path}: {}", answer.text());
    }

    /// Asserts that the response is one of the operation's documented ones.
    #[track_caller]
    pub fn check(&mut self, path: &str, method: &str, answer: &Answer) {
        let document = &self.document;
        let operation = &document.0["paths"][path][method.to_ascii_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not documented");
        let what = format!("{method} {path} {}: {}", answer.status, answer.text());
        let status = answer.status.to_string();
        let responses = &operation["responses"];
        let key = if responses[&status].is_object() { &status } else { "default" };
        let response = document.resolve(&responses[key]);
        assert!(response.is_object(), "{what}: not documented");

        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let required = document.resolve(header)["required"] == true;
            assert!(!required || answer.field(name).is_some(), "{what}: without {name}");
        }
        let content = response["content"].as_object();
        let media_type = answer.field("Content-Type").and_then(|value| value.split(';').next());
        match (content, media_type) {
            (None, None) => {}
            (Some(content), Some(media_type)) => {
                let schema = &content.get(media_type).expect("a documented type")["schema"];
                if media_type == "application/json" {
                    let mismatch = document.mismatch(schema, &answer.json());
                    assert!(mismatch.is_none(), "{what}: {}", mismatch.unwrap_or_default());
                }
            }
            _ => panic!("{what}: {media_type:?}, but documented is {content:?}"),
        }
        if answer.status >= 400 {
            let body = answer.json();
            let code = body["code"].as_str().expect("a code");
            let pair = (answer.status, code.to_owned());
            let named = key != "default" && codes(response).any(|one| one == code);
            let general = self.general_errors().contains(&pair);
            assert!(named || general, "{what}: this code is not documented");
            self.errors.insert(pair);
        }
        self.seen.insert((path.to_owned(), method.to_owned(), key.to_owned()));
    }

    /// The errors that any operation may answer, from the description of `default`.
    pub fn general_errors(&self) -> BTreeSet<(u16, String)> {
        let response = &self.document.0["components"]["responses"]["any"];
        errors_in(response["description"].as_str().expect("a description"))
    }

    /// Asserts that every documented response of these paths has been seen, except for those in `unprovoked`.
    #[track_caller]
    pub fn expect_all_of(&self, paths: &[&str], unprovoked: &[(&str, &str, &str)]) {
        let mut missing = Vec::new();
        for path in paths {
            for (method, operation) in operations(&self.document.0["paths"][path]) {
                let responses = operation["responses"].as_object().expect("responses");
                for status in responses.keys().filter(|key| *key != "default") {
                    let method = method.to_ascii_uppercase();
                    let excused = unprovoked.contains(&(&method, path, status));
                    let key = (path.to_string(), method.clone(), status.clone());
                    assert!(!(excused && self.seen.contains(&key)), "{key:?} has been seen");
                    if !excused && !self.seen.contains(&key) {
                        missing.push(format!("{method} {path} {status}"));
                    }
                }
            }
        }
        assert!(missing.is_empty(), "documented but not seen: {missing:#?}");
    }
}

/// The errors that a text names: ``400 `code` (…), 503 `code` or `code` ``.
pub fn errors_in(text: &str) -> BTreeSet<(u16, String)> {
    let mut status = 0;
    let mut errors = BTreeSet::new();
    for word in text.split([' ', ',', '.', ':']) {
        if let (3, Ok(number)) = (word.len(), word.parse()) {
            status = number;
        }
        if let Some(code) = word.strip_prefix('`').and_then(|word| word.strip_suffix('`')) {
            errors.insert((status, code.to_owned()));
        }
    }
    errors
}

pub fn method_of(request: &Request) -> String {
    let bytes = request.bytes("");
    bytes.iter().take_while(|byte| **byte != b' ').map(|byte| char::from(*byte)).collect()
}

/// The codes in the description of a response.
pub fn codes(response: &Value) -> impl Iterator<Item = &str> {
    let text = response["description"].as_str().unwrap_or_default();
    text.split('`').skip(1).step_by(2)
}

/// The operations of a path, by method in lower case.
pub fn operations(path: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let item = path.as_object().expect("a path is documented");
    item.iter().filter(|(_, one)| one["operationId"].is_string())
}
