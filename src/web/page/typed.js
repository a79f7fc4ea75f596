// What is put into a message while it is written: the name after an "@", and the quote of a reply.
// Owns how both look in the text. Must not know the DOM, so that tests run it without a browser.

const NAME_MAX = 100; // UTF-16 units: a name has at most 50 characters.
const OFFERED_MAX = 6;
const QUOTE_LINES = 3, QUOTE_LENGTH = 200;

const fold = (text) => text.normalize("NFKC").toLowerCase();

// The start of a name before the caret: `{at, part}`, or nothing. After a letter an "@" belongs to an address.
export const mentionAt = (text, caret) => {
	const near = text.slice(Math.max(0, caret - NAME_MAX - 1), caret), [, before, part] = near.match(/(^|.)@([^@\n]*)$/su) ?? [];
	if (part === undefined || /[\p{L}\p{N}]/u.test(before)) return;
	return { at: caret - part.length - 1, part };
};

// The names that complete `part`. None once it is one of them in full, so that Enter sends again.
export const completions = (part, names) => {
	const typed = fold(part), found = new Map();
	for (const name of names) {
		const folded = fold(name);
		if (folded === typed) return [];
		if (folded.startsWith(typed) && !found.has(folded)) found.set(folded, name);
		if (found.size === OFFERED_MAX) break;
	}
	return [...found.values()];
};

export const complete = (text, { at, part }, name) => {
	const before = `${text.slice(0, at)}@${name} `, after = text.slice(at + 1 + part.length);
	return { text: before + after.replace(/^ /, ""), caret: before.length };
};

// A long message is quoted in part. The mention tells its author of the reply; `user` is empty for one's own.
export const reply = (message, user) => {
	const lines = [...message.slice(0, 2 * QUOTE_LENGTH)].slice(0, QUOTE_LENGTH).join("").split("\n", QUOTE_LINES);
	const quote = lines.map((line) => `> ${line}`).join("\n"), isWhole = lines.join("\n").length === message.length;
	return `${quote}${isWhole ? "" : "…"}\n${user ? `@${user} ` : ""}`;
};
