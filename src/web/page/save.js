// Saves the conversation as a file that is made in the page, as text or as JSON. Must not know where the messages come
// from. In the text a message can't imitate another one: its further lines are indented.
import { button, h } from "./dom.js";
import { t } from "./words.js";

const plain = (text) => text.replace(/[\u2066-\u2069]/g, "");
const two = (n) => String(n).padStart(2, "0");
const stamp = (when) => `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())} ${two(when.getHours())}:${two(when.getMinutes())}`;

const line = ({ type, user, message, timestamp, deleted, unreadable, removed }) => {
	const move = { user_joined: "joined", user_left: removed ? "removed" : "gone" }[type];
	const text = type === "chat" ? `${user}: ${deleted || unreadable ? `(${t(deleted ? "deletedMessage" : "unreadable")})` : message.replace(/\r\n?|[\n\u2028\u2029]/g, "\n\t")}` : move && plain(t(move, { who: user }));
	return text ? `${stamp(new Date(timestamp))}  ${text}\n` : "";
};

const FORMATS = {
	txt: ["text/plain;charset=utf-8", (messages, title) => `${title}\n\n${messages.map(line).join("")}`],
	json: ["application/json", (messages) => JSON.stringify(messages.map(({ nonce, ...rest }) => rest), null, "\t")],
};

const save = (messages, title, ending) => {
	const [type, make] = FORMATS[ending], name = title.replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").slice(0, 60) || "chat";
	const href = URL.createObjectURL(new Blob([make(messages, title)], { type }));
	h("a", { href, download: `${name}.${ending}` }).click();
	// Some browsers read it only when the person has chosen a place.
	setTimeout(() => URL.revokeObjectURL(href), 300_000);
};

// A button for each format. `all()` gets the messages.
export const savers = (all, title) => h("div.row.line", { role: "group", ariaLabel: t("keep") }, h("span", t("keep")),
	Object.keys(FORMATS).map((ending) => button({ txt: t("asText"), json: "JSON" }[ending], async () => save(await all(), plain(title), ending))));
