//! What a call costs the store: figures, and their bounds.
//!
//! `SLOW_TESTS=1 cargo test --features cluster --test cluster costs -- --nocapture`

use super::{ANA, BO, CY, DAY, HOUR, Person, Scene, TAIL, body};
use crate::stores::{Engine, Store};

const ROOMS: usize = 100;
const CALLS: usize = 20_000;
/// Calls that are under way at a time, as those of one tick.
const BATCH: usize = 16;

fn room(number: usize) -> String {
    format!("{:010x}", number % ROOMS)
}

/// CPU time of the store's main thread, in µs.
fn cpu(scene: &mut Scene) -> f64 {
    let info = scene.admin.must(&["INFO", "cpu"]).text();
    let seconds = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().expect("seconds")
    };
    (seconds("used_cpu_user_main_thread:") + seconds("used_cpu_sys_main_thread:")) * 1e6
}

/// CPU time of a call by the first node, in µs, if there are many. The other nodes hear the pushes.
fn cost(scene: &mut Scene, words: impl Fn(usize) -> String) -> f64 {
    let before = cpu(scene);
    for first in (0..CALLS).step_by(BATCH) {
        let batch = first..first + BATCH;
        for number in batch.clone() {
            scene.a.send(&words(number));
        }
        for _ in batch {
            let reply = scene.a.client.receive();
            assert!(!reply.to_string().starts_with('!'), "{reply}");
        }
        if first % 256 == 0 {
            scene.b.client.pushes();
            scene.c.client.pushes();
        }
    }
    (cpu(scene) - before) / CALLS as f64
}

/// Rooms in which three nodes have somebody.
fn town(store: &Store) -> Scene {
    let mut scene = Scene::on(store);
    scene.a.open_session(ANA);
    for number in 0..ROOMS {
        let room = room(number);
        let Person { uid, name, .. } = ANA;
        let options = format!("a~title '' '' 0 '' {HOUR} 1000 '' '' '' 0 1 {HOUR}");
        scene.a.run(&format!("open_room {room} {uid} {name} {name} '' {options}"));
        scene.a.admit(&room, ANA);
        scene.b.admit(&room, BO);
        scene.c.admit(&room, CY);
    }
    scene
}

/// 25,000 posts a second on one core, 20,000 with nonces. The bounds are those of a busy machine and of
/// the wheel of Valkey, which is built with another allocator.
#[test]
fn a_post_costs_the_store_little() {
    if std::env::var_os("SLOW_TESTS").is_none() {
        return;
    }
    for engine in Engine::installed() {
        let store = Store::start(engine, &[]);
        let scene = &mut town(&store);
        let text = "x".repeat(100);
        let post = |number: usize, nonce: &str| {
            let (room, uid, body) = (room(number), ANA.uid, body("C", ANA, nonce, &text));
            let nonce = if nonce.is_empty() { "''" } else { nonce };
            format!("post {room} {uid} 10 40 1000 {nonce} {body} '' {HOUR} {HOUR} {TAIL}")
        };
        let plain = cost(scene, |number| post(number, ""));
        let with_nonce = cost(scene, |number| post(number, &format!("n{number}")));
        let look = cost(scene, |number| format!("look {} {} read '' ''", room(number), ANA.uid));
        let touch = cost(scene, |_| format!("touch {} {DAY} ''", ANA.sh));
        println!(
            "{engine:?}, µs of CPU a call: post {plain:.1}, with a nonce {with_nonce:.1}, look {look:.1}, \
             touch {touch:.1}"
        );
        assert!(plain < 40.0 && with_nonce < 50.0, "{plain} {with_nonce}");
    }
}
