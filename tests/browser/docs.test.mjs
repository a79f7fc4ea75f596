// The page of the API's documents: its forms against the real server.
import assert from "node:assert/strict";
import { eventually, harness } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "50ms");

// An operation of the page, opened.
const operation = async (page, summary) => {
	const call = page.locator("details").filter({ has: page.locator("summary", { hasText: summary }) });
	await call.locator("summary").click();
	return {
		fill: (name, value) => call.getByLabel(name).fill(value),
		press: (name) => call.getByRole("button", { name, exact: true }).click(),
		shows: (text) => call.locator("output").filter({ hasText: text }).waitFor(),
	};
};

const enter = async (person) => {
	const { page } = await person({ viewport: { width: 1100, height: 900 } });
	await page.goto(`${server.url}docs`);
	await page.getByRole("button", { name: "Get both" }).click();
	await page.getByText("You are guest").waitFor();
	await eventually(async () => (await page.locator("#you [name=room_id]").inputValue()).length, 10);
	return page;
};

// contract §11.2
scenario("a stream is shown as it arrives, until it is stopped", async ({ person }) => {
	const page = await enter(person), room = await page.locator("#you [name=room_id]").inputValue();
	const users = async () => (await server.ask("GET", `rooms/${room}`)).user_count;
	const events = await operation(page, "Follow a room without a WebSocket");
	await events.press("Send");
	await events.shows('"type":"welcome"');
	await eventually(users, 1);
	const post = await operation(page, "Post a message");
	await post.press("Send");
	await post.shows("201");
	await events.shows("Hello world!");
	await events.press("Stop");
	await eventually(users, 0);
});

// contract §11.2
scenario("forms send parameters of the path, the query and the head, and a body", async ({ person, allow }) => {
	allow(/the server responded with a status of 4\d\d/);
	const page = await enter(person);
	const post = await operation(page, "Post a message");
	await post.press("Send");
	await post.shows("201");
	const list = await operation(page, "Read the history");
	await list.fill("limit", "0");
	await list.press("Send");
	await list.shows("bad_query");
	const remove = await operation(page, "Delete a chat");
	await remove.fill("message_id", "no id");
	await remove.press("Send");
	await remove.shows("message_not_found");
	const change = await operation(page, "Change my room");
	await change.press("Send");
	await change.shows('"slow_mode": 10');
	const events = await operation(page, "Follow a room without a WebSocket");
	await events.fill("Last-Event-ID", "end");
	await events.press("Send");
	await events.shows("204");
});

scenario("the documents have the colours of the page, and a link back to it", async ({ person }) => {
	const { page } = await person();
	const SAME = [["--back", "--bg"], ["--box", "--box"], ["--text", "--fg"], ["--soft", "--soft"], ["--line", "--line"], ["--accent", "--accent"], ["--on", "--on"], ["--red", "--red"]];
	const colours = async (side) => {
		const read = () => page.evaluate((names) => names.map((name) => getComputedStyle(document.documentElement).getPropertyValue(name)), SAME.map((pair) => pair[side]));
		await page.emulateMedia({ colorScheme: "light" });
		const light = await read();
		await page.emulateMedia({ colorScheme: "dark" });
		return [light, await read()];
	};
	for (const path of ["docs", "docs/"]) {
		await page.goto(server.url);
		const expected = await colours(0);
		await page.goto(`${server.url}${path}`);
		assert.deepEqual(await colours(1), expected);
		await page.getByRole("link", { name: "Socket" }).waitFor();
		await page.getByRole("link", { name: "Disposable Chat" }).click();
		await page.getByRole("heading", { name: "Disposable Chat", level: 1 }).waitFor();
		assert.equal(page.url(), server.url);
	}
});
