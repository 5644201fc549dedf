/* SPDX-License-Identifier: Apache-2.0 */
#include "hook/detour.h"

#include "hook/slack.h"
#include "vm/vm.h"

/* What is looked through for branches into what is replaced, where the function's end is not known. */
#define BODY_UNKNOWN 512u
#define BODY_MAX (64 * KIB)
#define TEXT_MAX (HVMI_MOVE_BYTES + HVMI_INSN_BYTES)

struct plan {
	struct hvmi_detour *detour;
	const struct hvmi_detour_request *request;
	uint32_t mode;
	uint64_t at;		/* where the jump goes */
	uint64_t end;		/* of the function; 0: unknown */
	uint8_t text[TEXT_MAX];	/* from `at` on */
	uint32_t text_len;
	struct hvmi_insn_moved moved;
	struct hvmi_error *err;
};

static int refuse(const struct plan *p, int rc, uint64_t address, const char *why)
{
	return hvmi_error_set(p->err, rc, address, "the function at 0x%llx cannot be detoured: %s",
			      (unsigned long long)p->request->gva, why);
}

static int find_mode(struct plan *p)
{
	switch (p->detour->os->kernel.paging) {
	case HVMI_PAGING_X86_4LEVEL:
	case HVMI_PAGING_X86_5LEVEL:
		p->mode = HVMI_INSN_X86_64;
		return 0;
	case HVMI_PAGING_X86_32:
	case HVMI_PAGING_X86_PAE:
		p->mode = HVMI_INSN_X86_32;
		return 0;
	default:
		return refuse(p, -ENOTSUP, HVMI_NO_ADDRESS, "its kernel is not of x86");
	}
}

/* The next symbol's address, where the function has one itself. */
static uint64_t find_end(const struct plan *p)
{
	const struct symbols *s = &p->detour->os->profile->symbols;
	uint32_t index;
	if (symbols_at(s, p->request->gva, &index) || s->gva[index] != p->request->gva)
		return 0;
	while (index < s->count && s->gva[index] == p->request->gva)
		index++;
	return index < s->count ? s->gva[index] : 0;
}

/*
 * ENDBR has to stay the first instruction, and ftrace of Linux changes what follows it (a NOP of 5
 * bytes, or a call: arch/x86/kernel/ftrace.c), so the jump goes behind both.
 */
static void skip_entry(struct plan *p, const uint8_t *bytes, size_t len)
{
	static const uint8_t endbr[] = { 0xf3, 0x0f, 0x1e }, nop[] = { 0x0f, 0x1f, 0x44, 0, 0 };
	size_t at = 0;
	if (len >= 4 && !memcmp(bytes, endbr, sizeof(endbr)) && (bytes[3] | 1) == 0xfb)
		at = 4;
	if (p->detour->os->ops->kind == HVMI_OS_LINUX && at + 5 <= len &&
	    (!memcmp(bytes + at, nop, sizeof(nop)) || bytes[at] == 0xe8))
		at += 5;
	p->at += at;
}

static int read_text(struct plan *p)
{
	uint8_t entry[16];
	size_t len = 0;
	p->at = p->request->gva;
	int rc = hvmi_space_read(p->detour->space, p->at, entry, sizeof(entry), &len);
	if (rc && !len)
		return refuse(p, rc, p->at, "it is not in memory");
	skip_entry(p, entry, len);
	len = 0;
	rc = hvmi_space_read(p->detour->space, p->at, p->text, sizeof(p->text), &len);
	if (rc && !len)
		return refuse(p, rc, p->at, "it is not in memory");
	p->text_len = (uint32_t)len;
	/* A jump, a far one through memory, INT3: what other engines begin with. */
	if (p->text[0] == 0xe9 || p->text[0] == 0xcc || (len > 1 && p->text[0] == 0xff && p->text[1] == 0x25))
		return refuse(p, -ENOTSUP, p->at, "it begins with a jump or INT3, so it is detoured "
			      "already, or no more than a way to another one");
	return 0;
}

static int relocate(struct plan *p, uint64_t to, uint32_t need)
{
	const struct hvmi_insn_move move = {
		.size = sizeof(move), .bytes = p->text, .from = p->at, .to = to, .mode = p->mode,
		.flags = HVMI_MOVE_JUMP_BACK | HVMI_MOVE_NO_RETURNS, .len = p->text_len,
		.need = need,
	};
	struct hvmi_error why;
	p->moved = (struct hvmi_insn_moved){ .size = sizeof(p->moved) };
	int rc = hvmi_insn_relocate(&move, &p->moved, &why);
	if (rc)
		return refuse(p, rc == -EBADMSG || rc == -EOVERFLOW ? -ENOTSUP : rc, why.address,
			      why.text);
	if (p->end && p->at + p->moved.from_len > p->end)
		return refuse(p, -ENOTSUP, p->at, "it is shorter than a jump");
	return 0;
}

/* A branch of the function's into the middle of what is replaced would end in the jump. */
static int check_body(struct plan *p)
{
	const uint64_t first = p->at + 1, last = p->at + p->moved.from_len - 1;
	const uint64_t end = p->end ? MIN(p->end, p->at + BODY_MAX) : p->at + BODY_UNKNOWN;
	size_t size = (size_t)(end - p->at), len = 0;
	CLEANUP_FREE uint8_t *body = malloc(size);
	if (!body)
		return hvmi_error_set(p->err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	hvmi_space_read(p->detour->space, p->at, body, size, &len);
	struct hvmi_insn insn = { .size = sizeof(insn) };
	for (size_t at = 0; at < len; at += insn.len) {
		/* Data between code, or its end: what follows cannot be told. */
		if (hvmi_insn_decode(p->mode, p->at + at, body + at, len - at, &insn, NULL))
			break;
		if (insn.target != HVMI_NO_ADDRESS && insn.target >= first && insn.target <= last &&
		    at >= p->moved.from_len)
			return refuse(p, -ENOTSUP, insn.gva,
				      "a branch of its own leads into what would be replaced");
	}
	return 0;
}

static bool is_near(const struct plan *p, uint64_t gva)
{
	int64_t distance = (int64_t)(gva - (p->at + 5));
	return p->mode == HVMI_INSN_X86_32 || (distance > INT32_MIN / 2 && distance < INT32_MAX / 2);
}

static uint32_t aligned(uint32_t len)
{
	return (len + 15) & ~15u;
}

/* The memory: what the caller gave, or slack; large enough for the run as it is there. */
static int find_memory(struct plan *p, uint64_t *ret)
{
	const struct hvmi_detour_request *request = p->request;
	uint64_t gva = (request->memory + 15) & ~15ull;
	/* Near or far decides how much is moved; slack of the kernel is near. */
	bool near = !request->memory || is_near(p, gva);
	uint32_t need = p->detour->info.jump_len = near ? 5 : DETOUR_JUMP_MAX;
	int rc = relocate(p, request->memory ? gva : p->at + MIB, need);
	uint32_t len = aligned(p->moved.len) + aligned(request->code_room) + 1;
	if (rc)
		return rc;
	if (!request->memory) {
		size_t largest;
		rc = slack_find(p->detour->os, p->detour->space, len, &gva, &largest);
		if (rc)
			return hvmi_error_set(p->err, rc, HVMI_NO_ADDRESS,
					      "%u bytes for the detour of 0x%llx are needed, and the "
					      "kernel's text has %zu bytes of padding at most: give "
					      "memory", len, (unsigned long long)request->gva,
					      largest);
		if (!is_near(p, gva))
			p->detour->info.jump_len = need = DETOUR_JUMP_MAX;
	} else if (gva - request->memory + len > request->memory_len) {
		return hvmi_error_set(p->err, -EINVAL, request->memory,
				      "%u bytes for the detour of 0x%llx are needed, from a multiple "
				      "of 16 on", len, (unsigned long long)request->gva);
	}
	rc = relocate(p, gva, need);
	/* Slack beyond the reach of what was tried with: as good as none. */
	if (!rc && aligned(p->moved.len) + aligned(request->code_room) + 1 > len)
		return refuse(p, -ENOTSUP, gva, "its slack is too far away");
	p->detour->memory.len = len;
	*ret = gva;
	return rc;
}

static int check_memory(struct plan *p)
{
	struct detour_part *m = &p->detour->memory;
	struct hvmi_walk walk = { .size = sizeof(walk) };
	int rc = hvmi_space_read(p->detour->space, m->gva, m->planned_over, m->len, NULL);
	if (rc)
		return refuse(p, rc, m->gva, "the memory for its code is not mapped");
	if (!slack_is_padding(m->planned_over, m->len))
		return refuse(p, -EBUSY, m->gva, "the memory for its code is in use");
	for (uint64_t at = m->gva; at < m->gva + m->len; at = (at | (FRAME_SIZE - 1)) + 1) {
		rc = hvmi_space_walk(p->detour->space, at, &walk, NULL);
		if (rc)
			return refuse(p, rc, at, "the memory for its code is not mapped");
		if (!(walk.rights & HVMI_RIGHT_EXECUTE))
			return refuse(p, -EFAULT, at, "the memory for its code may not be executed");
	}
	return 0;
}

static void write_jump(struct plan *p, uint64_t to)
{
	struct detour_part *jump = &p->detour->jump;
	jump->gva = p->at;
	jump->len = p->detour->info.jump_len;
	memcpy(jump->planned_over, p->text, jump->len);
	if (jump->len == 5) {
		uint32_t distance = (uint32_t)(to - (p->at + 5));
		jump->bytes[0] = 0xe9;
		for (int i = 0; i < 4; i++)
			jump->bytes[1 + i] = (uint8_t)(distance >> 8 * i);
		return;
	}
	/* JMP [RIP + 0], and the address. */
	static const uint8_t far[] = { 0xff, 0x25, 0, 0, 0, 0 };
	memcpy(jump->bytes, far, sizeof(far));
	for (int i = 0; i < 8; i++)
		jump->bytes[sizeof(far) + (size_t)i] = (uint8_t)(to >> 8 * i);
}

int detour_plan(struct hvmi_detour *detour, const struct hvmi_detour_request *request,
		struct hvmi_error *err)
{
	struct plan p = { .detour = detour, .request = request, .err = err };
	struct detour_part *memory = &detour->memory;
	int rc = find_mode(&p);
	p.end = find_end(&p);
	if (!rc)
		rc = read_text(&p);
	if (!rc)
		rc = find_memory(&p, &memory->gva);
	if (!rc)
		rc = check_body(&p);
	if (!rc)
		rc = check_memory(&p);
	if (rc)
		return rc;
	const uint64_t code = memory->gva + aligned(p.moved.len);
	write_jump(&p, code);
	memory->flags = HVMI_PATCH_CODE;
	/* What is left of the room traps; the last byte tells that it is taken. */
	memset(memory->bytes, 0xcc, memory->len - 1);
	memory->bytes[memory->len - 1] = 0x90;
	memcpy(memory->bytes, p.moved.bytes, p.moved.len);
	detour->code_room = request->code_room;
	detour->info.gva = p.at;
	detour->info.code = code;
	detour->info.moved = detour->info.memory = memory->gva;
	detour->info.memory_len = memory->len;
	detour->info.replaced = p.moved.from_len;
	return 0;
}
