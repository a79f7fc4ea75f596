// Another name for a person in a room: a new session takes the place of the old one, because a session has one name.
// Owns the order of the steps, so that neither the rooms nor what one owns here is lost. Must not know the room's screen.
import { request } from "../client.js";
import { dialog, form, h } from "./dom.js";
import { nameField, passwordField } from "./entry.js";
import { t, why } from "./words.js";
import { adopt, base, session } from "./rest.js";

// The answer that refused it, or nothing.
const rename = async (talk, name, password) => {
	const { session_id: old } = session(), { room, info: { locked }, isOwner } = talk, here = `rooms/${room}`;
	const as = (id, ...call) => request(base, id, ...call);
	const fresh = await as(null, "POST", "sessions", { username: name }), { session_id } = fresh;
	if (!fresh.ok) return fresh;
	// A locked room admits no new member, so its owner opens it for this one request.
	const lock = (on) => isOwner && locked && as(old, "PATCH", here, { locked: on });
	await lock(false);
	const joined = await as(session_id, "POST", `${here}/join`, { password });
	await lock(true);
	if (!joined.ok) {
		as(session_id, "DELETE", "sessions/me");
		return joined;
	}
	const { rooms = [] } = await as(old, "GET", "rooms");
	await Promise.all(rooms.map((id) => id === room || as(session_id, "POST", `rooms/${id}/join`)));
	// The old one leaves first: the new name may differ in case alone.
	talk.close();
	adopt(fresh);
	const settled = new Promise((resolve) => {
		const off = talk.on("state", (state) => {
			if (state !== "open" && state !== "closed") return;
			off();
			resolve();
		});
	});
	talk.open();
	await settled;
	// A room can be handed over only to a person who is present.
	if (isOwner) await as(old, "PATCH", here, { owner: joined.user_id });
	await as(old, "DELETE", "sessions/me");
};

export const askRename = (talk, done) => {
	const { info } = talk;
	dialog(t("rename"), form(t("rename"), [nameField(), info.password ? passwordField() : "", h("small", t("renameHint"), " ", t("renameOthers"))], async ({ name, password }) => {
		const wanted = name.value.trim(), folded = wanted.toLowerCase();
		const isTaken = [...talk.people].some(([user_id, user]) => user_id !== talk.you && user.toLowerCase() === folded);
		if (isTaken) return { name: t("ended_name", { user: wanted }) };
		if (info.locked && !talk.isOwner) return t("renameLocked");
		if (talk.state !== "open") return t("lost");
		const answer = wanted === session().username ? null : await rename(talk, wanted, password?.value);
		if (answer) return answer.code === "bad_username" ? { name: why(answer) } : why(answer);
		for (const one of document.querySelectorAll("dialog")) one.close();
		done(wanted);
	}));
};
