/* SPDX-License-Identifier: Apache-2.0 */
#include "os/window.h"

#include "profile/profile.h"

/* Bytes between two members that are rather copied than read past. */
#define GAP_MAX 192u
#define MEMBER_BYTES_MAX 64u
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

/* false: there is no room. */
static bool plan_place(struct window_plan *plan, uint32_t id, uint32_t *used)
{
	uint32_t offset = (uint32_t)plan->members[id].hops[0];
	uint32_t bytes = own_bytes(&plan->members[id]), last = plan->piece_count - 1;
	uint32_t end = plan->piece_count ? plan->pieces[last].from + plan->pieces[last].len : 0;
	bool joined = plan->piece_count && offset <= end + GAP_MAX;
	uint32_t more = joined ? MAX(offset + bytes, end) - end : bytes;
	if (*used + more > WINDOW_BYTES || (!joined && plan->piece_count == WINDOW_PIECES))
		return false;
	if (!joined) {
		last = plan->piece_count++;
		plan->pieces[last].from = offset;
		plan->pieces[last].at = *used;
	}
	plan->pieces[last].len += more;
	*used += more;
	plan->places[id].piece = (uint8_t)last;
	plan->places[id].whole = whole_bytes(&plan->members[id]);
	plan->places[id].is_signed = plan->members[id].flags & HVMI_TYPE_SIGNED;
	plan->places[id].behind = plan->members[id].hop_count == 2;
	plan->places[id].at = (uint16_t)(plan->pieces[last].at + offset - plan->pieces[last].from);
	plan->places[id].bytes = (uint16_t)bytes;
	return true;
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
		/* In the order in which they lie in the object. */
		for (; at && members[plan->ids[at - 1]].hops[0] > members[ids[i]].hops[0]; at--)
			plan->ids[at] = plan->ids[at - 1];
		plan->ids[at] = ids[i];
		plan->count++;
	}
	for (uint32_t i = 0; i < plan->count; i++)
		if (own_bytes(&members[plan->ids[i]]) && !plan_place(plan, plan->ids[i], &used))
			break;
}

static const uint8_t *copied(const struct window *window, uint32_t id)
{
	const struct window_plan *plan = window->plan;
	return plan->places[id].bytes && !(window->missing >> plan->places[id].piece & 1) ?
		       window->bytes + plan->places[id].at : NULL;
}

void window_open(struct window *window, const struct window_plan *plan, struct hvmi_space *space,
		 uint64_t object)
{
	window->plan = plan;
	window->space = space;
	window->object = object;
	window->missing = 0;
	for (uint32_t i = 0; i < plan->piece_count; i++)
		if (hvmi_space_read(space, object + plan->pieces[i].from,
				    window->bytes + plan->pieces[i].at, plan->pieces[i].len, NULL))
			window->missing |= 1u << i;
}

static uint64_t whole_number(const uint8_t *bytes, uint32_t len, bool is_signed)
{
	if (len == 8)
		return load_le64(bytes);
	uint32_t value = load_le32(bytes);
	return is_signed ? (uint64_t)(int64_t)(int32_t)value : value;
}

int window_read(const struct window *window, uint32_t id, uint64_t *ret)
{
	const struct window_plan *plan = window->plan;
	const struct hvmi_member *member = &plan->members[id];
	const uint8_t *bytes = copied(window, id);
	const uint32_t len = plan->places[id].whole;
	uint8_t number[8];
	int rc;
	if (bytes && len) {
		if (plan->places[id].behind) {
			uint64_t at = load_le64(bytes) + member->hops[1];
			rc = len == 8 ? hvmi_space_read(window->space, at, number, 8, NULL) :
					hvmi_space_read(window->space, at, number, 4, NULL);
			if (rc)
				return rc;
			bytes = number;
		}
		*ret = whole_number(bytes, len, plan->places[id].is_signed);
		return 0;
	}
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

size_t window_marks(const struct window *window, uint8_t marks[WINDOW_MARK_BYTES])
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
