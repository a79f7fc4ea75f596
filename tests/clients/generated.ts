// Calls a real server through `openapi-fetch` with the types that `openapi-typescript` generates from openapi.json.
//
// `.ci/documents` generates `schema.d.ts`, checks and compiles this file with strict types, and runs it with the
// server's URL.
import { deepStrictEqual as same, ok } from "node:assert";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Message = components["schemas"]["Message"];
type Event = components["schemas"]["Event"];

const baseUrl = process.argv[2];
const clientOf = (session: string) => createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${session}` } });

const logIn = async (username: string) => {
  const { data } = await createClient<paths>({ baseUrl }).POST("/sessions", { body: { username } });
  ok(data);
  return clientOf(data.session_id);
};

// The discriminator narrows a message to its type.
const describe = (message: Message): string => {
  switch (message.type) {
    case "chat":
      return `${message.user}: ${message.message} (${message.nonce ?? "no nonce"})`;
    default:
      return `${message.type} ${message.user_id}`;
  }
};

const ana = await logIn("ana");
const created = await ana.POST("/rooms", { body: { title: "Typed", private: false } });
ok(created.data);
const room_id = created.data.room_id;
const path = { room_id };

// Both forms of the list of public rooms.
const ids = await ana.GET("/rooms/all");
ok(ids.data?.rooms.some((room) => room === room_id));
const detailed = await ana.GET("/rooms/all", { params: { query: { detail: true } } });
const titles = detailed.data?.rooms.flatMap((room) => (typeof room === "string" ? [] : [room.title]));
ok(titles?.includes("Typed"));

const posted = await ana.POST("/rooms/{room_id}/messages", {
  params: { path },
  body: { message: "Hello world!", nonce: "1" },
});
ok(posted.data);
const listed = await ana.GET("/rooms/{room_id}/messages", { params: { path, query: { limit: 10 } } });
same(listed.data?.messages.map(describe), ["ana: Hello world! (1)"]);

const changed = await ana.PATCH("/rooms/{room_id}", { params: { path }, body: { locked: true, title: null } });
same([changed.data?.locked, changed.data?.title], [true, null]);

const { error } = await ana.GET("/rooms/{room_id}", { params: { path: { room_id: "0000000000" } } });
same(error?.code, "room_not_found");
// A stream, from the history to the end of the room.
async function* follow(room_id: string): AsyncGenerator<Event> {
  const params = { path: { room_id }, query: { history: 10 } };
  const { data } = await ana.GET("/rooms/{room_id}/events", { params, parseAs: "stream" });
  ok(data);
  let rest = "";
  for await (const part of data.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + part).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield JSON.parse(line);
  }
}

const seen: string[] = [];
for await (const event of follow(room_id)) {
  switch (event.type) {
    case "history":
      same(event.messages.map(describe), ["ana: Hello world! (1)"]);
      same([event.owner, event.room?.locked], [true, true]);
      break;
    case "user_joined": {
      same((await ana.POST("/rooms/{room_id}/typing", { params: { path } })).response.status, 204);
      const deleted = await ana.DELETE("/rooms/{room_id}", { params: { path } });
      same(deleted.data?.message, `Room ${room_id} deleted`);
      break;
    }
    case "close":
      same([event.code, event.reason], [4410, "room deleted"]);
  }
  seen.push(event.type);
}
same(seen.filter((type) => type !== "typing"), ["history", "user_joined", "close"]);
