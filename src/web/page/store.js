// What this browser stores: `shared` by all tabs, or for this `tab`.

const keep = (name) => {
	const prefix = `disposable-chat ${new URL(".", location).pathname} `, memory = {};
	// If storage is blocked, an object replaces it until the tab is closed.
	const tried = (deed) => { try { return deed(window[name]); } catch { return deed(memory); } };
	return {
		get: (key) => tried((all) => JSON.parse(all[prefix + key] ?? "null")),
		set: (key, value) => tried((all) => value === null ? delete all[prefix + key] : all[prefix + key] = JSON.stringify(value)),
	};
};

export const shared = keep("localStorage");
export const tab = keep("sessionStorage");
