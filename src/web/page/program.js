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

// Without the client module a program would have to encrypt by itself.
const encrypting = ({ room_id: room, password }, key) => [
	`curl -so client.mjs ${new URL("client.js", base).href}`,
	"cat > robot.mjs <<'END'",
	'import { connect } from "./client.mjs";',
	`const chat = await connect(${JSON.stringify({ base, room, key, name: "robot", password: password ? "…" : undefined })});`,
	'chat.on("chat", ({ user, message }) => console.log(user, message));',
	'chat.say("Hello from a program");',
	"END",
	"node robot.mjs",
	"",
].join("\n");

export const program = (info, key) => {
	const text = key ? encrypting(info, key) : commands(info);
	dialog(t("program"), h("p", t(key ? "programTextKey" : "programText")), h("pre.commands", { tabIndex: 0, dir: "ltr" }, text),
		h("div.row", copier(text), h("a.button", { href: "docs" }, t("api"))));
};
