// Requests to the REST API (see docs), and the session they use.
import { shared } from "./store.js";

// The folder of the page, which a proxy may mount under a prefix.
export const base = new URL(".", location.href.split("#")[0]);

// All tabs share one session: `{session_id, username}`.
export const session = () => shared.get("session");
export const nameBefore = () => session()?.username ?? shared.get("name") ?? "";

// Forgets a session that has ended, unless another tab has opened a new one since.
export const forget = (id) => {
	if (session()?.session_id === id) shared.set("session", null);
};

// `{ok, status, wait, …fields of the response}`; without a response the status is 0.
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
		return { ok: false, status: 0, code: "ended_lost" };
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
