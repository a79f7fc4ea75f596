// The part that every `cargo test` runs.
import { eventually, harness } from "./harness.mjs";

const { scenario, serve } = await harness();
const server = await serve("--leave-grace", "1h");

// contract §6.19 §11.1
scenario("two people chat, one reloads the page, one leaves", async ({ person }) => {
	const [ana, bo] = [await person(), await person()];
	const room = await ana.open(server.url, "ana", { title: "Tea" });
	await bo.enter(room, "bo");
	await ana.say("Hello");
	await bo.reads("Hello");
	await bo.say("Hi, ana");
	await ana.reads("Hello", "Hi, ana");
	await ana.say("How are you?");
	await bo.reads("Hello", "Hi, ana", "How are you?");
	await bo.page.reload();
	await bo.isIn();
	await bo.reads("Hello", "Hi, ana", "How are you?");
	await bo.more("Leave the room");
	await bo.heading("Disposable Chat").waitFor();
	// The reload is not announced: its socket closes with 1001, and bo is back within the grace.
	await eventually(() => ana.notices(), ["ana and bo joined", "bo left"]);
	await ana.button("1 person").waitFor();
});
