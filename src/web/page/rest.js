// The REST half of the contract (see docs), and the session that it is used with.
import { shared } from "./store.js";

// Beside the page, wherever a proxy has mounted it.
export const base = new URL(".", location.href.split("#")[0]);

// Two tabs are one person: they share `{session_id, username}`.
export const session = () => shared.get("session");
export const nameBefore = () => session()?.username ?? shared.get("name") ?? "";

// Forgets a session that is over, unless another tab has begun a new one since.
export const forget = (id) => {
	if (session()?.session_id === id) shared.set("session", null);
};

// `{ok, status, wait, …the answer's fields}`; without an answer the status is 0.
export const ask = async (method, path, body) => {
	const mine = session()?.session_id;
	try {
		const answer = await fetch(new URL(path, base), {
			method,
			headers: mine ? { Authorization: `Bearer ${mine}` } : {},
			body: body ? JSON.stringify(body) : null,
			signal: AbortSignal.timeout(20000),
		});
		if (answer.status === 401) forget(mine);
		return { ...await answer.json(), ok: answer.ok, status: answer.status, wait: +answer.headers.get("Retry-After") };
	} catch {
		return { ok: false, status: 0, code: "over_lost" };
	}
};

export const begin = async (username) => {
	const answer = await ask("POST", "sessions", { username });
	if (answer.ok) {
		shared.set("session", answer);
		shared.set("name", answer.username);
	}
	return answer;
};

export const end = async () => {
	const answer = await ask("DELETE", "sessions/me");
	if (answer.ok) shared.set("session", null);
	return answer;
};
