// What this browser remembers: who I am, for all tabs; what I had not got rid of, for this tab.

const keep = (name) => {
	const prefix = `disposable-chat ${new URL(".", location).pathname} `, memory = {};
	// Where storing is blocked, an object will do until the tab is closed.
	const tried = (deed) => { try { return deed(window[name]); } catch { return deed(memory); } };
	return {
		get: (key) => tried((all) => JSON.parse(all[prefix + key] ?? "null")),
		set: (key, value) => tried((all) => value === null ? delete all[prefix + key] : all[prefix + key] = JSON.stringify(value)),
	};
};

export const shared = keep("localStorage");
export const tab = keep("sessionStorage");
