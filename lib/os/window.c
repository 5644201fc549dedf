/* SPDX-License-Identifier: Apache-2.0 */
#include "os/window.h"

#include "profile/profile.h"

/* Bytes between two members that are rather copied than read past. */
#define GAP_MAX 128u
#define MEMBER_BYTES_MAX 64u
/* Of what a pointer leads to. */
#define BEHIND_BYTES_MAX 64u
#define OFFSET_MAX 65536u

/* How much of the object itself a member takes; 0: it is not to be had from a copy. */
static uint32_t own_bytes(const struct hvmi_member *m)
{
	uint64_t bytes = m->hop_count > 1 ? m->pointer_bytes :
			 m->bit_size ? (m->bit_offset + m->bit_size + 7ull) / 8 : m->bytes;
	return m->hop_count && m->hops[0] < OFFSET_MAX && bytes <= MEMBER_BYTES_MAX ?
		       (uint32_t)bytes : 0;
}

/* 4 or 8: the commonest numbers, which need no more than a load. */
static uint8_t whole_bytes(const struct hvmi_member *m)
{
	bool number = m->kind == HVMI_TYPE_INTEGER || m->kind == HVMI_TYPE_ENUM ||
		      m->kind == HVMI_TYPE_POINTER;
	bool near = m->hop_count == 1 || (m->hop_count == 2 && m->pointer_bytes == 8);
	return number && near && !m->bit_size && (m->bytes == 4 || m->bytes == 8) ?
		       (uint8_t)m->bytes : 0;
}

/* A new piece; false: there is no room. */
static bool plan_piece(struct window_plan *plan, uint32_t from, uint32_t len, uint8_t pointer,
		       uint32_t *used)
{
	if (*used + len > WINDOW_BYTES || plan->piece_count == WINDOW_PIECES)
		return false;
	plan->pointers[plan->piece_count] = pointer;
	plan->pieces[plan->piece_count++] = (struct space_piece){ .from = from, .len = len, .at = *used };
	*used += len;
	return true;
}

/* The last piece reaches to `end` at least; false: there is no room. */
static bool plan_more(struct window_plan *plan, uint32_t end, uint32_t *used)
{
	struct space_piece *last = &plan->pieces[plan->piece_count - 1];
	uint32_t more = MAX(end, last->from + last->len) - (last->from + last->len);
	if (*used + more > WINDOW_BYTES)
		return false;
	last->len += more;
	*used += more;
	return true;
}

/* What the object itself has of a member; false: there is no room. */
static bool plan_place(struct window_plan *plan, uint32_t id, uint32_t *used)
{
	uint32_t offset = (uint32_t)plan->members[id].hops[0];
	uint32_t bytes = own_bytes(&plan->members[id]);
	const struct space_piece *last = &plan->pieces[MAX(plan->piece_count, 1u) - 1];
	bool joined = plan->piece_count && offset <= last->from + last->len + GAP_MAX;
	if (!(joined ? plan_more(plan, offset + bytes, used) :
		       plan_piece(plan, offset, bytes, WINDOW_OWN, used)))
		return false;
	last = &plan->pieces[plan->piece_count - 1];
	plan->places[id].piece = (uint8_t)(plan->piece_count - 1);
	plan->places[id].at = (uint16_t)(last->at + offset - last->from);
	plan->places[id].bytes = (uint16_t)bytes;
	return true;
}

/* Where the number is that a member is: those near each other behind one pointer are one piece. */
static void plan_number(struct window_plan *plan, uint32_t id, uint32_t *used)
{
	const struct hvmi_member *m = &plan->members[id];
	const struct space_piece *last = &plan->pieces[plan->piece_count - 1];
	uint8_t pointer = plan->pointers[plan->piece_count - 1];
	uint32_t whole = whole_bytes(m), piece = plan->places[id].piece, at = plan->places[id].at;
	if (m->hop_count == 2) {
		uint32_t offset = (uint32_t)m->hops[1];
		bool joined = pointer != WINDOW_OWN &&
			      plan->members[pointer].hops[0] == m->hops[0] &&
			      offset + whole - last->from <= BEHIND_BYTES_MAX;
		if (m->hops[1] >= OFFSET_MAX || !(joined ? plan_more(plan, offset + whole, used) :
							   plan_piece(plan, offset, whole, (uint8_t)id,
								      used)))
			return;
		piece = plan->piece_count - 1;
		at = plan->pieces[piece].at + offset - plan->pieces[piece].from;
	}
	plan->places[id].whole = (uint8_t)whole;
	plan->places[id].is_signed = m->flags & HVMI_TYPE_SIGNED;
	plan->places[id].number_piece = (uint8_t)piece;
	plan->places[id].number_at = (uint16_t)at;
}

/* In the order in which they lie in the object, and behind its pointers. */
static bool lies_before(const struct hvmi_member *a, const struct hvmi_member *b)
{
	return a->hops[0] != b->hops[0] ? a->hops[0] < b->hops[0] :
	       a->hop_count > 1 && b->hop_count > 1 ? a->hops[1] < b->hops[1] :
						      a->hop_count < b->hop_count;
}

void window_plan(struct window_plan *plan, const struct hvmi_member *members, const uint8_t *ids,
		 size_t count, uint64_t deep)
{
	uint32_t used = 0;
	*plan = (struct window_plan){ .members = members, .deep = deep };
	for (size_t i = 0; i < count; i++) {
		uint32_t at = plan->count;
		if (!members[ids[i]].hop_count)
			continue;
		for (; at && lies_before(&members[ids[i]], &members[plan->ids[at - 1]]); at--)
			plan->ids[at] = plan->ids[at - 1];
		plan->ids[at] = ids[i];
		plan->count++;
	}
	for (uint32_t i = 0; i < plan->count; i++)
		if (own_bytes(&members[plan->ids[i]]) && !plan_place(plan, plan->ids[i], &used))
			break;
	plan->own_count = plan->piece_count;
	if (plan->own_count)
		plan->own_len = plan->pieces[plan->own_count - 1].from +
				plan->pieces[plan->own_count - 1].len;
	for (uint32_t i = 0; i < plan->count; i++)
		if (plan->places[plan->ids[i]].bytes && whole_bytes(&members[plan->ids[i]]))
			plan_number(plan, plan->ids[i], &used);
}

static const uint8_t *copied(const struct window *window, uint32_t id)
{
	const struct window_plan *plan = window->plan;
	return plan->places[id].bytes && window->copied >> plan->places[id].piece & 1 ?
		       window->bytes + plan->places[id].at : NULL;
}

bool window_copy(struct window *window, uint32_t piece)
{
	const struct space_piece *p = &window->plan->pieces[piece];
	const uint8_t *pointer;
	uint64_t object = window->object;
	if (window->tried >> piece & 1)
		return window->copied >> piece & 1;
	window->tried |= 1u << piece;
	if (window->plan->pointers[piece] != WINDOW_OWN) {
		pointer = copied(window, window->plan->pointers[piece]);
		if (!pointer)
			return false;
		object = load_le64(pointer);
	}
	if (hvmi_space_read(window->space, object + p->from, window->bytes + p->at, p->len, NULL))
		return false;
	window->copied |= 1u << piece;
	return true;
}

void window_open(struct window *window, const struct window_plan *plan, struct hvmi_space *space,
		 uint64_t object)
{
	window->plan = plan;
	window->space = space;
	window->object = object;
	window->tried = window->copied = 0;
	if (space_read_pieces(space, object, plan->own_len, plan->pieces, plan->own_count,
			      window->bytes)) {
		window->tried = window->copied = (1u << plan->own_count) - 1;
		return;
	}
	for (uint32_t i = 0; i < plan->own_count; i++)
		window_copy(window, i);
}

int window_read_any(const struct window *window, uint32_t id, uint64_t *ret)
{
	const struct hvmi_member *member = &window->plan->members[id];
	const uint8_t *bytes = copied(window, id);
	if (!member->hop_count)
		return -ENOENT;
	return bytes ? member_read_copied(member, window->space, bytes, ret) :
		       hvmi_member_read(member, window->space, window->object, ret);
}

int window_bytes(const struct window *window, uint32_t id, void *buf, size_t len)
{
	const struct hvmi_member *member = &window->plan->members[id];
	const uint8_t *bytes = copied(window, id);
	uint64_t at;
	if (!member->hop_count)
		return -ENOENT;
	if (bytes && member->hop_count == 1 && len <= window->plan->places[id].bytes) {
		memcpy(buf, bytes, len);
		return 0;
	}
	int rc = hvmi_member_address(member, window->space, window->object, &at);
	return rc ? rc : hvmi_space_read(window->space, at, buf, len, NULL);
}

size_t window_marks(struct window *window, uint8_t marks[WINDOW_MARK_BYTES])
{
	const struct window_plan *plan = window->plan;
	size_t len = 0;
	for (uint32_t i = 0; i < plan->count; i++) {
		uint32_t id = plan->ids[i], bytes = plan->places[id].bytes;
		const uint8_t *from = copied(window, id);
		uint64_t value;
		if (plan->deep >> id & 1) {
			if (window_read(window, id, &value))
				return 0;
			from = (const uint8_t *)&value;
			bytes = sizeof(value);
		}
		if (!from || len + bytes > WINDOW_MARK_BYTES)
			return 0;
		memcpy(marks + len, from, bytes);
		len += bytes;
	}
	return len;
}
