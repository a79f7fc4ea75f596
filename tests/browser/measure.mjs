// Measures the page by tracing: the first paint of the landing page, a full room of 1,000 messages and 200 people as it is
// opened, scrolled back and caught up with, and 10 and 50 messages a second. Prints figures and checks none, because they
// depend on the machine. From the top folder, after a release build:
// CHAT=target/release/disposable-chat node --experimental-websocket tests/browser/measure.mjs [seconds]
import { setTimeout as moment } from "node:timers/promises";
import { FaultyProxy, Server, launch } from "./harness.mjs";

const PEOPLE = 200, KEPT = 1000, RATES = [10, 50], TURNS = 3;
const seconds = Number(process.argv[2] ?? 60);
const server = await Server.start(["--message-rate", "0", "--leave-grace", "1h"]), proxy = await FaultyProxy.to(server.port);

const people = [];
for (let n = 0; n < PEOPLE; n++) people.push(await server.openSession(`person ${n}`));
const { room_id } = await server.ask("POST", "rooms", { title: "A full room" }, people[0].session_id);
const sockets = await Promise.all(people.map(({ session_id }) => new Promise((open) => {
	const socket = new WebSocket(`${server.url.replace("http", "ws")}ws/${room_id}`, ["chat", `bearer.${session_id}`]);
	socket.onopen = () => open(socket);
})));
const say = (n, message) => sockets[n % PEOPLE].send(JSON.stringify({ type: "chat", message }));
const fill = () => { for (let n = 0; n < KEPT; n++) say(n, `message ${n}: ${"some words of a usual length ".repeat(1 + n % 4)}`); };

const browser = await launch();
let page;
const visitor = async () => {
	await page?.context().close();
	page = await (await browser.newContext({ viewport: { width: 360, height: 740 } })).newPage();
	await page.addInitScript(() => {
		window.frames_ = [];
		let last;
		const tick = (now) => {
			if (last) frames_.push(now - last);
			last = now;
			requestAnimationFrame(tick);
		};
		requestAnimationFrame(tick);
	});
};
const shows = (count) => page.waitForFunction((count) => document.querySelectorAll(".bubble").length >= count, count);

// What the page's main thread did: milliseconds of processor time, which other programs on the machine change least, and
// tasks by the clock.
const KINDS = { script: ["FunctionCall", "EvaluateScript", "v8.evaluateModule", "RunMicrotasks"], style: ["UpdateLayoutTree"], layout: ["Layout"], paint: ["PrePaint", "Paint", "Layerize", "Commit"] };
const traced = async (run) => {
	await page.evaluate(() => { window.frames_.length = 0; });
	await browser.startTracing(page, { categories: ["devtools.timeline", "disabled-by-default-devtools.timeline", "loading", "toplevel"] });
	await run();
	const { traceEvents: events } = JSON.parse(await browser.stopTracing());
	const main = events.findLast(({ name }) => name === "firstContentfulPaint") ?? events.find(({ name }) => name === "FunctionCall");
	const here = events.filter(({ pid, tid, ph }) => ph === "X" && pid === main?.pid && tid === main?.tid);
	const busy = (all) => all.reduce((sum, { tdur = 0 }) => sum + tdur, 0) / 1000;
	// Without what ran within another of its kind.
	const outer = (names) => {
		let end = 0;
		return here.filter(({ name }) => names.includes(name)).sort((one, other) => one.ts - other.ts || other.dur - one.dur).filter(({ ts, dur = 0 }) => ts >= end && (end = ts + dur));
	};
	const tasks = outer(["RunTask", "ThreadControllerImpl::RunTask"]);
	const kinds = Object.entries(KINDS).map(([kind, names]) => `${kind} ${busy(outer(names)).toFixed(0)}`).join(", ");
	const lasted = tasks.map(({ dur = 0 }) => dur / 1000);
	const frames = (await page.evaluate(() => frames_)).sort((one, other) => one - other), at = (share) => frames[Math.floor((frames.length - 1) * share)]?.toFixed(0);
	return { events, text: `${busy(tasks).toFixed(0)} ms busy (${kinds}), the longest task ${Math.max(0, ...lasted).toFixed(0)} ms, ${lasted.filter((one) => one > 50).length} over 50 ms; frames p50 ${at(0.5)} p99 ${at(0.99)} max ${at(1)} ms` };
};

for (let turn = 0; turn < TURNS; turn++) {
	await visitor();
	for (const state of ["empty", "warm"]) {
		await page.goto("about:blank");
		const { events, text } = await traced(async () => {
			await page.goto(server.url);
			await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length);
		});
		const html = events.find(({ name, args }) => name === "ResourceSendRequest" && args.data.url === server.url)?.args.data.requestId;
		const ended = events.find(({ name, args }) => name === "ResourceFinish" && args.data.requestId === html)?.ts;
		const paint = events.filter(({ name }) => name === "firstContentfulPaint").at(-1)?.ts;
		console.log(`landing page, ${state} cache: first paint ${((paint - ended) / 1000).toFixed(0)} ms after the HTML; ${text}`);
	}
}
fill();
for (let turn = 0; turn < TURNS; turn++) {
	await visitor();
	await page.goto(`${proxy.url}#/r/${room_id}`);
	await page.getByLabel("Your name").fill("ana");
	console.log(`opened, the last 100 shown: ${(await traced(async () => {
		await page.keyboard.press("Enter");
		await shows(90);
	})).text}`);
	console.log(`scrolled back to all of ${KEPT}: ${(await traced(async () => {
		// By hundreds, some of which are joins.
		for (let count = 0; count < KEPT - 50; count = await page.locator(".bubble").count()) {
			await page.locator(".log").evaluate((log) => { log.scrollTop = 0; });
			await shows(count + 1);
		}
		await moment(300);
	})).text}`);
	await page.reload();
	await shows(90);
	await proxy.close();
	fill();
	await server.chats(people[0], room_id); // Until the server has them.
	console.log(`caught up with ${KEPT} missed: ${(await traced(async () => {
		await proxy.reopen();
		await page.getByRole("button", { name: /again|now/i }).click({ timeout: 3000 }).catch(() => {});
		await shows(KEPT - 200);
		await moment(300);
	})).text}`);
}
for (const rate of RATES) console.log(`${rate} messages a second for ${seconds} s: ${(await traced(async () => {
	const begun = Date.now();
	for (let n = 0; n < seconds * rate; n++) {
		say(n, `live ${n}: ${"and more words ".repeat(1 + n % 5)} https://example.com/${n}`);
		await moment(Math.max(0, begun + n * 1000 / rate - Date.now()));
	}
})).text}`);
await page.setViewportSize({ width: 1280, height: 800 });
console.log(`${RATES[0]} joins and leaves a second for ${seconds} s, beside the list: ${(await traced(async () => {
	const begun = Date.now(), { session_id } = await server.openSession("comes and goes");
	for (let n = 0; n < seconds * RATES[0]; n++) {
		if (n % 2) await server.ask("DELETE", `rooms/${room_id}/leave`, null, session_id);
		else {
			const socket = new WebSocket(`${server.url.replace("http", "ws")}ws/${room_id}`, ["chat", `bearer.${session_id}`]);
			await new Promise((open) => { socket.onopen = open; });
		}
		await moment(Math.max(0, begun + n * 1000 / RATES[0] - Date.now()));
	}
})).text}`);
await browser.close();
await server.stop("SIGTERM");
process.exit(0);
