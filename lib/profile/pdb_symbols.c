/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols of the whole image: the publics, and data that has none. */
#include "profile/pdb_file.h"

#define SECTION_BYTES 40u
#define OMAP_BYTES 8u
#define SECTIONS_MAX 96u	/* what Windows loads */
#define MACHINE_X86 0x14cu

enum {
	S_PUB32_ST = 0x1009, S_LDATA32 = 0x110c, S_GDATA32 = 0x110d, S_PUB32 = 0x110e
};
/* S_PUB32 flags. */
#define PUBLIC_CODE 1u
#define PUBLIC_FUNCTION 2u

struct placing {
	const struct pdb_file *file;
	struct pdb_stream sections, omap;
	uint64_t base;
	bool decorated;		/* 32-bit names are */
	struct symbols *symbols;	/* filled */
	const struct symbols *known;	/* names that are not wanted again, or NULL */
};

/*
 * Where an optimiser moved code and data about, symbols tell of the places before: ranges that start
 * at the first number went to the second, 0: they are gone.
 */
static bool moved(const struct pdb_stream *omap, uint32_t rva, uint32_t *ret)
{
	uint32_t low = 0, high = omap->len / OMAP_BYTES;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (load_le32(omap->bytes + (size_t)middle * OMAP_BYTES) <= rva)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	const uint8_t *entry = omap->bytes + (size_t)(low - 1) * OMAP_BYTES;
	uint32_t target = load_le32(entry + 4);
	if (target == 0)
		return false;
	*ret = target + (rva - load_le32(entry));
	return true;
}

static bool place(const struct placing *p, uint32_t section, uint32_t offset, uint32_t *rva_ret)
{
	uint32_t count = MIN(p->sections.len / SECTION_BYTES, SECTIONS_MAX);

	if (section == 0 || section > count)
		return false;
	const uint8_t *header = p->sections.bytes + (size_t)(section - 1) * SECTION_BYTES;
	uint32_t rva = load_le32(header + 12) + offset;
	if (rva < offset)
		return false;
	if (p->omap.len > 0)
		return moved(&p->omap, rva, rva_ret);
	*rva_ret = rva;
	return true;
}

/*
 * 32-bit C names: _cdecl, _stdcall@8, @fastcall@8. C++ names (which begin with '?') stay as they are.
 */
static void undecorate(const char **name, size_t *len)
{
	const char *n = *name;
	size_t l = *len, digits = 0;

	if (l < 2 || (n[0] != '_' && n[0] != '@'))
		return;
	while (digits < l && n[l - 1 - digits] >= '0' && n[l - 1 - digits] <= '9')
		digits++;
	bool has_bytes = digits > 0 && digits + 2 < l && n[l - 1 - digits] == '@';
	if (n[0] == '@' && !has_bytes)
		return;
	if (has_bytes)
		l -= digits + 1;
	*name = n + 1;
	*len = l - 1;
}

struct record {
	uint32_t kind, offset, section;
	const char *name;
	size_t name_len;
};

/* False: it is of no kind that is looked for, or is damaged. */
static bool parse(const uint8_t *at, uint32_t len, struct record *ret)
{
	uint32_t kind = load_le16(at + 2);

	if (kind != S_PUB32 && kind != S_PUB32_ST && kind != S_LDATA32 && kind != S_GDATA32)
		return false;
	if (len < 15)
		return false;
	uint32_t flags = load_le32(at + 4);
	const char *name = (const char *)at + 14;
	size_t room = len - 14, name_len;
	bool is_public = kind == S_PUB32 || kind == S_PUB32_ST;
	if (kind == S_PUB32_ST) {
		name_len = (uint8_t)name[0];
		name++;
		if (name_len >= room)
			return false;
		name_len = strnlen(name, name_len);
	} else {
		name_len = strnlen(name, room);
		if (name_len == room)
			return false;
	}
	if (name_len == 0 || name_len > TYPE_NAME_MAX)
		return false;
	*ret = (struct record){
		.kind = is_public ? flags & (PUBLIC_CODE | PUBLIC_FUNCTION) ? 'T' : 'D' :
				    kind == S_GDATA32 ? 'D' : 'd',
		.offset = load_le32(at + 8),
		.section = load_le16(at + 12),
		.name = name,
		.name_len = name_len,
	};
	return true;
}

static int add(struct placing *p, const struct record *record)
{
	char text[TYPE_NAME_MAX + 1];
	const char *name = record->name;
	size_t len = record->name_len;
	uint64_t known;
	uint32_t rva;

	if (!place(p, record->section, record->offset, &rva))
		return 0;
	if (p->decorated)
		undecorate(&name, &len);
	memcpy(text, name, len);
	text[len] = '\0';
	if (p->known && symbols_find(p->known, text, &known) == 0)
		return 0;
	return symbols_add(p->symbols, p->base + rva, record->kind, text, len);
}

/* Publics or the others. */
static int add_records(struct placing *p, const struct pdb_stream *records, bool publics)
{
	struct record record;

	for (uint32_t at = 0; records->len - at >= 4;) {
		uint32_t len = load_le16(records->bytes + at) + 2u;
		if (len < 4 || len > records->len - at)
			return pdb_bad(p->file, "a symbol is cut short");
		uint32_t kind = load_le16(records->bytes + at + 2);
		bool is_public = kind == S_PUB32 || kind == S_PUB32_ST;
		if (is_public == publics && parse(records->bytes + at, len, &record)) {
			int err = add(p, &record);
			if (err == -EOVERFLOW)
				return pdb_bad(p->file, "it has too many symbols");
			if (err < 0)
				return pdb_no_memory(p->file);
		}
		at += len;
	}
	return 0;
}

/* There is room: nothing fails half way. */
static void append(const struct symbols *from, struct symbols *to)
{
	for (uint32_t i = 0; i < from->count; i++) {
		struct hvmi_symbol symbol;
		symbols_get(from, i, &symbol);
		symbols_add(to, symbol.gva, symbol.kind, symbol.name, strlen(symbol.name));
	}
}

int pdb_load_symbols(const struct pdb_file *file, const struct pdb_debug *debug, uint64_t base,
		     struct symbols *ret)
{
	PDB_STREAM records = { 0 };
	struct symbols publics = { 0 }, others = { 0 };
	struct placing p = {
		.file = file,
		.base = base,
		.decorated = debug->machine == MACHINE_X86,
		.symbols = &publics,
	};
	bool is_moved = debug->omap != PDB_STREAM_NONE &&
			debug->sections_original != PDB_STREAM_NONE;

	int err = pdb_stream_read(file, debug->symbol_records, &records);
	if (err == 0)
		err = pdb_stream_read(file, is_moved ? debug->sections_original : debug->sections,
				      &p.sections);
	if (err == 0 && is_moved)
		err = pdb_stream_read(file, debug->omap, &p.omap);
	if (err == 0)
		err = add_records(&p, &records, true);
	if (err == 0 && symbols_freeze(&publics) < 0)
		err = pdb_no_memory(file);
	if (err == 0) {
		p.symbols = &others;
		p.known = &publics;
		err = add_records(&p, &records, false);
	}
	if (err == 0 && symbols_freeze(&others) < 0)
		err = pdb_no_memory(file);
	if (err == 0 && symbols_reserve(ret, publics.count + others.count,
					publics.names_len + others.names_len) < 0)
		err = pdb_no_memory(file);
	if (err == 0) {
		append(&publics, ret);
		append(&others, ret);
	}
	symbols_deinit(&publics);
	symbols_deinit(&others);
	pdb_stream_free(&p.sections);
	pdb_stream_free(&p.omap);
	return err;
}
