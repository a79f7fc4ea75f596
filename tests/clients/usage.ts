// All that `/client.d.ts` declares, used as a program does. `module.rs` compiles it with strict types. A line after
// `@ts-expect-error` must not compile.
import { Chat, LENGTH_MAX, canEncrypt, cipher, connect, isKey, length, newKey, request } from "./client.js";
import type { Answer, Closed, Events, Message, Options, Pending, RoomInfo, RoomOptions, State } from "./client.js";

const room: RoomOptions = { title: "Tea", private: true, password: null, ttl: 3600, slow_mode: 5, encrypted: canEncrypt() };
const options: Options = { base: new URL("https://chat.example/"), room, name: "robot", history: 0, pending: [], save: (all: Pending[]) => all.map(({ text }) => text) };

export const main = async (): Promise<string> => {
	const chat: Chat = await connect(options);
	const stop: () => void = chat.on("chat", ({ user, message, user_id, deleted, unreadable }: Message, isPast) => {
		if (!isPast && user_id !== chat.you && !deleted && !unreadable) chat.say(`${user} said ${message.toUpperCase()}`);
	});
	const joined: Events["user_joined"] = ({ timestamp, nonce }) => console.log(Date.parse(timestamp), nonce?.length);
	chat.on("user_joined", joined);
	chat.on("user_left", ({ removed, target }) => console.log(removed === true, target?.length));
	chat.on("messages", (messages, isPast) => messages.filter(({ type }) => type === "chat" || type === "of the future" || isPast));
	chat.on("deleted", (id) => id.slice(1));
	chat.on("room", (info: RoomInfo) => info.slow_mode + (info.title ?? info.owner ?? info.expires_at ?? info.room_id).length);
	chat.on("announced", ({ message, timestamp }) => message + timestamp);
	chat.on("state", (state: State, closed?: Closed) => {
		if (state === "closed" && closed?.why === "expired") console.log(closed.code, closed.reason);
		// @ts-expect-error There is no such state.
		if (state === "shut") return;
	});
	for (const what of ["people", "typing", "pending", "gap"] as const) chat.on(what, () => {});

	const sent: boolean = chat.say("x".repeat(LENGTH_MAX - length(" ")));
	for (const entry of chat.pending) if (entry.code) chat.retry(entry); else if ((entry.until ?? 0) > Date.now()) chat.discard(entry);
	chat.keyed();
	const [[user_id, name] = []] = chat.people, typing: string[] = [...chat.typing.values()].map(({ user }) => user);
	const older: Message[] | null = chat.last === null ? null : await chat.older(chat.last);
	const answer: Answer = await chat.ask("PATCH", "", { locked: chat.isOwner && !chat.info.locked });
	if (!answer.ok) console.log(answer.status, answer.code, answer.detail, answer.wait, answer.now, answer.room_id);
	chat.wake();
	chat.close();
	chat.open();
	stop();

	const health = await request("https://chat.example/", null, "GET", "health");
	await request(new URL("https://chat.example/"), options.session, "POST", "sessions", { username: "robot" });
	const key: string = chat.key ?? newKey();
	if (isKey(key)) {
		const { seal, open } = await cipher(chat.room, key);
		const text: string | null = await open(await seal("hello", chat.you, "n1"), chat.you, "n1");
		console.log(text);
	}

	// @ts-expect-error `connect` makes them.
	new Chat();
	// @ts-expect-error A room is needed.
	connect({ base: "https://chat.example/" });
	// @ts-expect-error No such event.
	chat.on("message", () => {});
	// @ts-expect-error What is read only.
	chat.you = "somebody else";
	// @ts-expect-error A deleted message is told of by its id.
	chat.on("deleted", (message: Message) => message.id);
	// @ts-expect-error There may be no older messages.
	older.length;
	return [sent, user_id, name, typing, health.status, chat.link, chat.state].join();
};
