//! How the documents and both pages are sent: small, compressed, cacheable, and with a strict security policy.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

use disposable_chat::web::PAGE_PARTS;
use flate2::read::GzDecoder;

use crate::client::{Answer, Http, Request, get, request};
use crate::server::Server;

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

const DOCS: &[(&str, &str)] = &[
    ("/openapi.json", JSON),
    ("/asyncapi.json", JSON),
    ("/docs", HTML),
    ("/docs.js", SCRIPT),
    ("/docs.css", STYLE),
];

/// The chat page and all that it loads.
fn chat_page() -> Vec<(String, &'static str)> {
    let parts = PAGE_PARTS.iter().map(|(name, part)| (format!("/page/{name}"), part.content_type));
    let others = [("/", HTML), ("/client.js", SCRIPT), ("/sw.js", SCRIPT)];
    others.map(|(path, kind)| (path.to_owned(), kind)).into_iter().chain(parts).collect()
}

/// The client module and its types.
fn client() -> Vec<(String, &'static str)> {
    vec![("/client.js".to_owned(), SCRIPT), ("/client.d.ts".to_owned(), TEXT)]
}

fn docs() -> Vec<(String, &'static str)> {
    DOCS.iter().map(|(path, content_type)| ((*path).to_owned(), *content_type)).collect()
}

fn files() -> Vec<(String, &'static str)> {
    // The page loads the client module.
    [chat_page(), docs(), client().split_off(1)].concat()
}

/// Checks the sum of what the responses to `ask(path)` have as their content.
#[track_caller]
fn check_size(files: &[(String, &str)], ask: fn(&str) -> Request, kib: usize) {
    let server = Server::start(&[]);
    let sizes = files.iter().map(|(path, _)| server.ask(ask(path)).expect(200).body.len());
    let total: usize = sizes.sum();
    assert!(total <= kib * 1024, "{total} bytes");
}

#[test]
fn the_documents_and_their_page_have_at_most_80_kib() {
    check_size(&docs(), get, 80);
}

#[test]
fn the_chat_page_and_what_it_loads_have_at_most_100_kib_and_34_kib_as_sent() {
    // Of the languages a browser loads one.
    const LANGUAGES: [&str; 3] = ["/page/en.js", "/page/pt.js", "/page/es.js"];
    for language in LANGUAGES {
        let mut page = chat_page();
        page.retain(|(path, _)| path == language || !LANGUAGES.contains(&path.as_str()));
        check_size(&page, get, 100);
        // Loaded when a button is pressed.
        page.retain(|(path, _)| path != "/page/extras.js");
        check_size(&page, |path| get(path).field("Accept-Encoding", "gzip"), 34);
    }
}

// contract §11.9
#[test]
fn the_client_module_is_one_file_of_at_most_20_kib_and_its_types_have_its_names() {
    check_size(&client()[..1], get, 20);
    let server = Server::start(&[]);
    let types = server.ask(get("/client.d.ts")).expect(200).text();
    // Minified, it has one line.
    let module = fs::read_to_string("src/web/client.js").expect("tests run at the root");
    assert!(!module.contains("import "), "it has no dependency");
    let exports = |text: &str, kinds: &[&str]| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("export "));
        let names = lines.filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)));
        let end = |c: char| !c.is_alphanumeric() && c != '_';
        names.filter_map(|rest| rest.split(end).next()).map(str::to_owned).collect()
    };
    let names = exports(&module, &["const ", "class "]);
    assert!(names.contains("connect"), "{names:?}");
    assert_eq!(names, exports(&types, &["const ", "class ", "function "]));
}

#[test]
fn each_part_has_the_content_type_of_its_extension() {
    for (path, content_type) in chat_page() {
        let expected = match path.rsplit_once('.').map(|(_, extension)| extension) {
            None => HTML,
            Some("js") => SCRIPT,
            Some("css") => STYLE,
            Some("webmanifest") => "application/manifest+json",
            Some("svg") => "image/svg+xml",
            Some(other) => panic!("{other}"),
        };
        assert_eq!(content_type, expected, "{path}");
    }
    let server = Server::start(&[]);
    for path in
        ["/page", "/page/", "/page/index.html", "/page/x.js", "/page/page/main.js", "/main.js"]
    {
        server.ask(get(path)).refused(404, "not_found");
    }
}

#[test]
fn each_file_has_a_content_type_an_etag_and_the_security_policy() {
    let server = Server::start(&[]);
    for (path, content_type) in files() {
        let with_slash = format!("{}/", path.trim_end_matches('/'));
        for path in [path, with_slash] {
            let answer = server.ask(get(&path)).expect(200);
            assert_eq!(answer.field("Content-Type"), Some(content_type), "{path}");
            assert_eq!(answer.field("Cache-Control"), Some("no-cache"));
            assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));
            assert_eq!(answer.field("Referrer-Policy"), Some("no-referrer"));
            let policy = answer.field("Content-Security-Policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'; "), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
            let etag = answer.field("ETag").expect("a tag");
            assert!(etag.len() == 18 && etag.starts_with('"') && etag.ends_with('"'), "{etag}");

            let head = server.ask(request("HEAD", &path)).expect(200);
            let without_date = |answer: &Answer| {
                let fields = answer.fields.iter().filter(|(name, _)| name != "Date");
                fields.cloned().collect::<Vec<_>>()
            };
            assert_eq!(without_date(&head), without_date(&answer), "{path}");
        }
    }
}

#[test]
fn each_file_is_compressed_for_clients_that_accept_gzip() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for (path, content_type) in files() {
        let plain = http.ask(&get(&path)).expect(200);
        assert_eq!(plain.field("Content-Encoding"), None, "{path}");
        for accepted in ["identity", "br, gzip;q=0", "gzip;q=0.5, identity"] {
            let answer = http.ask(&get(&path).field("Accept-Encoding", accepted)).expect(200);
            assert_eq!(answer.field("ETag"), plain.field("ETag"), "{path} {accepted}");
            assert_eq!(answer.body, plain.body, "{path} {accepted}");
        }
        let by_browsers = "gzip, deflate, br, zstd";
        let answer = http.ask(&get(&path).field("Accept-Encoding", by_browsers)).expect(200);
        assert_eq!(answer.field("Content-Encoding"), Some("gzip"), "{path}");
        assert_eq!(answer.field("Content-Type"), Some(content_type), "{path}");
        assert_ne!(answer.field("ETag"), plain.field("ETag"), "{path}");
        for answer in [&plain, &answer] {
            assert_eq!(answer.field("Vary"), Some("Accept-Encoding, Origin"), "{path}");
        }
        assert!(answer.body.len() < plain.body.len(), "{path}");
        let mut content = Vec::new();
        GzDecoder::new(&*answer.body).read_to_end(&mut content).expect("gzip");
        assert_eq!(content, plain.body, "{path}");

        let head = request("HEAD", &path).field("Accept-Encoding", by_browsers);
        http.send_request(&head);
        let head = http.answer_to("HEAD").expect(200);
        assert_eq!(head.field("Content-Encoding"), Some("gzip"), "{path}");
        assert_eq!(head.field("Content-Length"), answer.field("Content-Length"), "{path}");
    }
}

#[test]
fn an_unchanged_file_is_304() {
    let server = Server::start(&[]);
    let mut http = server.http();
    // A 304 has no content and no length, like a response to HEAD.
    let unchanged = |http: &mut Http, path: &str, tags: &str| {
        http.send_request(&get(path).field("If-None-Match", tags));
        http.answer_to("HEAD").expect(304)
    };
    for (path, _) in &files() {
        let etag = http.ask(&get(path)).field("ETag").expect("a tag").to_owned();
        for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\",  {etag}"), "*".to_owned()] {
            let answer = unchanged(&mut http, path, &tags);
            assert_eq!(answer.field("ETag"), Some(&*etag));
            assert_eq!(answer.field("Content-Type"), None);
            assert_eq!(answer.field("Vary"), Some("Accept-Encoding, Origin"));
            assert_eq!(answer.field("Content-Encoding"), None);
        }
        for tags in ["", "\"x\"", etag.trim_matches('"'), &etag.to_ascii_uppercase()] {
            let changed = tags != etag;
            let status = http.ask(&get(path).field("If-None-Match", tags)).status;
            assert!(!changed || status == 200, "{path} {tags}");
        }
    }
}

#[test]
fn compressed_and_plain_forms_have_different_etags() {
    let server = Server::start(&[]);
    let mut http = server.http();
    for (path, _) in &files() {
        let accepts = |coding: &str| get(path).field("Accept-Encoding", coding);
        let tag_of = |http: &mut Http, coding: &str| {
            http.ask(&accepts(coding)).expect(200).field("ETag").expect("a tag").to_owned()
        };
        let (plain, compressed) = (tag_of(&mut http, "identity"), tag_of(&mut http, "gzip"));
        for (coding, own, other) in
            [("identity", &plain, &compressed), ("gzip", &compressed, &plain)]
        {
            http.ask(&accepts(coding).field("If-None-Match", other)).expect(200);
            let both = format!("{other}, {own}");
            http.send_request(&accepts(coding).field("If-None-Match", &both));
            let answer = http.answer_to("HEAD").expect(304);
            assert_eq!(answer.field("ETag"), Some(&**own), "{path}");
        }
    }
}

/// Relative links work with and without a final slash, and behind a prefix.
#[test]
fn links_are_relative_and_lead_to_existing_files() {
    let server = Server::start(&[]);
    for (page, folder) in [("/", "/"), ("/docs", "/"), ("/docs/", "/docs/")] {
        let html = server.ask(get(page)).expect(200).text();
        let links =
            ["href=\"", "src=\""].iter().flat_map(|attribute| html.split(attribute).skip(1));
        let links: Vec<_> = links.map(|rest| rest.split('"').next().expect("a value")).collect();
        assert!(links.len() >= 4, "{links:?}");
        for link in links.into_iter().filter(|link| *link != "data:,") {
            assert!(!link.contains([':', '?', '#']) && !link.starts_with('/'), "{link}");
            // The folder of the page. Its script corrects it under `/docs/`.
            if link == "." {
                continue;
            }
            let direct = server.ask(get(&format!("/{link}"))).expect(200);
            let answer = server.ask(get(&format!("{folder}{link}"))).expect(200);
            assert_eq!(answer.body, direct.body, "{folder}{link}");
        }
    }
    server.ask(get("/docs/docs")).refused(404, "not_found");
}

/// Regression: the names of a classic script are global, so that `let you`, pasted into the console, failed as
/// a second declaration.
#[test]
fn the_script_of_the_documents_is_a_module() {
    let server = Server::start(&[]);
    let html = server.ask(get("/docs")).expect(200).text();
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains(r#"<script src="docs.js" type="module">"#));
}

/// The security policy would block both.
// contract §11.1 §11.2
#[test]
fn pages_use_no_foreign_files_and_no_inline_code() {
    let server = Server::start(&[]);
    for (path, _) in files() {
        let mut text = server.ask(get(&path)).expect(200).text();
        for name in NOT_REQUESTED {
            text = text.replace(name, "");
        }
        assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
        for name in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(name), "{path}: {name}");
        }
    }
    for page in ["/", "/docs"] {
        let html = server.ask(get(page)).expect(200).text();
        for inline in ["<style", " style=", "javascript:", "<script>", " on"] {
            assert!(!html.contains(inline) || inline == " on" && !has_handler(&html), "{inline}");
        }
    }
}

/// The namespace of SVG, and what the documents say about themselves: no page requests these.
const NOT_REQUESTED: [&str; 3] = [
    "http://www.w3.org/2000/svg",
    "https://spdx.org/licenses/MIT.html",
    "https://disposable-chat.example",
];

/// Whether there is an attribute like `onclick=`.
fn has_handler(html: &str) -> bool {
    html.split(" on").skip(1).any(|rest| {
        let name = rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        !name.is_empty() && rest[name.len()..].starts_with('=')
    })
}
