// QR codes (ISO/IEC 18004) as SVG paths: byte mode, error correction level M, versions 1 to 9.

// Per version: data bytes, error correction bytes per block, number of blocks.
const DATA = [16, 28, 44, 64, 86, 108, 124, 154, 182];
const CORRECTION = [10, 16, 26, 18, 24, 16, 18, 22, 22];
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5];
const NUMBERS = [0x7c94, 0x85bc, 0x9a99]; // Version information with check bits, from version 7 on.

// Products in GF(256) modulo x⁸ + x⁴ + x³ + x² + 1.
const times = (a, b) => {
	let product = 0;
	for (let bit = 7; bit >= 0; bit--) {
		product = (product << 1) ^ (product >> 7) * 0x11d;
		product ^= (b >> bit & 1) * a;
	}
	return product;
};

// Reed-Solomon: the remainder of `data` divided by the polynomial with the roots 2⁰, 2¹, …
const correction = (data, count) => {
	let divisor = [1], root = 1;
	for (let n = 0; n < count; n++, root = times(root, 2))
		divisor = [...divisor, 0].map((one, at) => one ^ (at ? times(divisor[at - 1], root) : 0));
	const rest = new Array(count).fill(0);
	for (const byte of data) {
		const factor = byte ^ rest.shift();
		rest.push(0);
		for (let n = 0; n < count; n++) rest[n] ^= times(divisor[n + 1], factor);
	}
	return rest;
};

const codewords = (bytes, version) => {
	const size = DATA[version - 1], per = CORRECTION[version - 1], blocks = BLOCKS[version - 1];
	const bits = [], push = (value, count) => { while (count--) bits.push(value >> count & 1); };
	push(4, 4);
	push(bytes.length, 8);
	for (const byte of bytes) push(byte, 8);
	push(0, Math.min(4, size * 8 - bits.length));
	push(0, -bits.length & 7);
	for (let pad = 0xec; bits.length < size * 8; pad ^= 0xfd) push(pad, 8);
	const data = Array.from({ length: size }, (_, n) => bits.slice(n * 8, n * 8 + 8).reduce((all, bit) => all * 2 + bit, 0));
	// The first blocks are one byte shorter. All are interleaved.
	const short = blocks - size % blocks, least = Math.floor(size / blocks), parts = [];
	for (let n = 0, at = 0; n < blocks; n++) {
		const part = data.slice(at, at += least + (n >= short));
		parts.push([part, correction(part, per)]);
	}
	const woven = [];
	for (const which of [0, 1])
		for (let n = 0; n <= Math.max(least, per); n++) for (const part of parts) if (n < part[which].length) woven.push(part[which][n]);
	return woven;
};

const drawn = (version, woven) => {
	const size = version * 4 + 17, grid = Array.from({ length: size }, () => new Array(size).fill(null));
	const square = (cx, cy, radius, isDark) => {
		for (let y = -radius; y <= radius; y++)
			for (let x = -radius; x <= radius; x++)
				if (grid[cy + y] && cx + x in grid) grid[cy + y][cx + x] = +isDark(Math.max(Math.abs(x), Math.abs(y)));
	};
	for (let n = 0; n < size; n++) grid[6][n] = grid[n][6] = +(n % 2 === 0);
	for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, (ring) => ring !== 2 && ring !== 4);
	const end = size - 7, aligned = version > 6 ? [6, (size - 1) / 2, end] : version > 1 ? [6, end] : [];
	for (const x of aligned)
		for (const y of aligned)
			// The finder patterns occupy three corners.
			if (x + y !== 12 && (x + y !== end + 6 || x === y)) square(x, y, 2, (ring) => ring !== 1);
	// Format information, twice: level M and mask 0, a chessboard. The standard selects the best of eight
	// masks; readers accept any.
	const format = 0x5412, bit = (n) => format >> n & 1;
	for (let n = 0; n < 15; n++) {
		grid[n < 6 ? n : n < 8 ? n + 1 : 8][n < 8 ? 8 : n === 8 ? 7 : 14 - n] = bit(n);
		if (n < 8) grid[8][size - 1 - n] = bit(n);
		else grid[size - 15 + n][8] = bit(n);
	}
	grid[size - 8][8] = 1;
	for (let n = 0; n < 18 && version > 6; n++) {
		const a = size - 11 + n % 3, b = Math.floor(n / 3);
		grid[a][b] = grid[b][a] = NUMBERS[version - 7] >> n & 1;
	}
	// Data fills columns of two from the right, alternately up and down, and skips the timing pattern.
	let at = 0;
	for (let right = size - 1, isUp = true; right > 0; right -= 2, isUp = !isUp) {
		if (right === 6) right = 5;
		for (let n = 0; n < size; n++)
			for (const x of [right, right - 1]) {
				const y = isUp ? size - 1 - n : n;
				if (grid[y][x] !== null) continue;
				grid[y][x] = (woven[at >> 3] >> 7 - (at & 7) ^ x + y + 1) & 1;
				at++;
			}
	}
	return grid;
};

// Rows of 0 and 1 without the quiet zone, or `null` if the text is too long.
export const qr = (text) => {
	const bytes = new TextEncoder().encode(text);
	const version = DATA.findIndex((size) => size >= bytes.length + 2) + 1;
	return version ? drawn(version, codewords(bytes, version)) : null;
};

export const path = (grid) => grid.flatMap((row, y) => row.map((dark, x) => dark ? `M${x + 4} ${y + 4}h1v1h-1z` : "")).join("");
