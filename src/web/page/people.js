// The list of people in a room. Owns its rows and a person's menu. Must not know how the list changes. A change
// touches the rows that differ only: it costs little among hundreds of people, and the others keep the focus.
import { h, iconButton } from "./dom.js";
import { t } from "./words.js";
import { face, tag } from "./log.js";
import { menu } from "./menu.js";

const SHOWN_MAX = 500;

// `actions(user_id, user)` are the entries of a person's menu. `draw()` makes the list in `node` that of now.
export const list = (talk, info, actions) => {
	const node = h("ul.people"), rows = new Map(), rest = h("li");
	const row = (user_id, user, notes) => {
		const more = user_id === talk.you ? "" : iconButton("dots", t("actionsOn", { user }), () => menu(user, more.getBoundingClientRect(), actions(user_id, user)), "end");
		return h("li", face(user, user_id), h("bdi.name", user), tag(user, user_id), notes ? h("small", ` (${notes})`) : "", more);
	};
	const draw = () => {
		const { people, you } = talk;
		for (const [user_id, { node }] of rows) if (!people.has(user_id)) {
			node.remove();
			rows.delete(user_id);
		}
		let at = node.firstChild;
		for (const [user_id, user] of [...people].slice(0, SHOWN_MAX)) {
			const notes = [user_id === info.owner ? t("owner") : "", user_id === you ? t("you") : ""].filter(Boolean).join(", "), shows = `${user}/${notes}`;
			let one = rows.get(user_id);
			if (one?.shows !== shows) {
				if (one?.node === at) at = at?.nextSibling;
				one?.node.remove();
				rows.set(user_id, one = { shows, node: row(user_id, user, notes) });
			}
			if (one.node === at) at = at.nextSibling;
			else node.insertBefore(one.node, at);
		}
		for (const one of [...node.children].slice(Math.min(people.size, SHOWN_MAX))) one.remove();
		if (people.size <= SHOWN_MAX) return;
		rest.textContent = t("others", { n: people.size - SHOWN_MAX });
		node.append(rest);
	};
	return { node, draw };
};
