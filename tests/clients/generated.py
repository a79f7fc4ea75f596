"""Calls a real server through the client that `openapi-python-client` generates from openapi.json.

`.ci/documents` generates the package `disposable_chat_client`, checks this file and the package with mypy, and runs
this file with the server's URL. Exits with 0 only if every answer has the type and the values that it must have.
"""

import re
import sys
from datetime import datetime, timezone
from http import HTTPStatus
from typing import TypeVar

import httpx
from disposable_chat_client import AuthenticatedClient, Client
from disposable_chat_client.api.messages import delete_message, list_messages, post_message, send_typing
from disposable_chat_client.api.owner import change_room, delete_room, lift_ban, list_bans, remove_user
from disposable_chat_client.api.rooms import (
    create_room,
    get_room,
    join_room,
    list_my_rooms,
    list_rooms,
    list_users,
)
from disposable_chat_client.api.server import get_health, get_open_api, get_page, ping
from disposable_chat_client.api.sessions import create_session, end_session, get_session
from disposable_chat_client.models import (
    BanList,
    Chat,
    CreatedRoom,
    Done,
    Error,
    Health,
    JoinedRoom,
    JoinRequest,
    MessageDeleted,
    MessageList,
    MyRooms,
    MySession,
    NewMessage,
    NewRoom,
    NewSession,
    PublicRoom,
    PublicRooms,
    RemovedUser,
    RoomChanges,
    RoomInfo,
    Session,
    UserList,
)

T = TypeVar("T")


def expect(kind: type[T], answer: object) -> T:
    assert isinstance(answer, kind), answer
    return answer


def log_in(base: str, name: str) -> AuthenticatedClient:
    answer = create_session.sync(client=Client(base_url=base), body=NewSession(username=name))
    session = expect(Session, answer)
    assert session.username == name
    return AuthenticatedClient(base_url=base, token=str(session.session_id))


def test_rooms(base: str, ana: AuthenticatedClient, bob: AuthenticatedClient) -> str:
    tea = expect(CreatedRoom, create_room.sync(client=ana, body=NewRoom(title="Tea"))).room_id
    secret = NewRoom(title="Secret", password="sesame")
    hidden = expect(CreatedRoom, create_room.sync(client=ana, body=secret)).room_id
    assert expect(MyRooms, list_my_rooms.sync(client=ana)).rooms == [tea, hidden]
    assert expect(MySession, get_session.sync(client=ana)).joined_rooms == [tea, hidden]

    anyone = Client(base_url=base)
    assert expect(PublicRooms, list_rooms.sync(client=anyone)).rooms == [tea]
    detailed = expect(PublicRooms, list_rooms.sync(client=anyone, detail=True)).rooms
    rooms = [room for room in detailed if isinstance(room, PublicRoom)]
    assert [(room.room_id, room.title, room.user_count) for room in rooms] == [(tea, "Tea", 0)]
    assert rooms[0].created_at.tzinfo is not None
    room = expect(RoomInfo, get_room.sync(hidden, client=anyone))
    assert (room.title, room.private, room.password) == ("Secret", True, True)

    refused = expect(Error, join_room.sync(hidden, client=bob, body=JoinRequest(password="x")))
    assert refused.code == "bad_password", refused
    joined = join_room.sync(hidden, client=bob, body=JoinRequest(password="sesame"))
    assert expect(JoinedRoom, joined).room_id == hidden
    changes = RoomChanges(title=None, slow_mode=10, locked=True)
    room = expect(RoomInfo, change_room.sync(hidden, client=ana, body=changes))
    assert (room.title, room.slow_mode, room.locked, room.expires_at) == (None, 10, True, None)
    assert expect(UserList, list_users.sync(hidden, client=bob)).users == []
    assert expect(Error, delete_room.sync(tea, client=bob)).code == "not_the_owner"

    person = expect(JoinedRoom, join_room.sync(tea, client=bob)).user_id
    removed = remove_user.sync(tea, person, client=ana, ban=60, address=True)
    assert expect(RemovedUser, removed).address is False, "loopback is exempt"
    [ban] = expect(BanList, list_bans.sync(tea, client=ana)).bans
    assert (ban.user_id, ban.user, ban.address) == (person, "bob", False)
    assert ban.until > datetime.now(timezone.utc)
    assert expect(Error, join_room.sync(tea, client=bob)).code == "banned"
    expect(Done, lift_ban.sync(tea, person, client=ana))
    expect(JoinedRoom, join_room.sync(tea, client=bob))
    expect(Done, delete_room.sync(hidden, client=ana))
    return tea


def test_messages(ana: AuthenticatedClient, room: str) -> None:
    hello = NewMessage(message="Hello world!", nonce="1")
    first = post_message.sync_detailed(room, client=ana, body=hello)
    again = post_message.sync_detailed(room, client=ana, body=hello)
    assert (first.status_code, again.status_code) == (HTTPStatus.CREATED, HTTPStatus.OK)
    chat = expect(Chat, first.parsed)
    assert chat == expect(Chat, again.parsed)
    listed = expect(MessageList, list_messages.sync(room, client=ana, limit=10))
    assert listed.messages == [chat], listed
    after = expect(MessageList, list_messages.sync(room, client=ana, after=str(chat.id)))
    assert (after.messages, after.complete) == ([], True)
    refused = expect(Error, post_message.sync(room, client=ana, body=NewMessage(message=" ")))
    assert refused.code == "empty_message"

    assert send_typing.sync_detailed(room, client=ana).status_code == HTTPStatus.NO_CONTENT

    expect(Done, delete_message.sync(room, str(chat.id), client=ana))
    first_entry, second_entry = expect(MessageList, list_messages.sync(room, client=ana)).messages
    assert expect(Chat, first_entry).deleted is True
    assert expect(MessageDeleted, second_entry).target == chat.id


TEXTS = [
    "ana", " ana ", "\nana", "ana\u0085", "José", "日本", "👩‍👩‍👧 x", "a\u200d", "a", "", " ", "a ", "\u200b\u200b",
    "\u2060\u00ad", "\u2800\u3164", "\u115f\u1160", "\ufeff\ufeff", "\u180e\ufe0f", "a\0b", "a\nb", "a\x7fb", "a\u0085b",
    "a\u202eb", "a\u2066b", "\u061cab", "a\u200fb",
    "x" * 50, "x" * 51, "x" * 80, "x" * 81, "x" * 4000, "x" * 4001,
]


def test_patterns(base: str, ana: AuthenticatedClient, room: str) -> None:
    """The schema of a name, a title and a text allows what the server accepts, and nothing else."""
    bearer = {"Authorization": f"Bearer {ana.token}"}
    with httpx.Client(base_url=base, headers=bearer) as client:
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        for schema, field, path in [
            (schemas["NewSession"]["properties"]["username"], "username", "/sessions"),
            (schemas["Title"], "title", "/rooms"),
            (schemas["NewMessage"]["properties"]["message"], "message", f"/rooms/{room}/messages"),
        ]:
            for text in TEXTS:
                fits = re.search(schema["pattern"], text) is not None
                status = client.post(path, json={field: text}).status_code
                assert (status == 201) == fits, (field, text, status)


def main(base: str) -> None:
    ana, bob = log_in(base, "ana"), log_in(base, "bob")
    room = test_rooms(base, ana, bob)
    test_messages(ana, room)
    assert expect(Health, get_health.sync(client=Client(base_url=base))).status == "ok"
    for call in (ping.sync, get_open_api.sync, get_page.sync):
        assert call(client=Client(base_url=base)) is not None
    expect(Done, end_session.sync(client=bob))
    assert expect(Error, get_session.sync(client=bob)).code == "invalid_session"
    test_patterns(base, ana, room)


if __name__ == "__main__":
    main(sys.argv[1])
