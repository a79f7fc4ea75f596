// Takes the README's two pictures, a room with four people in light and dark colours. `tests/guide.rs` bounds their size,
// so fewer colours follow. From the top folder, after a build, with the fonts Inter and Noto Color Emoji:
// node tests/browser/picture.mjs && pngquant --speed 1 --nofs --strip --force --ext .png 64 src/guide/images/*.png
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Person, Server, launch, until } from "./harness.mjs";

const [folder = "src/guide/images"] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const server = await Server.start();
const browser = await launch();
const create = (options) => Person.create(browser, { viewport: { width: 860, height: 674 }, reducedMotion: "reduce", ...options });
const ana = await create({ deviceScaleFactor: 2 }), bo = await create(), cleo = await create(), davi = await create();

const url = await ana.open(server.url, "Ana", { title: "Sunday lunch" });
for (const [one, name] of [[bo, "Bo"], [cleo, "Cleo"], [davi, "Davi"]]) await one.enter(url, name);
let count = 0;
const say = async (one, ...texts) => {
	await one.say(...texts);
	count += texts.length;
	// The next person answers what is on the screen.
	await until(`message ${count}`, async () => (await ana.texts()).length === count);
};
await say(ana, "Is Sunday at one good for everyone?");
await say(bo, "Yes! I can bring a salad 🥗");
await say(cleo, "One works. How do I get there?");
await say(ana, "Bus 12 to the old mill: https://map.example/bus-12");
await say(davi, "> I can bring a salad 🥗\nThen I bring bread and cheese.", "@Ana, is there an oven?");
await say(ana, "There is, and `220 °C` in ten minutes 😀");
await say(cleo, "🎉");
await until("Bo is typing", async () => {
	await bo.box.pressSequentially("x");
	return await ana.page.locator(".typing").textContent() !== "";
});
await ana.box.fill("See you all on Sunday!");
for (const colorScheme of ["light", "dark"]) {
	await ana.page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
	await ana.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
	await ana.page.screenshot({ path: join(folder, `room-${colorScheme}.png`), caret: "hide" });
}
await browser.close();
await server.stop();
