// The list of people in a room. Owns its rows and a person's menu. Must not know how the list changes.
import { h, iconButton } from "./dom.js";
import { t } from "./words.js";
import { face, tag } from "./log.js";
import { menu } from "./menu.js";

const SHOWN_MAX = 500;

// `actions(user_id, user)` are the entries of a person's menu.
export const list = (people, { you, owner }, actions) => h("ul.people",
	[...people].slice(0, SHOWN_MAX).map(([user_id, user]) => {
		const notes = [user_id === owner ? t("owner") : "", user_id === you ? t("you") : ""].filter(Boolean).join(", ");
		const more = user_id === you ? "" : iconButton("dots", t("actionsOn", { user }), () => menu(user, more.getBoundingClientRect(), actions(user_id, user)), "end");
		return h("li", face(user, user_id), h("bdi.name", user), tag(user, user_id), notes ? h("small", ` (${notes})`) : "", more);
	}),
	people.size > SHOWN_MAX ? h("li", t("others", { n: people.size - SHOWN_MAX })) : "");
