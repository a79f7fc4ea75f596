// How a program talks to the room one is in. Owns the commands that are shown. Must not know the room's messages.
import { copier, dialog, h } from "./dom.js";
import { t } from "./words.js";
import { base } from "./rest.js";

const commands = ({ room_id, password }) => [
	`CHAT=${new URL(base).href}`,
	`ROOM=${room_id}`,
	`# A session, which is the program's name and its secret.`,
	`SESSION=$(curl -s "\${CHAT}sessions" -d '{"username":"robot"}' | grep -o '[0-9a-f-]\\{36\\}')`,
	`# Join${password ? ". Put the password in" : ""}, then say something.`,
	`curl -s "\${CHAT}rooms/$ROOM/join" -X POST -H "Authorization: Bearer $SESSION"${password ? ` -d '{"password":"…"}'` : ""}`,
	`curl -s "\${CHAT}rooms/$ROOM/messages" -H "Authorization: Bearer $SESSION" -d '{"message":"Hello from a program"}'`,
	`# Follow the room, one line of JSON for each event.`,
	`curl -sN "\${CHAT}rooms/$ROOM/events" -H "Authorization: Bearer $SESSION"`,
	"",
].join("\n");

export const program = (info) => {
	const text = commands(info);
	dialog(t("program"), h("p", t("programText")), h("pre.commands", { tabIndex: 0, dir: "ltr" }, text),
		h("div.row", copier(text), h("a.button", { href: "docs" }, t("api"))));
};
