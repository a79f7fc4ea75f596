// What the client module promises, in any of Node, Deno and Bun: `module.rs` runs this file in each, with the address of
// the server, of its admin listener, of a proxy that cuts each connection to a room after some hundred bytes, of one that
// refuses upgrades, of one that does both to event streams, of a server that keeps five messages, and the path of the
// module as the server sent it. Waits for conditions, never for a time.
const [direct, admin, cutting, refusing, cuttingStreams, forgetful, path] = globalThis.Deno?.args ?? process.argv.slice(2);
const client = await import(path), { LENGTH_MAX, Chat, canEncrypt, cipher, connect, isKey, length, newKey } = client;

const same = (found, expected, what) => {
	const [a, b] = [found, expected].map((one) => JSON.stringify(one));
	if (a !== b) throw new Error(`${what}: ${a}, expected ${b}`);
};
const until = async (what, read) => {
	for (const deadline = Date.now() + 30_000; !await read();) {
		if (Date.now() > deadline) throw new Error(`not yet: ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
};
const refused = async (promise) => {
	const chat = await promise.catch((error) => error);
	if (chat instanceof Chat) throw new Error("it was let in");
	return chat;
};
// Texts of all chats that a Chat was told of, and the types of the other messages.
const record = (chat) => {
	const all = { texts: [], types: [], past: [] };
	chat.on("messages", (messages) => {
		for (const { type, user, message, deleted, unreadable } of messages)
			if (type === "chat") all.texts.push(deleted ? "(deleted)" : unreadable ? "(unreadable)" : message);
			else all.types.push(`${type} ${user}`);
	});
	chat.on("chat", ({ message }, isPast) => isPast && all.past.push(message));
	return all;
};
const shows = (all, ...texts) => until(`${texts}: ${all.texts}`, () => JSON.stringify(all.texts) === JSON.stringify(texts));
const numbered = (name, count) => Array.from({ length: count }, (_, n) => `${name} ${n}`);
// Reconnects at once instead of waiting, and counts the lost connections.
const impatient = (chat) => {
	chat.lost = 0;
	chat.on("state", (state) => {
		if (state !== "retrying") return;
		chat.lost++;
		setTimeout(() => chat.wake());
	});
	return chat;
};

const facts = {
	async "envelopes are those of the contract"() {
		const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", room = "00112233445566778899aabbccddeeff", user = "0123456789abcdef";
		const bytes = (byte) => Uint8Array.from({ length: 12 }, (_, n) => byte(n));
		const code = await cipher(room, key);
		for (const [nonce, iv, text, envelope] of [
			["n1", () => 0, "Hello world!", "e1.AAAAAAAAAAAAAAAArok9aC4meVHpd1Zhcm613rgGYGHYIw9hHLPhngDi8IhpisJMGoBZOzuX3jSSXZIxUkygtHOxZBgAT409w0HDDJU0Wb-x7H8oNFajBBk85do"],
			["n2", (n) => n, "x".repeat(63), "e1.AAECAwQFBgcICQoLbf7JsMumxKV1jPxHvC4L4wXltK2UoT0lIMC-eGYc_U-IwC7yX1JDBSgzb4E2PVGt3ZpLJxqs6HpG5M6qbWE4DzM6Qtm_H1RN1qIO8FUZ4SQ"],
			["ü", () => 255, `🦀 y ${"z".repeat(70)}`, "e1.________________kylhsYYYkWXtmPTcmFLkeEBpZUSyiiB4am-eQ7bF5LYSzDlSIcfMUJvh9nGIudHpf-QREMjykps7_ETbQEU_5d8wSME5VmUjcL_2ycNyprp99F8eKLaTwt2EZpmI-YWDVWv84wWwq4x46z4YbWjz9gc5LBmMIU5KZo25KKGNRVObM0g07FIYQWWWggZPp3wr"],
		]) {
			same(await code.seal(text, user, nonce, bytes(iv)), envelope, "sealed");
			same(await code.open(envelope, user, nonce), text, "opened");
			same(await code.open(envelope, user, `${nonce}x`), null, "of another message");
			same(await code.open(envelope, "0123456789abcdee", nonce), null, "of another person");
			same(await code.open(`${envelope.slice(0, -1)}B`, user, nonce), null, "damaged");
			const other = await cipher(room.replace("00", "01"), key);
			same(await other.open(envelope, user, nonce), null, "of another room");
		}
		for (const text of ["", "hello", "e1.", "e1.AAAA", "e1.ö", "E1.AAAA"]) same(await code.open(text, user, "n"), null, text);
		for (const text of ["\ufeffBOM", "0x80: \u0080", "\0", "x".repeat(64), "🦀".repeat(4000)])
			same(await code.open(await code.seal(text, user, "n"), user, "n"), text, "there and back");
		same([isKey(key), isKey(newKey()), isKey(key.slice(1)), isKey(`${key.slice(0, -1)}9`), canEncrypt()], [true, true, false, false, true], "keys");
	},

	async "two people talk, and the owner's tools work"() {
		const ana = await connect({ base: direct, name: "ana", room: { title: "Tea" } }), seen = record(ana);
		same([ana.state, ana.connection.kind, ana.info.title, ana.isOwner], ["open", "websocket", "Tea", true], "ana");
		ana.say("before bo");
		await shows(seen, "before bo");
		const bo = await connect({ base: direct, room: ana.room.toUpperCase(), name: "bo" }), heard = record(bo);
		same([bo.isOwner, bo.info.owner === ana.you, [...bo.people.values()]], [false, true, ["ana", "bo"]], "bo");
		await shows(heard, "before bo");
		same(heard.past, ["before bo"], "the history is past");
		await until("both are here", () => ana.people.size === 2 && bo.people.size === 2);
		bo.keyed();
		await until("bo types", () => [...ana.typing.values()].some(({ user }) => user === "bo"));
		bo.say(" hi, half a pair \ud83d ");
		await shows(seen, "before bo", "hi, half a pair \ufffd");
		await until("bo sees it, too", () => !bo.pending.length);
		same([heard.past.length, ana.typing.size], [1, 0], "a new one is not past, and bo has stopped typing");
		let deleted, changes = 0;
		bo.on("deleted", (id) => { deleted = id; });
		bo.on("room", () => changes++);
		same((await ana.ask("DELETE", `/messages/${ana.last}`)).ok, true, "deleted");
		await until("bo knows", () => deleted);
		await ana.ask("PATCH", "", { locked: true });
		await until("bo knows of the lock", () => changes === 1 && bo.info.locked);
		let end;
		bo.on("state", (state, detail) => { end = [state, detail?.why, detail?.code]; });
		await ana.ask("DELETE", `/users/${bo.you}?ban=60`);
		await until("bo is removed", () => end?.[0] === "closed");
		same(end, ["closed", "removed", 4411], "and told so");
		await until("bo is gone", () => ana.people.size === 1);
		await ana.ask("DELETE", "/leave");
		await until("ana has left", () => ana.state === "closed");
		same(seen.types, ["user_joined ana", "user_joined bo", "message_deleted ana", "user_left bo"], "what ana saw");
	},

	async "a refusal is an error with its code"() {
		const ana = await connect({ base: direct, name: "ana", room: { password: "secret", encrypted: true } }), { room, key } = ana;
		same((await refused(connect({ base: direct, room: "0123456789", name: "bo" }))).code, "room_not_found", "no such room");
		same((await refused(connect({ base: direct, room, name: "bo" }))).code, "key_missing", "no key");
		same((await refused(connect({ base: direct, room, key, name: "bo" }))).code, "bad_password", "no password");
		same((await refused(connect({ base: direct, room, key, name: "x" }))).code, "bad_username", "no name");
		const twin = await refused(connect({ base: direct, room, key, name: "ANA", password: "secret" }));
		same([twin.why, twin.code], ["name", 4409], "the name is taken");
		const error = await refused(connect({ base: direct, room, key: "short", name: "bo", password: "secret" }));
		same(/32 bytes/.test(error.message), true, "no key");
		await ana.ask("DELETE", "");
		await until("the room is gone", () => ana.state === "closed");
		same((await refused(connect({ base: "http://127.0.0.1:9", room, name: "bo" }))).code, "unreachable", "no server");
	},

	async "over connections that break, each message comes once and in order"() {
		const ana = impatient(await connect({ base: cutting, name: "ana", room: {} })), seen = record(ana);
		const bo = impatient(await connect({ base: cutting, name: "bo", room: ana.room })), heard = record(bo);
		const guest = await connect({ base: direct, name: "guest", room: ana.room }), all = record(guest);
		for (let n = 0; n < 20; n++) {
			ana.say(`ana ${n}`);
			bo.say(`bo ${n}`);
		}
		await until("all are sent", () => !ana.pending.length && !bo.pending.length);
		await until("all have come", () => [seen, heard, all].every(({ texts }) => texts.length === 40));
		same(seen.texts, all.texts, "the same for ana");
		same(heard.texts, all.texts, "the same for bo");
		for (const name of ["ana", "bo"]) same(all.texts.filter((text) => text.startsWith(name)), numbered(name, 20), "in order");
		same(all.types, ["user_joined ana", "user_joined bo", "user_joined guest"], "no break is announced");
		same(ana.lost >= 2 && bo.lost >= 2, true, `connections broke: ${ana.lost}, ${bo.lost}`);
		for (const one of [ana, bo, guest]) one.close();
	},

	// Regression: what a listener said was forgotten, and nothing was said after it.
	async "a listener may say something, whatever it hears"() {
		const ana = await connect({ base: direct, name: "ana", room: {} }), seen = record(ana);
		ana.on("user_joined", ({ user }, isPast) => isPast || user === "ana" || ana.say(`welcome ${user}`));
		ana.on("chat", ({ message }) => /^[12]$/.test(message) && ana.say(`${+message + 1}`));
		for (const name of ["bo", "cy", "di"]) await connect({ base: direct, room: ana.room, name });
		await shows(seen, "welcome bo", "welcome cy", "welcome di");
		ana.say("1"); // Each echo of its own makes it say the next.
		await shows(seen, "welcome bo", "welcome cy", "welcome di", "1", "2", "3");
		await until("nothing waits", () => !ana.pending.length);
		ana.say("later");
		await until("it is said as well", () => seen.texts.at(-1) === "later");
		await ana.ask("DELETE", "");
	},

	async "where upgrades are refused, the event stream takes over"() {
		const ana = await connect({ base: direct, name: "ana", room: {} }), seen = record(ana);
		const opening = connect({ base: refusing, name: "bo", room: ana.room });
		const bo = await opening, heard = record(bo);
		same([bo.state, bo.connection.kind], ["open", "events"], "bo");
		bo.keyed();
		await until("bo types", () => ana.typing.size === 1);
		for (const text of numbered("bo", 10)) bo.say(text);
		ana.say("ana 0");
		await until("all have come", () => seen.texts.length === 11 && heard.texts.length === 11);
		same(heard.texts, seen.texts, "the same");
		same(heard.texts.filter((text) => text.startsWith("bo")), numbered("bo", 10), "in order");
		bo.say("\u0085"); // White space for the server, but not for JavaScript.
		await until("it is refused", () => bo.pending[0]?.code === "empty_message");
		bo.discard(bo.pending[0]);
		const end = new Promise((resolve) => bo.on("state", (state, detail) => state === "closed" && resolve(detail.why)));
		await ana.ask("DELETE", "");
		same(await end, "deleted", "the end");
		same((await refused(connect({ base: refusing, room: ana.room, name: "bo" }))).code, "room_not_found", "a refusal");
	},

	async "event streams may break as well"() {
		const ana = impatient(await connect({ base: cuttingStreams, name: "ana", room: {} })), seen = record(ana);
		const guest = await connect({ base: direct, name: "guest", room: ana.room }), all = record(guest);
		for (let n = 0; n < 20; n++) {
			ana.say(`ana ${n}`);
			guest.say(`guest ${n}`);
		}
		await until("all are sent", () => !ana.pending.length && !guest.pending.length);
		await until("all have come", () => [seen, all].every(({ texts }) => texts.length === 40));
		same(seen.texts, all.texts, "the same");
		same(all.texts.filter((text) => text.startsWith("ana")), numbered("ana", 20), "in order");
		same(all.types, ["user_joined ana", "user_joined guest"], "no break is announced");
		same([ana.connection.kind, ana.lost >= 2], ["events", true], `streams broke: ${ana.lost}`);
		for (const one of [ana, guest]) one.close();
	},

	async "a silent stream is given up after a minute, and one with comments is not"() {
		const timers = new Map(), streams = [];
		let time = 0, armed = 0;
		// Its clock stands still unless it is moved, and its streams come from here.
		const place = {
			globalThis: {}, // Without WebSocket.
			setTimeout(deed, wait = 0) {
				timers.set(++armed, { deed, at: time + wait });
				return armed;
			},
			clearTimeout: (timer) => timers.delete(timer),
			Date: { now: () => time },
			async fetch(url, { signal }) {
				let to;
				streams.push({ query: `${url}`.split("?")[1], write: (text) => to.enqueue(new TextEncoder().encode(text)) });
				const body = new ReadableStream({ start(controller) { to = controller; } });
				signal.addEventListener("abort", () => to.error(new Error("aborted")));
				return new Response(body);
			},
		};
		const source = (await (await fetch(`${direct}client.js`)).text()).replace(/(^|[;}\n])export /g, "$1");
		const { Chat } = new Function(...Object.keys(place), `${source}\nreturn { Chat };`)(...Object.values(place));
		const pass = (seconds) => {
			for (time += seconds * 1000; ;) {
				const due = [...timers].find(([, { at }]) => at <= time);
				if (!due) return;
				timers.delete(due[0]);
				due[1].deed();
			}
		};
		// Each sign of life arms the timer anew.
		const writes = async (text) => {
			const before = armed;
			streams.at(-1).write(text);
			await until("it is read", () => armed > before);
		};
		const history = (messages) => `data: ${JSON.stringify({ type: "history", messages, more: false, complete: true, you: "a", users: [], room: { slow_mode: 0 } })}\n\n`;
		const states = [], chat = new Chat({ base: "http://chat.example/", room: "0123456789", session: () => "secret", view: { state: (state) => states.push(state) } });
		chat.open();
		await until("a stream", () => streams.length === 1);
		await writes(history([{ id: "1", type: "chat", user_id: "b", message: "one" }]));
		await until("it is open", () => chat.state === "open");
		for (let n = 0; n < 3; n++) {
			pass(59);
			await writes(": ping\n\n");
		}
		same(states, ["connecting", "open"], "comments are signs of life");
		pass(59);
		same(chat.state, "open", "it may be late");
		pass(1);
		same(chat.state, "retrying", "it was silent");
		pass(1);
		await until("another stream", () => streams.length === 2);
		same(streams.map(({ query }) => query), ["history=100", "after=1"], "what was missed comes");
		await writes(history([]));
		await until("it is open again", () => chat.state === "open");
		// After a sleep: what has been silent for longer than a ping takes is not trusted.
		pass(23);
		chat.wake();
		same(chat.state, "open", "not silent for long");
		pass(1);
		chat.wake();
		await until("a third stream", () => streams.length === 3);
		// One that never says anything.
		pass(16);
		same(chat.state, "retrying", "given up");
		chat.close();
		same(timers.size, 0, "no timer is left");
	},

	async "people who do not fit into the history frame come behind it"() {
		const ana = await connect({ base: direct, name: "ana", room: {} }), names = Array.from({ length: 300 }, (_, n) => `${"🦀".repeat(47)}${100 + n}`);
		const join = async (username, query = "") => {
			const { session_id } = await client.request(direct, null, "POST", "sessions", { username });
			const socket = new WebSocket(`${direct.replace("http", "ws")}ws/${ana.room}?session_id=${session_id}${query}`);
			await new Promise((resolve) => { socket[query ? "onmessage" : "onopen"] = ({ data }) => resolve(socket.first ??= data); });
			return socket;
		};
		const [first] = await Promise.all(names.map((name) => join(name)));
		await until("ana sees all", () => ana.people.size === 301);
		const bo = await connect({ base: direct, name: "bo", room: ana.room, history: 0 });
		await until("bo sees all", () => bo.people.size === 302);
		await until("ana sees bo", () => ana.people.size === 302);
		same([...bo.people], [...ana.people], "the same people in the same order");
		first.close(1000);
		await until("one has gone", () => bo.people.size === 301 && ana.people.size === 301);
		const { users, users_more: more } = JSON.parse((await join("cy", "&history=0")).first);
		same([more, users.length < 302], [true, true], "they did not fit");
		await ana.ask("DELETE", "");
	},

	async "what the operator announces is heard, and is no message"() {
		const ana = await connect({ base: direct, name: "ana", room: {} }), seen = record(ana);
		const bo = await connect({ base: refusing, name: "bo", room: ana.room });
		await until("ana sees bo", () => seen.types.includes("user_joined bo"));
		const last = ana.last, heard = [ana, bo].map((one) => {
			const all = [];
			one.on("announced", ({ message }) => all.push(message));
			return all;
		});
		const { ok } = await fetch(`${admin}announcements`, { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"message":"Back at noon"}' });
		same(ok, true, "announced");
		await until("both hear it", () => heard.every(({ length }) => length));
		same([heard, seen.texts, ana.last], [[["Back at noon"], ["Back at noon"]], [], last], "once");
		for (const one of [ana, bo]) one.close();
	},

	async "what slow mode holds back is sent when slow mode ends"() {
		const ana = await connect({ base: direct, name: "ana", room: { slow_mode: 3600 } }), seen = record(ana);
		const bo = await connect({ base: direct, name: "bo", room: ana.room });
		for (const text of numbered("bo", 3)) bo.say(text);
		await until("bo waits", () => bo.pending[0]?.until);
		same(bo.pending.map(({ text, code }) => [text, code]), [["bo 1", undefined], ["bo 2", undefined]], "in order");
		await ana.ask("PATCH", "", { title: "Tea", slow_mode: 0 });
		await shows(seen, ...numbered("bo", 3));
		await until("nothing waits", () => !bo.pending.length);
		for (const one of [ana, bo]) one.close();
	},

	async "where messages are missing, it is told"() {
		const ana = await connect({ base: forgetful, name: "ana", room: {} }), bo = await connect({ base: forgetful, name: "bo", room: ana.room });
		const heard = record(bo), told = [];
		bo.on("gap", () => told.push([...heard.texts]));
		ana.say("before");
		await shows(heard, "before");
		bo.close();
		for (const text of numbered("ana", 8)) ana.say(text);
		await until("all are sent", () => !ana.pending.length);
		bo.open();
		await until("bo is back", () => bo.state === "open" && heard.texts.length > 1);
		same(told, [["before"]], "once, before what comes after the gap");
		same([heard.texts.at(-1), heard.texts.length <= 6], ["ana 7", true], "what is kept");
		for (const one of [ana, bo]) one.close();
	},

	async "all that is exported is declared, and the other way round"() {
		const types = await (await fetch(`${direct}client.d.ts`)).text();
		const declared = [...types.matchAll(/^export (?:function|const|class) (\w+)/gm)].map(([, name]) => name);
		same(declared.sort(), Object.keys(client).sort(), "exports");
		const ana = await connect({ base: direct, name: "ana", room: {} });
		const [, inside] = /^export class Chat \{\n(.*?)\n\}/ms.exec(types), members = [...inside.matchAll(/^\t(?:readonly )?(\w+)[(:?<]/gm)].map(([, name]) => name);
		same(members.filter((name) => !(name in ana)), [], "members of Chat");
		same(members.length > 20, true, "they were found");
		ana.close();
	},

	async "in an encrypted room the server sees envelopes only"() {
		const ana = await connect({ base: direct, name: "ana", room: { encrypted: true } }), seen = record(ana), { room, key } = ana;
		same([ana.link, isKey(key)], [`${direct}#/r/${room}/${key}`, true], "the link");
		for (const text of numbered("ana", 5)) ana.say(text);
		await shows(seen, ...numbered("ana", 5));
		const bo = await connect({ base: refusing, room, key, name: "bo" }), heard = record(bo);
		const eve = await connect({ base: direct, room, key: newKey(), name: "eve" }), overheard = record(eve);
		await shows(heard, ...numbered("ana", 5));
		bo.say("x".repeat(LENGTH_MAX));
		await shows(seen, ...numbered("ana", 5), "x".repeat(LENGTH_MAX));
		await shows(overheard, ...Array(6).fill("(unreadable)"));
		const { messages } = await ana.ask("GET", "/messages?limit=1000"), chats = messages.filter(({ type }) => type === "chat");
		same(chats.every(({ message }) => /^e1\.[\w-]+$/.test(message)), true, "envelopes");
		await ana.ask("DELETE", `/messages/${chats[0].id}`);
		const older = await ana.older(chats[2].id);
		same(older.filter(({ type }) => type === "chat").map(({ message, deleted }) => deleted ?? message), [true, "ana 1"], "older ones");
		for (const one of [ana, bo, eve]) one.close();
	},

	// A server may send again what it has, or has forgotten that it had.
	async "a repeated envelope is not shown, and one of another person does not open"() {
		const ana = await connect({ base: forgetful, name: "ana", room: { encrypted: true } }), { room, key } = ana, mine = record(ana);
		const bo = await connect({ base: forgetful, room, key, name: "bo" }), heard = record(bo);
		const cy = await connect({ base: forgetful, room, key, name: "cy" });
		ana.say("yes");
		await shows(heard, "yes");
		const { messages } = await ana.ask("GET", "/messages?limit=1"), [{ message, nonce }] = messages;
		for (const text of numbered("ana", 6)) ana.say(text);
		await shows(heard, "yes", ...numbered("ana", 6));
		const again = await ana.ask("POST", "/messages", { message, nonce });
		same([again.status, again.id > messages[0].id], [201, true], "the server takes it for a new one");
		same((await cy.ask("POST", "/messages", { message, nonce })).status, 201, "and that of another person");
		ana.say("end");
		for (const all of [mine, heard]) await shows(all, "yes", ...numbered("ana", 6), "(unreadable)", "end");
		same((await bo.older("g")).filter(({ type, unreadable }) => type === "chat" && !unreadable).some(({ message }) => message === "yes"), false, "nor among older ones");
		for (const one of [ana, bo, cy]) one.close();
	},
};

for (const [name, check] of Object.entries(facts)) {
	const begun = Date.now();
	try {
		await check();
	} catch (error) {
		throw new Error(`${name}: ${error.stack ?? error}`);
	}
	console.log(`held: ${name} (${Date.now() - begun} ms)`);
}
same([length(" 🦀 "), LENGTH_MAX], [1, 4000], "lengths");
console.log("all held");
globalThis.Deno ? Deno.exit(0) : process.exit(0);
