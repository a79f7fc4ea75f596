//! The certificate: what is wrong with it at start, and SIGHUP.

use std::fs;

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;

use crate::client::get;
use crate::peer::{Authority, Folder, Peer, World, shake_hands, text};
use crate::server::{run, wait_until};

fn shown(peer: &Peer) -> CertificateDer<'static> {
    peer.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

/// What a new connection is shown.
fn shown_now(world: &World) -> CertificateDer<'static> {
    // With a memory of its own: who resumes is shown nothing.
    let fresh = crate::peer::believer(&world.authority, &[&rustls::version::TLS13], &[]);
    let mut peer = world.peer(&fresh);
    shake_hands(&mut peer).expect("a handshake");
    shown(&peer)
}

fn lines_with(world: &World, text: &str) -> Vec<String> {
    world.server.stderr().into_iter().filter(|line| line.contains(text)).collect()
}

#[test]
fn a_certificate_that_is_no_good_is_one_clear_line() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (one, other) = (authority.issue(), authority.issue());
    let (certificate, key) =
        (folder.write("cert.pem", &one.certificate_pem), folder.write("key.pem", &one.key_pem));
    let other_key = folder.write("other.pem", &other.key_pem);
    let text_file = folder.write("text", "-----BEGIN NOTHING-----\nAAAA\n");
    let broken = folder
        .write("broken", &one.certificate_pem.replace("\nMII", "\nAAA").replace("AAA", "MI="));
    let absent = text(&folder.path("absent"));
    let check = |certificate: &str, key: &str, words: &[&str]| {
        let flags = ["--listen", "tls:127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key];
        let ended = run(&flags, &[]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with("cannot use the certificate: "), "{ended:?}");
        assert!(words.iter().all(|word| ended.stderr.contains(word)), "{ended:?}");
    };
    check(&absent, &key, &["absent", "No such file"]);
    check(&certificate, &absent, &["absent", "No such file"]);
    check(&text(&folder.path("")), &key, &["Is a directory"]);
    check(&key, &key, &["key.pem", "no certificate"]);
    check(&text_file, &key, &["text", "no certificate"]);
    check(&broken, &key, &[]);
    check(&certificate, &certificate, &["cert.pem", "no private key"]);
    check(&certificate, &other_key, &["the private key does not match the certificate"]);
}

#[test]
fn one_file_may_hold_both() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let issued = authority.issue();
    let both = folder.write("both.pem", &(issued.key_pem.clone() + &issued.certificate_pem));
    let flags = ["--listen", "tls:127.0.0.1:0", "--tls-cert", &both, "--tls-key", &both];
    let server = crate::server::Server::spawn(crate::server::command(&flags, &[]), 1);
    assert!(server.stderr().iter().any(|line| line.contains("listening on https://127.0.0.1:")));
}

#[test]
fn sighup_reads_the_certificate_again_and_disturbs_nobody() {
    let world = World::start(&[]);
    let mut old = world.http();
    old.ask(&get("/ping")).expect(200);
    let room = world.server.room(&world.server.session("ana"));
    let mut member = world.enter(&room, "bob");
    assert!(shown_now(&world) == world.issued.certificate);

    let next = world.authority.issue();
    world.folder.write("cert.pem", &next.certificate_pem);
    world.folder.write("key.pem", &next.key_pem);
    assert!(shown_now(&world) == world.issued.certificate, "files are read when we say so");
    world.server.signal(Signal::HUP);
    wait_until("it is read", || !lines_with(&world, "was read again").is_empty());
    assert!(shown_now(&world) == next.certificate);
    old.ask(&get("/ping")).expect(200);
    member.chat("still here");
    member.expect_chat("bob", "still here");
    // Whoever remembers the old one resumes nothing, and is let in.
    world.ask(get("/ping")).expect(200);
}

#[test]
fn a_bad_new_certificate_changes_nothing() {
    let world = World::start(&[]);
    let other = world.authority.issue();
    let spoil = |count| match count {
        0 => drop(world.folder.write("key.pem", &other.key_pem)),
        1 => drop(world.folder.write("cert.pem", "")),
        _ => fs::remove_file(world.folder.path("cert.pem")).expect("it was there"),
    };
    let whys = ["does not match the certificate", "no certificate", "No such file"];
    for (count, why) in whys.into_iter().enumerate() {
        spoil(count);
        world.server.signal(Signal::HUP);
        wait_until("it is said", || lines_with(&world, "the old certificate stays").len() > count);
        let said = lines_with(&world, "the old certificate stays");
        assert!(said[count].starts_with("error: ") && said[count].contains(why), "{said:?}");
        assert!(shown_now(&world) == world.issued.certificate);
    }
    world.folder.write("cert.pem", &other.certificate_pem);
    world.server.signal(Signal::HUP);
    wait_until("it is read", || !lines_with(&world, "was read again").is_empty());
    assert!(shown_now(&world) == other.certificate);
}
