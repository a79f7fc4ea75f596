// Reads rooms from links, codes, and the text around them. Owns what counts as a link to a room. Must not know the
// page: the address bar and pasted text are read in the same way.

const CODE = "([0-9a-fA-F]{32}|[0-9a-fA-F]{10})(?![0-9a-zA-Z])";
// Not a lookbehind, which is a syntax error in Safari before 16.4.
const LOOSE = new RegExp(`(?:^|[^0-9a-z])${CODE}`, "i"), EXACT = new RegExp(`^${CODE}(?:/([\\w-]{42}[AEIMQUYcgkosw048])(?![\\w-]))?`);

// `{id, key}` of the room in a text, `key` for encrypted rooms (contract §15.4) only. What follows `#/r/` wins, even if it
// is no room: the host of a link may look like a code.
export const roomIn = (text) => {
	const at = text.search(/#\/r\//i), found = at < 0 ? LOOSE.exec(text) : EXACT.exec(text.slice(at + 4));
	return found && { id: found[1].toLowerCase(), key: found[2] };
};

export const isLink = (hash) => /^#\/r\//i.test(hash);
export const pathTo = ({ id, key }) => `#/r/${id}${key ? `/${key}` : ""}`;
