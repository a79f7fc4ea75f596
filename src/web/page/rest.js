// The client module with what this page adds: where the server is, the session that all tabs share, and what is kept
// over reloads.
import { Chat, request } from "../client.js";
import { shared, tab } from "./store.js";

// The folder of the page, which a proxy may mount under a prefix.
export const base = new URL(".", location.href.split("#")[0]);

// All tabs share one session: `{session_id, username}`.
export const session = () => shared.get("session");
// The last name, kept with this tab, or on this device if the person has chosen that.
export const nameBefore = () => session()?.username ?? tab.get("name") ?? shared.get("name") ?? "";
export const isNameKept = () => shared.get("name") !== null;
export const keepName = (name, onDevice = isNameKept()) => {
	tab.set("name", name);
	shared.set("name", onDevice ? name : null);
};

// Keys of encrypted rooms last as long as the session: "Your rooms" and a bare code open its rooms, and the browser's
// history has the links anyway.
const KEYS_MAX = 200; // Like the rooms of a session.
export const keptKey = (room) => shared.get("keys")?.[room];
export const keepKey = (room, key) =>
	shared.set("keys", Object.fromEntries(Object.entries({ ...shared.get("keys"), [room]: key }).slice(-KEYS_MAX)));

const drop = () => { for (const name of ["session", "keys"]) shared.set(name, null); };
// Forgets a session that has ended, unless another tab has opened a new one since.
export const forget = (id) => {
	if (session()?.session_id === id) drop();
};

// The server's time. The clock of a device may be wrong by days. A date in an answer has whole seconds, rounded down.
let ahead = 0;
export const now = () => Date.now() + ahead;

// `{ok, status, wait, now, …fields of the response}`; without a response the status is 0.
export const ask = async (method, path, body) => {
	const mine = session()?.session_id, answer = await request(base, mine, method, path, body);
	if (answer.now) ahead = answer.now + 1000 - Date.now();
	if (answer.status === 401) forget(mine);
	return answer.status ? answer : { ...answer, code: "ended_lost" };
};

// From now on all tabs use this session.
export const adopt = ({ session_id, username }) => {
	shared.set("session", { session_id, username });
	keepName(username);
};

export const begin = async (username) => {
	const answer = await ask("POST", "sessions", { username });
	if (answer.ok) adopt(answer);
	return answer;
};

export const end = async () => {
	const answer = await ask("DELETE", "sessions/me");
	if (answer.ok) drop();
	return answer;
};

// The network or the tab is back, or the network is gone.
const WAKES = ["online", "offline", "pageshow", "focus", "visibilitychange"];
let current = null;
for (const name of WAKES) addEventListener(name, ({ type }) => {
	// Without a network only an open connection is worth a look: a try would still fail when "online" comes.
	if (!document.hidden && (type !== "offline" || current?.state === "open")) current?.wake();
});

// The messages of a room. When the page is unloaded, its socket is left to the browser, which closes it with 1001: the
// server takes that for a broken connection, and a reload is not announced (contract §6.19).
// `key` is that of an encrypted room.
export const talkIn = (room, view, key) => {
	const name = `pending ${room}`, save = (pending) => tab.set(name, pending.length ? pending : null);
	return current = new Chat({ base, room, key, session: () => session()?.session_id, pending: tab.get(name), save, view });
};
