//! The guide's page on several servers: each of its commands and configurations is tried.

use std::process::Stdio;

use serde_json::json;

use crate::client::{post, upgrade};
use crate::nodes::Nodes;
use crate::proxy::{Front, Recipe};
use crate::server::{Server, command};
use crate::stores::{RIGHTS, Store};

const PAGE: &str = include_str!("../../src/guide/cluster.md");

/// The code blocks in `language`, each as its lines.
fn blocks(language: &str) -> Vec<Vec<&'static str>> {
    let fence = format!("```{language}\n");
    let blocks = PAGE.split(&*fence).skip(1).map(|rest| rest.split("```").next().expect("its end"));
    blocks.map(|block| block.lines().collect()).collect()
}

#[test]
fn two_commands_start_two_servers_that_share_rooms() {
    Store::each(|store| {
        let block = blocks("sh").into_iter().next().expect("the first block");
        let commands = block.iter().filter_map(|line| {
            line.strip_prefix("target/release/disposable-chat ")?.strip_suffix(" &")
        });
        let servers: Vec<Server> = commands
            .map(|flags| {
                let (url, port) =
                    (store.url(), flags.split_whitespace().nth(1).expect("an address"));
                let flags = flags.replace("redis://127.0.0.1", &url).replace(port, "127.0.0.1:0");
                let flags: Vec<&str> = flags.split_whitespace().collect();
                let mut command = command(&flags, &[]);
                command.stdout(Stdio::null());
                Server::spawn(command, 1)
            })
            .collect();
        let [first, second] = &servers[..] else { panic!("two commands: {block:#?}") };
        crate::server::wait_until("both have the store", || {
            [first, second].iter().all(|server| server.health()["store"] == "up")
        });
        let session = first.session("ana");
        let room = first.room(&session);
        let mut ana = first.enter_as(&room, "ana", &session);
        let mut bob = second.enter(&room, "bob");
        ana.expect_join("bob");
        ana.chat("hello");
        bob.expect_chat("ana", "hello");
    });
}

/// REST and sockets work through a balancer, although no request can count on reaching the same server.
fn expect_all_to_work(front: &Front) {
    let open = |name: &str| {
        let answer = front.http().ask(&post("/sessions").json(&json!({"username": name})));
        answer.expect(201).string("session_id")
    };
    let (ana, bob) = (open("ana"), open("bob"));
    let room = front.http().ask(&post("/rooms").session(&ana)).expect(201).string("room_id");
    let enter =
        |session: &str| front.http().upgrade(&upgrade(&format!("/ws/{room}?session_id={session}")));
    let mut first = enter(&ana);
    first.expect_join("ana");
    let mut second = enter(&bob);
    for ws in [&mut first, &mut second] {
        ws.expect_join("bob");
    }
    for number in 0..10 {
        let say = post(&format!("/rooms/{room}/messages")).session(&ana);
        let text = format!("by REST {number}");
        front.http().ask(&say.json(&json!({"message": text}))).expect(201);
        for ws in [&mut first, &mut second] {
            ws.expect_chat("ana", &text);
        }
    }
}

fn each_behind(balancer: impl Fn(&Recipe<'_>) -> Option<Front>) {
    Store::each(|store| {
        let nodes = Nodes::start(2, store, &["--trusted-proxy", "127.0.0.1"]);
        let hosts = [nodes.node(0).host(), nodes.node(1).host()];
        let backs = vec![("127.0.0.1:8001", &*hosts[0]), ("127.0.0.1:8002", &*hosts[1])];
        let Some(front) = balancer(&Recipe { page: PAGE, backs }) else { return };
        expect_all_to_work(&front);
    });
}

#[test]
fn nginx_works_with_the_guides_configuration() {
    each_behind(|recipe| recipe.nginx());
}

#[test]
fn caddy_works_with_the_guides_configuration() {
    each_behind(|recipe| recipe.caddy());
}

#[test]
fn haproxy_works_with_the_guides_configuration() {
    each_behind(|recipe| recipe.haproxy("haproxy"));
}

#[test]
fn the_store_takes_the_guides_settings() {
    for engine in crate::stores::Engine::installed() {
        let [block] = &blocks("redis")[..] else { panic!("one block") };
        let settings = block.iter().map(|line| line.split_once(' ').expect("a name and a value"));
        let settings: Vec<(&str, &str)> = settings.collect();
        let mut options = Vec::new();
        for (name, value) in &settings {
            options.push(format!("--{name}"));
            // The program splits no value of its command line.
            options.extend(value.split(' ').map(|word| word.trim_matches('"').to_owned()));
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let store = Store::start(engine, &options);
        for (name, value) in settings {
            let kept = store.admin().must(&["CONFIG", "GET", name]);
            let text = format!("{kept:?}");
            let last = value.split(' ').next_back().expect("a word").trim_matches('"');
            // A size is answered in bytes.
            let last = if last == "1gb" { "1073741824" } else { last };
            assert!(text.contains(last), "{name} {value}: {text}");
        }
    }
}

#[test]
fn the_guides_user_has_the_rights_that_the_tests_run_with() {
    let joined = PAGE.replace(" \\\n", " ");
    let line = joined.lines().find(|line| line.contains("ACL SETUSER chat"));
    let (_, rights) = line.expect("a command").split_once("-password' ").expect("a password");
    let rights: Vec<&str> = rights.split_whitespace().map(|word| word.trim_matches('\'')).collect();
    assert_eq!(rights, RIGHTS.split_whitespace().collect::<Vec<_>>());
}
