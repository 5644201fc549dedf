/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The texts are those of QEMU 3.0 to 10: mtree_print_flatview() in softmmu/memory.c,
 * hmp_gpa2hva() and memory_dump() in monitor/, x86_cpu_dump_state() in target/i386/cpu-dump.c and
 * aarch64_cpu_dump_state() in target/arm/cpu.c.
 */
#include "hmp.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A hexadecimal number at *p, with or without 0x; moves *p behind it. */
static bool take_hex(const char **p, uint64_t *ret)
{
	const char *s = *p;
	if (s[0] == '0' && s[1] == 'x')
		s += 2;
	uint64_t value = 0;
	int digits = 0;
	for (; isxdigit((unsigned char)*s) && digits < 16; s++, digits++) {
		char c = (char)tolower((unsigned char)*s);
		value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	if (!digits || isxdigit((unsigned char)*s))
		return false;
	*p = s;
	*ret = value;
	return true;
}

static bool take_text(const char **p, const char *text)
{
	size_t len = strlen(text);
	if (strncmp(*p, text, len))
		return false;
	*p += len;
	return true;
}

static size_t line_length(const char *line)
{
	return strcspn(line, "\r\n");
}

static const char *next_line(const char *line)
{
	line += strcspn(line, "\n");
	return *line ? line + 1 : line;
}

/* "pc.ram", "pc.ram @0000000000100000", either with the accelerator's name behind it. */
static void take_region(const char *name, size_t len, struct hmp_piece *ret)
{
	static const char mark[] = " @";
	size_t end = len;
	const char *at = memmem(name, len, mark, 2);
	if (at) {
		const char *number = at + 2;
		if (take_hex(&number, &ret->offset))
			end = (size_t)(at - name);
	} else {
		static const char *const accelerators[] = { " KVM", " HVF", " MSHV", " WHPX" };
		for (size_t i = 0; i < sizeof(accelerators) / sizeof(*accelerators); i++) {
			size_t n = strlen(accelerators[i]);
			if (len > n && !memcmp(name + len - n, accelerators[i], n))
				end = len - n;
		}
	}
	snprintf(ret->region, sizeof(ret->region), "%.*s", (int)(end < 64 ? end : 63), name);
}

/* "  0000000000100000-000000001fffffff (prio 0, ram): pc.ram @0000000000100000" */
static bool take_piece(const char *line, struct hmp_piece *ret)
{
	const char *p = line, *end = line + line_length(line);
	uint64_t first, last;
	*ret = (struct hmp_piece){ 0 };
	if (!take_text(&p, "  ") || !take_hex(&p, &first) || !take_text(&p, "-") ||
	    !take_hex(&p, &last) || last < first || last - first == UINT64_MAX ||
	    !take_text(&p, " (prio "))
		return false;
	p = memchr(p, ',', (size_t)(end - p));
	if (!p || !take_text(&p, ", "))
		return false;
	take_text(&p, "nv-");
	if (take_text(&p, "rom): "))
		ret->rom = true;
	else if (!take_text(&p, "ram): "))
		return false;
	ret->gpa = first;
	ret->len = last - first + 1;
	take_region(p, (size_t)(end - p), ret);
	return true;
}

int hmp_mtree(const char *text, struct hmp_piece **ret, size_t *count_ret)
{
	struct hmp_piece *pieces = NULL;
	size_t count = 0, room = 0;
	bool inside = false, found = false;
	for (const char *line = text; *line; line = next_line(line)) {
		if (!strncmp(line, "FlatView #", 10)) {
			if (found)
				break;
			inside = true;
		}
		if (inside && !strncmp(line, " AS \"memory\",", 13))
			found = true;
		struct hmp_piece piece;
		if (!found || !take_piece(line, &piece))
			continue;
		if (count == room) {
			room = room ? 2 * room : 64;
			struct hmp_piece *more = room <= HMP_PIECES_MAX ?
				realloc(pieces, room * sizeof(*pieces)) : NULL;
			if (!more) {
				free(pieces);
				return room <= HMP_PIECES_MAX ? -ENOMEM : -EOVERFLOW;
			}
			pieces = more;
		}
		pieces[count++] = piece;
	}
	if (!count) {
		free(pieces);
		return -EBADMSG;
	}
	*ret = pieces;
	*count_ret = count;
	return 0;
}

int hmp_gpa2hva(const char *text, uint64_t *ret)
{
	const char *p = strstr(text, ") is 0x");
	if (strncmp(text, "Host virtual address for ", 25) || !p)
		return -ENOENT;
	p += 5;
	return take_hex(&p, ret) ? 0 : -ENOENT;
}

int hmp_xp(const char *text, uint64_t gpa, uint64_t *words, size_t count)
{
	size_t done = 0;
	for (const char *line = text; *line && done < count; line = next_line(line)) {
		const char *p = line;
		uint64_t address;
		if (!take_hex(&p, &address) || address != gpa + 8 * done || !take_text(&p, ":"))
			return -EFAULT;
		for (size_t i = 0; i < 2 && done < count; i++, done++)
			if (!take_text(&p, " 0x") || !take_hex(&p, &words[done]))
				return -EFAULT;
	}
	return done == count ? 0 : -EFAULT;
}

struct name {
	const char *text;
	uint32_t id;
};

static const struct name x86_names[] = {
	{ "RAX", HVMI_X86_RAX }, { "RBX", HVMI_X86_RBX }, { "RCX", HVMI_X86_RCX },
	{ "RDX", HVMI_X86_RDX }, { "RSI", HVMI_X86_RSI }, { "RDI", HVMI_X86_RDI },
	{ "RBP", HVMI_X86_RBP }, { "RSP", HVMI_X86_RSP }, { "R8", HVMI_X86_R8 },
	{ "R9", HVMI_X86_R9 }, { "R10", HVMI_X86_R10 }, { "R11", HVMI_X86_R11 },
	{ "R12", HVMI_X86_R12 }, { "R13", HVMI_X86_R13 }, { "R14", HVMI_X86_R14 },
	{ "R15", HVMI_X86_R15 }, { "RIP", HVMI_X86_RIP }, { "RFL", HVMI_X86_RFLAGS },
	{ "EAX", HVMI_X86_RAX }, { "EBX", HVMI_X86_RBX }, { "ECX", HVMI_X86_RCX },
	{ "EDX", HVMI_X86_RDX }, { "ESI", HVMI_X86_RSI }, { "EDI", HVMI_X86_RDI },
	{ "EBP", HVMI_X86_RBP }, { "ESP", HVMI_X86_RSP }, { "EIP", HVMI_X86_RIP },
	{ "EFL", HVMI_X86_RFLAGS }, { "CR0", HVMI_X86_CR0 }, { "CR2", HVMI_X86_CR2 },
	{ "CR3", HVMI_X86_CR3 }, { "CR4", HVMI_X86_CR4 }, { "DR0", HVMI_X86_DR0 },
	{ "DR1", HVMI_X86_DR1 }, { "DR2", HVMI_X86_DR2 }, { "DR3", HVMI_X86_DR3 },
	{ "DR6", HVMI_X86_DR6 }, { "DR7", HVMI_X86_DR7 }, { "EFER", HVMI_X86_EFER },
};

/* Their four ids follow one another: selector, base, limit, rights. */
static const struct name x86_segments[] = {
	{ "ES", HVMI_X86_ES_SELECTOR }, { "CS", HVMI_X86_CS_SELECTOR },
	{ "SS", HVMI_X86_SS_SELECTOR }, { "DS", HVMI_X86_DS_SELECTOR },
	{ "FS", HVMI_X86_FS_SELECTOR }, { "GS", HVMI_X86_GS_SELECTOR },
	{ "LDT", HVMI_X86_LDTR_SELECTOR }, { "TR", HVMI_X86_TR_SELECTOR },
};

static const struct name x86_tables[] = {
	{ "GDT", HVMI_X86_GDTR_BASE }, { "IDT", HVMI_X86_IDTR_BASE },
};

#define RIGHTS_PRESENT 0x80u
#define RIGHTS_UNUSABLE 0x10000u

static uint32_t find_name(const struct name *names, size_t count, const char *text, size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(names[i].text) == len && !memcmp(names[i].text, text, len))
			return names[i].id;
	return 0;
}
#define FIND(names, text, len) find_name(names, sizeof(names) / sizeof(*(names)), text, len)

/* Up to @p max hexadecimal words with spaces between them. */
static size_t take_words(const char **p, uint64_t *words, size_t max)
{
	size_t count = 0;
	while (count < max) {
		const char *s = *p + strspn(*p, " ");
		if (!take_hex(&s, &words[count]))
			break;
		count++;
		*p = s;
	}
	return count;
}

static void take_x86(const char *name, size_t len, const char **p, struct hvmi_registers *ret)
{
	uint64_t words[4];
	uint32_t id;
	if ((id = FIND(x86_segments, name, len))) {
		if (take_words(p, words, 4) != 4)
			return;
		uint64_t rights = words[3] >> 8 & 0xf0ff;
		hvmi_registers_set(ret, id, words[0]);
		hvmi_registers_set(ret, id + 1, words[1]);
		hvmi_registers_set(ret, id + 2, words[2]);
		hvmi_registers_set(ret, id + 3,
				   rights & RIGHTS_PRESENT ? rights : rights | RIGHTS_UNUSABLE);
	} else if ((id = FIND(x86_tables, name, len))) {
		if (take_words(p, words, 2) != 2)
			return;
		hvmi_registers_set(ret, id, words[0]);
		hvmi_registers_set(ret, id + 1, words[1]);
	} else if ((id = FIND(x86_names, name, len)) && take_words(p, words, 1) == 1) {
		hvmi_registers_set(ret, id, words[0]);
	}
}

/* Calls @p take for each NAME=... in @p text. */
static void for_each_name(const char *text, struct hvmi_registers *ret,
			  void (*take)(const char *name, size_t len, const char **p,
				       struct hvmi_registers *ret))
{
	const char *p = text;
	while (*p) {
		p += strspn(p, " \r\n");
		const char *name = p;
		size_t len = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
		p += len;
		const char *equals = p + strspn(p, " ");
		if (len && *equals == '=') {
			p = equals + 1;
			take(name, len, &p, ret);
		} else if (!len) {
			p += strcspn(p, " \r\n");
		}
	}
}

void hmp_registers_x86(const char *text, struct hvmi_registers *ret)
{
	for_each_name(text, ret, take_x86);
}
