"""Uses the package `websockets` for all that the contract offers, and for every refusal.

Run by tests/clients/python.rs as `flow.py asyncio|threads|refusals HOST:PORT`. The script does not sleep. To show
that an event does not come, it asserts what comes instead.
"""

import asyncio
import json
import re
import sys
import urllib.error
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_in_thread

PART, HOST = sys.argv[1:]
DEADLINE = 20
MESSAGE_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
SESSION_ID = MESSAGE_ID.replace("-7", "-4")
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def same(actual, expected, what=""):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r}, expected {expected!r}")


def like(actual, pattern):
    if not (isinstance(actual, str) and re.fullmatch(pattern, actual)):
        raise AssertionError(f"{actual!r} is not like {pattern}")


# REST, with the standard library.


def ask(method, path, session=None, body=None, status=200):
    """Asserts the status and returns the JSON of the response."""
    fields = {"Authorization": f"Bearer {session}"} if session else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}{path}", data, fields, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=DEADLINE)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        text = answer.read()
        same(answer.status, status, f"{method} {path}: {text!r}")
        same(answer.headers["Content-Type"], "application/json")
        return json.loads(text)


def new_session(name):
    answer = ask("POST", "/sessions", body={"username": name}, status=201)
    like(answer["session_id"], SESSION_ID)
    same(answer, {"session_id": answer["session_id"], "username": name})
    return answer["session_id"]


def new_room(session):
    room = ask("POST", "/rooms", session, status=201)["room_id"]
    like(room, "[0-9a-f]{10}")
    return room


def url(room):
    return f"ws://{HOST}/ws/{room}"


def header(session):
    return {"additional_headers": {"Authorization": f"Bearer {session}"}}


# WebSockets.


def check(event, kind, name, message, room):
    """Asserts that the event is this message and has no other fields."""
    like(event.get("id"), MESSAGE_ID)
    like(event.get("user_id"), "[0-9a-f]{16}")
    like(event.get("timestamp"), TIMESTAMP)
    given = {key: event[key] for key in ("id", "user_id", "timestamp")}
    expected = {"type": kind, "user": name, "message": message, "room_id": room}
    same(event, given | expected)
    return event


async def event(socket):
    return json.loads(await socket.recv())


async def expect(sockets, kind, name, message, room):
    """Asserts that this message is the next event on each of the sockets."""
    events = [await event(socket) for socket in sockets]
    for other in events[1:]:
        same(other, events[0], "all sockets receive the same")
    return check(events[0], kind, name, message, room)


async def expect_close(socket, code, reason):
    """Asserts that the server closes the socket next, with this code and reason."""
    try:
        text = await socket.recv()
    except ConnectionClosed as closed:
        same((closed.rcvd.code, closed.rcvd.reason), (code, reason))
        same(closed.rcvd_then_sent, True, "the server sends its close frame first")
        same((socket.close_code, socket.close_reason), (code, reason))
    else:
        raise AssertionError(f"{text!r}, expected a close with {code}")


async def expect_no_more(socket):
    """Asserts that no event is on its way to this socket."""
    await socket.send('{"type":"ping"}')
    same(await event(socket), {"type": "pong"})


async def with_asyncio():
    ana, bob, eve = [new_session(name) for name in ("ana", "bób 🦀", "eve")]
    room = new_room(ana)

    # The session in a header, in the query, and in a subprotocol.
    a = await connect(url(room), **header(ana))
    same((a.subprotocol, a.protocol.extensions), (None, []))
    seen = [await expect([a], "user_joined", "ana", "ana has joined", room)]
    b = await connect(f"{url(room)}?session_id={bob}")
    same(b.subprotocol, None)
    seen += [await expect([a, b], "user_joined", "bób 🦀", "bób 🦀 has joined", room)]
    e = await connect(url(room), subprotocols=["chat", f"bearer.{eve}"])
    same(e.subprotocol, "chat")
    seen += [await expect([a, b, e], "user_joined", "eve", "eve has joined", room)]
    shown = ask("GET", f"/rooms/{room}")
    same(shown, {
        "room_id": room, "exists": True, "user_count": 3,
        "title": None, "private": False, "password": False, "locked": False, "slow_mode": 0,
        "encrypted": False, "created_at": shown["created_at"], "expires_at": None,
    })
    same(ask("GET", "/rooms", bob), {"rooms": [room]}, "connecting joins")

    # Chats of up to the longest, in one frame and in several.
    longest = "é🦀" * 2000
    for sent, received in [("Hello world!", "Hello world!"), (" \n<b>&\u2028 ", "<b>&"), (longest, longest)]:
        await a.send(json.dumps({"type": "chat", "message": sent}))
        seen += [await expect([a, b, e], "chat", "ana", received, room)]
    in_parts = json.dumps({"type": "chat", "message": longest}, ensure_ascii=False)
    await b.send([in_parts[at : at + 1000] for at in range(0, len(in_parts), 1000)])
    seen += [await expect([a, b, e], "chat", "bób 🦀", longest, room)]
    same(seen[3]["user_id"], seen[0]["user_id"], "the same user")
    ids = [message["id"] for message in seen]
    same(ids, sorted(set(ids)), "ids increase")

    # Typing goes to all sockets and is not part of the history.
    await b.send('{"type":"typing"}')
    typing = {"type": "typing", "user": "bób 🦀", "user_id": seen[1]["user_id"], "room_id": room}
    for socket in (a, b, e):
        same(await event(socket), typing)

    # Invalid events are refused to their sender alone. Pings of both kinds are answered.
    for text, code in [
        ("hello", "bad_json"),
        ('{"type":"dance"}', "bad_type"),
        ('{"type":"chat"}', "bad_message"),
        ('{"type":"chat","message":" "}', "empty_message"),
        (json.dumps({"type": "chat", "message": "x" * 4001}), "too_long"),
    ]:
        await e.send(text)
        refused = await event(e)
        like(refused.pop("detail"), ".+")
        same(refused, {"type": "refused", "code": code, "room_id": room})
    await (await e.ping())
    for socket in (a, b, e):
        await expect_no_more(socket)
    same(ask("GET", f"/rooms/{room}/messages", eve), {"messages": seen})
    same(ask("GET", f"/rooms/{room}/messages?limit=2", eve), {"messages": seen[-2:]})

    # Leaving by a close frame, by REST, and by ending the session.
    await e.close(1000, "bye")
    same((e.close_code, e.close_reason), (1000, "bye"))
    seen += [await expect([a, b], "user_left", "eve", "eve has left", room)]
    left = ask("DELETE", f"/rooms/{room}/leave", bob)
    same(left, {"message": f"Left room {room}"})
    await expect_close(b, 1000, "left room")
    seen += [await expect([a], "user_left", "bób 🦀", "bób 🦀 has left", room)]
    same(ask("GET", "/rooms", bob), {"rooms": []})
    same(ask("GET", f"/rooms/{room}/messages", bob), {"messages": seen})
    same(ask("DELETE", "/sessions/me", ana), {"message": "Session ended"})
    await expect_close(a, 4401, "invalid or expired session")


def with_threads():
    def expect(sockets, kind, name, message):
        for socket in sockets:
            check(json.loads(socket.recv(DEADLINE)), kind, name, message, room)

    ana, bob = new_session("ana"), new_session("bob")
    room = new_room(ana)
    with connect_in_thread(url(room), **header(ana)) as a:
        expect([a], "user_joined", "ana", "ana has joined")
        with connect_in_thread(url(room), subprotocols=["chat", f"bearer.{bob}"]) as b:
            same(b.subprotocol, "chat")
            expect([a, b], "user_joined", "bob", "bob has joined")
            b.send('{"type":"chat","message":"hello"}')
            expect([a, b], "chat", "bob", "hello")
            a.send('{"type":"typing"}')
            for socket in (a, b):
                typing = json.loads(socket.recv(DEADLINE))
                same((typing["type"], typing["user"]), ("typing", "ana"))
            same(a.ping().wait(DEADLINE), True)
        same((b.close_code, b.close_reason), (1000, ""))
        expect([a], "user_left", "bob", "bob has left")
        kept = ask("GET", f"/rooms/{room}/messages", ana)["messages"]
        kinds = [message["type"] for message in kept]
        same(kinds, ["user_joined", "user_joined", "chat", "user_left"])
        ask("DELETE", f"/rooms/{room}/leave", ana)
        # A close with 1000 ends a loop over the socket without an exception.
        same(list(a), [])
        same((a.close_code, a.close_reason), (1000, "left room"))


async def refusals():
    ana = new_session("ana")
    room = new_room(ana)

    async def expect_refused(room, code, reason, **how):
        # The upgrade succeeds, so that clients can read the code and reason.
        async with connect(url(room), **how) as socket:
            await expect_close(socket, code, reason)

    invalid = 4401, "invalid or expired session"
    unknown = "00000000-0000-4000-8000-000000000000"
    await expect_refused("0123456789", 4404, "room not found", **header(ana))
    await expect_refused("0123456789", 4404, "room not found", subprotocols=["chat", f"bearer.{ana}"])
    await expect_refused(f"no-room?session_id={ana}", 4404, "room not found")
    await expect_refused(room, *invalid)
    await expect_refused(room, *invalid, **header(unknown))
    await expect_refused(room, *invalid, subprotocols=["chat", f"bearer.{unknown}"])
    await expect_refused(f"{room}?session_id={unknown}", *invalid)
    # The header takes precedence.
    await expect_refused(f"{room}?session_id={ana}", *invalid, **header(unknown))

    async with connect(url(room), **header(ana)) as socket:
        await expect([socket], "user_joined", "ana", "ana has joined", room)
        # Another session with the same name: the server pings the first one, and the package answers by itself.
        await expect_refused(room, 4409, "name taken", **header(new_session("ANA")))
        await socket.send(b"\0")
        try:
            raise AssertionError(await socket.recv())
        except ConnectionClosed as closed:
            same(closed.rcvd.code, 1003)
            like(closed.rcvd.reason, ".+")

    async with connect(url(room), **header(ana)) as socket:
        await expect([socket], "user_joined", "ana", "ana has joined", room)
        await socket.send("x" * (64 * 1024 + 1))
        try:
            raise AssertionError(await socket.recv())
        except ConnectionClosed as closed:
            same(closed.rcvd.code, 1009)

    ask("DELETE", "/sessions/me", ana)
    await expect_refused(room, *invalid, **header(ana))
    same(ask("GET", "/sessions/me", ana, status=401)["code"], "invalid_session")

    # The package understands a failed handshake.
    try:
        await connect(f"ws://{HOST}/elsewhere")
        raise AssertionError("there is no such path")
    except InvalidStatus as error:
        same(error.response.status_code, 404)
        same(json.loads(error.response.body)["code"], "not_found")


async def within(deadline, work):
    await asyncio.wait_for(work, deadline)


if PART == "threads":
    with_threads()
else:
    asyncio.run(within(2 * DEADLINE, {"asyncio": with_asyncio, "refusals": refusals}[PART]()))
print("all held")
