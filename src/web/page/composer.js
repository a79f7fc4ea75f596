// Where messages are written. Owns the text field, its draft, its keys, and the list of names that complete.
// Must not know the connection: `say(text)` returns false if the text can't be taken.
import { aria, h, iconButton } from "./dom.js";
import { t } from "./words.js";
import { LENGTH_MAX, length } from "../client.js";
import { tab } from "./store.js";
import { complete, completions, mentionAt } from "./typed.js";

// The main pointer stands for the keyboard: no browser says whether it is on the screen.
const isTouch = () => matchMedia("(pointer: coarse)").matches;

export class Composer {
	#offered = []; #chosen = 0; #mention = null;

	constructor(room, { names, say, keyed }) {
		Object.assign(this, { names, keyed });
		this.key = `draft ${room}`;
		this.left = h("small.left", { role: "status" });
		this.list = h("ul.offers", { id: "offers", role: "listbox", ariaLabel: t("here"), hidden: true });
		this.input = h("textarea", { rows: 1, value: tab.get(this.key) ?? "", ariaLabel: t("message"), placeholder: t("message"), dir: "auto", ariaAutocomplete: "list" });
		this.input.setAttribute("enterkeyhint", isTouch() ? "enter" : "send");
		const send = iconButton("send", t("send"), null, "primary");
		send.type = "submit";
		this.node = h("form.composer", this.input, send, this.left, this.list);
		this.node.onsubmit = (event) => {
			event.preventDefault();
			const text = this.input.value;
			if (!this.#measure()) return;
			if (!say(text)) return this.left.textContent = t("full");
			this.said = text.trim();
			this.#set("");
			this.input.focus();
		};
		this.input.oninput = () => {
			this.#keep();
			this.#offer();
			if (this.input.value) this.keyed();
		};
		this.input.onkeydown = (event) => this.#onKey(event);
		this.input.onblur = () => this.#close();
		requestAnimationFrame(() => this.#measure());
	}

	// Puts a text at the caret, on its own line if it is a quote.
	insert(text) {
		const { input } = this, { value, selectionStart: start, selectionEnd: end } = input, before = value.slice(0, start);
		const gap = !before || /\s$/.test(before) ? "" : text[0] === ">" ? "\n" : " ";
		input.focus();
		this.#set(before + gap + text + value.slice(end), start + gap.length + text.length);
	}

	#set(text, caret = text.length) {
		this.input.value = text;
		this.input.setSelectionRange(caret, caret);
		this.#keep();
		this.#close();
	}

	#keep() {
		this.#measure();
		tab.set(this.key, this.input.value || null);
	}

	#measure() {
		const { input, left } = this, rest = LENGTH_MAX - length(input.value);
		input.style.height = "auto";
		input.style.height = `${input.scrollHeight}px`;
		left.textContent = rest > 400 ? "" : rest < 0 ? t("tooLong", { n: -rest }) : t("left", { n: rest });
		aria(input, "ariaInvalid", rest < 0);
		return rest >= 0 && rest < LENGTH_MAX;
	}

	#onKey(event) {
		const { key, shiftKey, ctrlKey, metaKey, isComposing, keyCode } = event, { input } = this;
		if (isComposing || keyCode === 229) return; // The key belongs to an input method.
		const done = (deed) => { event.preventDefault(); deed(); };
		if (this.#offered.length) {
			const step = { ArrowDown: 1, ArrowUp: this.#offered.length - 1 }[key];
			if (step) return done(() => this.#mark((this.#chosen + step) % this.#offered.length));
			if (key === "Tab" || key === "Enter" && !shiftKey) return done(() => this.#choose(this.#offered[this.#chosen]));
			if (key === "Escape") return done(() => this.#close());
		}
		if (key === "Enter" && !shiftKey && (!isTouch() || ctrlKey || metaKey)) done(() => this.node.requestSubmit());
		else if (key === "ArrowUp" && !input.value && this.said) done(() => this.#set(this.said));
	}

	#offer() {
		const { input, list } = this, { value, selectionStart: start, selectionEnd: end } = input;
		this.#mention = start === end && mentionAt(value, start);
		this.#offered = this.#mention ? completions(this.#mention.part, this.names()) : [];
		if (!this.#offered.length) return this.#close();
		list.replaceChildren(...this.#offered.map((name, n) =>
			// The press would take the focus, and with it a phone's keyboard.
			h("li", { id: `offer${n}`, role: "option", onpointerdown: (event) => event.preventDefault(), onclick: () => this.#choose(name) }, h("bdi", name))));
		list.hidden = false;
		aria(input, "ariaControls", "offers");
		this.#mark(0);
	}

	#mark(chosen) {
		this.#chosen = chosen;
		for (const [n, option] of [...this.list.children].entries()) aria(option, "ariaSelected", n === chosen);
		aria(this.input, "ariaActiveDescendant", `offer${chosen}`);
	}

	#choose(name) {
		const { text, caret } = complete(this.input.value, this.#mention, name);
		this.#set(text, caret);
	}

	#close() {
		this.#offered = [];
		this.list.hidden = true;
		for (const name of ["aria-controls", "aria-activedescendant"]) this.input.removeAttribute(name);
	}
}
