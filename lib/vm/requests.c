/* SPDX-License-Identifier: Apache-2.0 */
/* What was requested, to be found again: breakpoints are requests too, and there may be many. */
#include "vm/events.h"

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 32;
}

static size_t home(const struct hvmi_events *events, const struct hvmi_event_request *r)
{
	uint64_t hash = mix(mix(r->kind, r->gva), r->msr);
	hash = mix(mix(hash, r->len), (uint64_t)r->vcpu << 32 | r->reg);
	return (size_t)mix(hash, r->access) & (events->index_room - 1);
}

static bool same(const struct hvmi_event_request *a, const struct hvmi_event_request *b)
{
	return a->kind == b->kind && a->vcpu == b->vcpu && a->reg == b->reg && a->msr == b->msr &&
	       a->gva == b->gva && a->len == b->len && a->access == b->access;
}

/* Where in the index it is, or would be. */
static size_t place(const struct hvmi_events *events, const struct hvmi_event_request *r)
{
	size_t i = home(events, r);
	while (events->index[i] && !same(&events->requests[events->index[i] - 1], r))
		i = (i + 1) & (events->index_room - 1);
	return i;
}

struct hvmi_event_request *request_find(const struct hvmi_events *events,
					const struct hvmi_event_request *r)
{
	if (!events->request_count)
		return NULL;
	uint32_t number = events->index[place(events, r)];
	return number ? &events->requests[number - 1] : NULL;
}

int request_make_room(struct hvmi_events *events, struct hvmi_error *err)
{
	if (events->request_count < events->request_room)
		return 0;
	size_t room = events->request_room ? 2 * events->request_room : 16;
	if (events->request_count >= REQUESTS_MAX)
		return hvmi_error_set(err, -EOVERFLOW, HVMI_NO_ADDRESS, "there are %u requests",
				      REQUESTS_MAX);
	struct hvmi_event_request *requests = realloc(events->requests, room * sizeof(*requests));
	uint32_t *index = calloc(2 * room, sizeof(*index));
	if (requests)
		events->requests = requests;
	if (!requests || !index) {
		free(index);
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	}
	free(events->index);
	events->index = index;
	events->index_room = 2 * room;
	events->request_room = room;
	for (size_t i = 0; i < events->request_count; i++)
		index[place(events, &requests[i])] = (uint32_t)i + 1;
	return 0;
}

void request_add(struct hvmi_events *events, const struct hvmi_event_request *r)
{
	events->requests[events->request_count++] = *r;
	events->index[place(events, r)] = (uint32_t)events->request_count;
}

void request_remove(struct hvmi_events *events, struct hvmi_event_request *r)
{
	const size_t mask = events->index_room - 1;
	size_t hole = place(events, r);
	struct hvmi_event_request *last = &events->requests[events->request_count - 1];
	/* The last one takes its number. */
	if (r != last)
		events->index[place(events, last)] = events->index[hole];
	for (size_t i = (hole + 1) & mask; events->index[i]; i = (i + 1) & mask) {
		const struct hvmi_event_request *moving =
			&events->requests[events->index[i] - 1] == r && r != last ? last :
			&events->requests[events->index[i] - 1];
		if (((i - home(events, moving)) & mask) >= ((i - hole) & mask)) {
			events->index[hole] = events->index[i];
			hole = i;
		}
	}
	events->index[hole] = 0;
	*r = *last;
	events->request_count--;
}
