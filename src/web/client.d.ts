// The types of /client.js: what the client module exports for programs. The page uses more of it.

/** A message as everyone in the room gets it (contract section 6). */
export interface Message {
	id: string;
	type: "chat" | "user_joined" | "user_left" | "message_deleted" | (string & {});
	user: string;
	user_id: string;
	/** In an encrypted room the text, or "" if the message is `unreadable`. */
	message: string;
	timestamp: string;
	room_id: string;
	nonce?: string;
	/** Of a chat that has been deleted. */
	deleted?: true;
	/** Of a chat whose envelope does not open with the room's key. */
	unreadable?: true;
	/** Of a `user_left`: the owner has removed this person. */
	removed?: true;
	/** Of a `message_deleted`: the id of the deleted message. */
	target?: string;
}

/** The room as everyone in it sees it. */
export interface RoomInfo {
	room_id: string;
	title: string | null;
	private: boolean;
	password: boolean;
	locked: boolean;
	/** Seconds between two chats of one person; 0: no such limit. */
	slow_mode: number;
	encrypted: boolean;
	/** The owner's user_id. */
	owner: string | null;
	created_at: string;
	expires_at: string | null;
}

/** What a new room is to be. */
export interface RoomOptions {
	title?: string | null;
	private?: boolean;
	password?: string | null;
	/** Seconds until the room ends. */
	ttl?: number;
	slow_mode?: number;
	encrypted?: boolean;
}

/** A message that has not come back from the server. */
export interface Pending {
	nonce: string;
	text: string;
	/** Why the server has refused it; `retry` or `discard` it. */
	code?: string;
	/** Until when it waits for the room's slow mode or a rate, in milliseconds since 1970; then it is sent again. */
	until?: number;
}

/** The response to a request, with its fields; `status` is 0 without one. `wait` is `Retry-After`, in seconds. */
export interface Answer {
	ok: boolean;
	status: number;
	code?: string;
	detail?: string;
	wait?: number;
	/** The server's time, in milliseconds since 1970. */
	now?: number;
	[field: string]: any;
}

export type State = "connecting" | "open" | "retrying" | "closed";

/** Why a room closed, with the close code. A closed Chat can be opened again. */
export interface Closed {
	why: "session" | "password" | "banned" | "locked" | "gone" | "name" | "deleted" | "expired" | "removed" | "left" | "broken";
	code?: number;
	reason?: string;
}

/** What listeners are called with. */
export interface Events {
	/** Messages that have come together; `isPast` if they are history, or were missed while the connection was broken. */
	messages: (messages: Message[], isPast: boolean) => void;
	/** Each message also comes under its type; there, `isPast` only if it is from before this Chat. */
	chat: (message: Message, isPast: boolean) => void;
	user_joined: (message: Message, isPast: boolean) => void;
	user_left: (message: Message, isPast: boolean) => void;
	/** The message with this id was deleted. */
	deleted: (id: string) => void;
	/** `people`, `typing`, `info` or `pending` has changed. */
	people: () => void;
	typing: () => void;
	room: (info: RoomInfo) => void;
	pending: () => void;
	/** The operator announces something. */
	announced: (event: { message: string; timestamp: string }) => void;
	/** Messages are missing here: the server no longer has them. */
	gap: () => void;
	state: (state: State, detail?: Closed) => void;
}

/** One room. It connects again until it is closed; each message is delivered once and in order. */
export class Chat {
	private constructor();
	readonly room: string;
	/** Of an encrypted room. */
	readonly key?: string;
	/** The page's address of this room, with the key. */
	readonly link: string;
	readonly state: State;
	/** Our own user_id. */
	readonly you: string;
	readonly info: RoomInfo;
	readonly isOwner: boolean;
	/** The id of the newest message. */
	readonly last: string | null;
	/** Who is present: user_id → name, in order of arrival. */
	readonly people: Map<string, string>;
	readonly typing: Map<string, { user: string }>;
	readonly pending: Pending[];
	/** Returns a function that removes the listener. */
	on<Name extends keyof Events>(what: Name, listener: Events[Name]): () => void;
	/** Sends a text, now or when the connection is back. False if 100 texts wait already. */
	say(text: string): boolean;
	retry(entry: Pending): void;
	discard(entry: Pending): void;
	/** To be called at each key: the others see that we type. */
	keyed(): void;
	/** Messages before this one, among the last 1000; null without an answer. */
	older(id: string): Promise<Message[] | null>;
	/** A request below `/rooms/{room_id}`, such as `ask("DELETE", "/leave")` or `ask("PATCH", "", { locked: true })`. */
	ask(method: string, path: string, body?: object): Promise<Answer>;
	/** After a time without network: checks the connection, or makes it at once. */
	wake(): void;
	/** Connects again after `close()` or a Closed. */
	open(): void;
	/** Disconnects, which the others see as leaving; the session stays a member. */
	close(): void;
}

export interface Options {
	/** The address of the server, with the prefix of a proxy if there is one. */
	base: string | URL;
	/** A room's id, or what a new room is to be. */
	room: string | RoomOptions;
	/** For a new session. */
	name?: string;
	/** The id of a session to use instead. */
	session?: string;
	password?: string;
	/** Of an encrypted room: the last part of its link. */
	key?: string;
	/** How many messages of the history come first, 0 to 1000; 100 if not given. */
	history?: number;
	/** Texts that an earlier process did not get sent, as `save` was called with them. */
	pending?: Pending[];
	save?: (pending: Pending[]) => void;
}

/**
 * Opens a session, joins the room or makes it, and resolves when its history has come. Rejects with an Error that has
 * the `code` of a refusal, or `why` the room closed.
 */
export function connect(options: Options): Promise<Chat>;

/** The characters that a message may have, and how many a text has as the server counts them. */
export const LENGTH_MAX: 4000;
export function length(text: string): number;

/** A request to the REST API of the server at `base`. */
export function request(base: string | URL, session: string | null | undefined, method: string, path: string, body?: object): Promise<Answer>;

/** A key for a new encrypted room; whether a text is one; and whether this place can encrypt. */
export function newKey(): string;
export function isKey(text: string): boolean;
export function canEncrypt(): boolean;

/** The envelopes of an encrypted room. `open` gives null for what is none. */
export function cipher(room: string, key: string): Promise<{
	seal(text: string, user_id: string, nonce: string): Promise<string>;
	open(envelope: string, user_id: string, nonce: string): Promise<string | null>;
}>;
