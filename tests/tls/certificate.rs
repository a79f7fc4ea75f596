//! Certificates: errors at the start, and reloading by SIGHUP.

use std::fs;

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;

use crate::client::get;
use crate::peer::{Authority, Folder, Peer, TlsServer, handshake, text};
use crate::server::{run, wait_until};

fn certificate_of(peer: &Peer) -> CertificateDer<'static> {
    peer.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

/// The certificate that a new connection gets.
fn served_certificate(tls_server: &TlsServer) -> CertificateDer<'static> {
    // A new configuration, so that the client cannot resume: a resumed handshake has no certificate.
    let fresh = crate::peer::client_config(&tls_server.authority, &[&rustls::version::TLS13], &[]);
    let mut peer = tls_server.peer(&fresh);
    handshake(&mut peer).expect("a handshake");
    certificate_of(&peer)
}

fn lines_with(tls_server: &TlsServer, text: &str) -> Vec<String> {
    tls_server.server.stderr().into_iter().filter(|line| line.contains(text)).collect()
}

#[test]
fn a_bad_certificate_or_key_is_one_line_on_stderr_and_exit_code_1() {
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
fn one_file_may_contain_certificate_and_key() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let issued = authority.issue();
    let both = folder.write("both.pem", &(issued.key_pem.clone() + &issued.certificate_pem));
    let flags = ["--listen", "tls:127.0.0.1:0", "--tls-cert", &both, "--tls-key", &both];
    let server = crate::server::Server::spawn(crate::server::command(&flags, &[]), 1);
    assert!(server.stderr().iter().any(|line| line.contains("listening on https://127.0.0.1:")));
}

#[test]
fn sighup_reloads_the_certificate_and_keeps_connections() {
    let tls_server = TlsServer::start(&[]);
    let mut old = tls_server.http();
    old.ask(&get("/ping")).expect(200);
    let room = tls_server.server.room(&tls_server.server.session("ana"));
    let mut member = tls_server.enter(&room, "bob");
    assert!(served_certificate(&tls_server) == tls_server.issued.certificate);

    let next = tls_server.authority.issue();
    tls_server.folder.write("cert.pem", &next.certificate_pem);
    tls_server.folder.write("key.pem", &next.key_pem);
    assert!(
        served_certificate(&tls_server) == tls_server.issued.certificate,
        "reloaded without SIGHUP"
    );
    tls_server.server.signal(Signal::HUP);
    wait_until("it is read", || !lines_with(&tls_server, "was read again").is_empty());
    assert!(served_certificate(&tls_server) == next.certificate);
    old.ask(&get("/ping")).expect(200);
    member.chat("still here");
    member.expect_chat("bob", "still here");
    // A client that has a ticket from before gets a full handshake.
    tls_server.ask(get("/ping")).expect(200);
}

#[test]
fn with_a_bad_certificate_sighup_keeps_the_old_one() {
    let tls_server = TlsServer::start(&[]);
    let other = tls_server.authority.issue();
    let replace = |count| match count {
        0 => drop(tls_server.folder.write("key.pem", &other.key_pem)),
        1 => drop(tls_server.folder.write("cert.pem", "")),
        _ => fs::remove_file(tls_server.folder.path("cert.pem")).expect("it was there"),
    };
    let whys = ["does not match the certificate", "no certificate", "No such file"];
    for (count, why) in whys.into_iter().enumerate() {
        replace(count);
        tls_server.server.signal(Signal::HUP);
        wait_until("it is logged", || {
            lines_with(&tls_server, "the old certificate stays").len() > count
        });
        let sent = lines_with(&tls_server, "the old certificate stays");
        assert!(sent[count].starts_with("error: ") && sent[count].contains(why), "{sent:?}");
        assert!(served_certificate(&tls_server) == tls_server.issued.certificate);
    }
    tls_server.folder.write("cert.pem", &other.certificate_pem);
    tls_server.server.signal(Signal::HUP);
    wait_until("it is read", || !lines_with(&tls_server, "was read again").is_empty());
    assert!(served_certificate(&tls_server) == other.certificate);
}
