//! Greets those who join a room, and removes those who post three links in one message.

use std::env;
use std::error::Error;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;

fn ask(request: minreq::Request, session: &str) -> Result<Value, Box<dyn Error>> {
    let request = match session {
        "" => request,
        _ => request.with_header("Authorization", format!("Bearer {session}")),
    };
    let response = request.send()?;
    if response.status_code >= 400 {
        return Err(response.as_str()?.into());
    }
    Ok(serde_json::from_slice(response.as_bytes())?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = env::args().nth(1).unwrap_or("localhost:8000".to_owned());
    let at = |target: &str| format!("http://{server}{target}");
    let name = json!({"username": "greeter"}).to_string();
    let opened = ask(minreq::post(at("/sessions")).with_body(name), "")?;
    let session = opened["session_id"].as_str().ok_or("no session")?;
    let title = json!({"title": "Hall"}).to_string();
    let created = ask(minreq::post(at("/rooms")).with_body(title), session)?;
    let room = created["room_id"].as_str().ok_or("no room")?;
    println!("{}", at(&format!("/#/r/{room}")));

    let mut upgrade = format!("ws://{server}/ws/{room}").into_client_request()?;
    upgrade.headers_mut().insert("Authorization", format!("Bearer {session}").parse()?);
    let (mut socket, _) = tungstenite::connect(upgrade)?;
    loop {
        let Message::Text(text) = socket.read()? else { continue };
        let event: Value = serde_json::from_str(&text)?;
        let field = |name: &str| event[name].as_str().unwrap_or_default();
        let (user, message) = (field("user"), field("message"));
        if user == "greeter" {
            continue;
        }
        if field("type") == "user_joined" {
            let welcome = json!({"type": "chat", "message": format!("Welcome, {user}!")});
            socket.send(Message::text(welcome.to_string()))?;
        } else if field("type") == "chat" && message.matches("://").count() >= 3 {
            let target = format!("/rooms/{room}/users/{}?ban=600", field("user_id"));
            if let Err(refusal) = ask(minreq::delete(at(&target)), session) {
                eprintln!("{refusal}"); // For example, the person has left meanwhile.
            }
        }
    }
}
