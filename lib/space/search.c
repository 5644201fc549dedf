/* SPDX-License-Identifier: Apache-2.0 */
#include "space/pattern.h"
#include "space/space.h"

/* What is copied is looked at while it is in the second-level cache. */
#define COPY_BYTES (128 * KIB)
#define POINT_BYTES (4 * MIB)
_Static_assert(COPY_BYTES > 2 * HVMI_PATTERN_BYTES, "a copy must hold more than two patterns");

struct progress {
	struct hvmi_vm *vm;
	const struct hvmi_search *search;
	const struct pattern_set *set;
	uint8_t *buffer;
	uint64_t last, left;	/* left: of the budget */
	uint64_t next;
};

static int copy_window(struct progress *p, uint64_t address, size_t len, size_t *got_ret)
{
	struct hvmi_space *space = p->search->space;
	return space ? hvmi_space_read(space, address, p->buffer, len, got_ret) :
		       hvmi_vm_read(p->vm, address, p->buffer, len, got_ret);
}

/*
 * One stretch [address, end], at most to p->last; matches may reach `beyond` bytes further. Pages of it
 * may turn out to be absent.
 */
static int search_stretch(struct progress *p, uint64_t address, uint64_t end, uint64_t beyond)
{
	size_t tail = p->set->len_max - 1;
	while (address <= end) {
		p->next = address;
		if (!p->left)
			return -EOVERFLOW;
		uint64_t left, rest = end - address, step = COPY_BYTES;
		const uint8_t *bytes = p->search->space ? NULL : vm_pointer(p->vm, address, &left);
		if (bytes)
			step = POINT_BYTES;
		step = MIN(step - tail, p->left);
		step = rest < step ? rest + 1 : step;
		uint64_t after = end - (address + step - 1);
		size_t len = step + MIN(tail, after > UINT64_MAX - beyond ? UINT64_MAX : after + beyond);
		size_t got = bytes ? MIN(len, left) : 0;
		int rc = bytes ? 0 : copy_window(p, address, len, &got);
		if (rc && rc != -EFAULT && rc != -EBUSY)
			return rc;
		int ended = pattern_set_run(p->set, PATTERN_BEST, bytes ? bytes : p->buffer, got, step,
					    address, p->search->found, p->search->context, &p->next);
		if (ended) {
			p->next++;
			return 1;
		}
		/* Over what is absent. */
		uint64_t done = step;
		if (got < step)
			done = ((address + got) / FRAME_SIZE + 1) * FRAME_SIZE - address;
		p->left -= MIN(p->left, done);
		if (done > rest)
			return 0;
		address += done;
	}
	return 0;
}

static int search_physical(struct progress *p, uint64_t address)
{
	struct hvmi_range data;
	while (address <= p->last && hvmi_vm_next_data(p->vm, address, &data) == 0 &&
	       data.gpa <= p->last) {
		const struct vm_range *r = vm_range_of(p->vm, data.gpa);
		uint64_t end = data.gpa + data.len - 1;
		/* A match may end in zeros that were never written. */
		uint64_t beyond = r ? r->gpa + r->len - 1 - end : 0;
		int rc = search_stretch(p, data.gpa, MIN(end, p->last),
					MIN(end, p->last) == end ? beyond : beyond + end - p->last);
		if (rc)
			return rc;
		address = end + 1;
		if (!address)
			break;
	}
	return hvmi_vm_lost(p->vm) ? -EIO : 0;
}

static int search_virtual(struct progress *p, uint64_t address)
{
	struct hvmi_space *space = p->search->space;
	struct hvmi_mapping run = { .size = sizeof(run) };
	uint64_t cursor = address, start = 0, end = 0;
	bool open = false;
	for (;;) {
		int rc = hvmi_space_next_mapping(space, &cursor, UINT64_MAX, &run);
		if (rc == -EOVERFLOW && !p->left)
			return rc;
		if (rc == -EOVERFLOW) {
			p->left -= MIN(p->left, (uint64_t)HVMI_SPACE_STEP_BUDGET);
			continue;
		}
		if (rc < 0)
			return rc;
		/* Runs that follow each other are one stretch, wherever their pages are. */
		if (rc == 1 && open && run.gva == end + 1) {
			end = run.gva + run.len - 1;
		} else {
			if (open) {
				uint64_t to = MIN(end, p->last);
				int searched = search_stretch(p, start, to, end - to);
				if (searched || end >= p->last)
					return searched;
			}
			if (rc == 0 || run.gva > p->last)
				return 0;
			start = run.gva;
			end = run.gva + run.len - 1;
			open = true;
		}
	}
}

HVMI_API int hvmi_search(struct hvmi_vm *vm, const struct hvmi_search *search, uint64_t *next_ret,
			 struct hvmi_error *err)
{
	struct hvmi_search s;
	if (!vm || !search || options_copy(&s, sizeof(s), search) || s.reserved || !s.found ||
	    (s.space && s.space->vm != vm) || (s.last && s.last < s.first))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "struct hvmi_search is not filled in: zero it, set size, "
				      "patterns and found; space must be of this machine, last not "
				      "below first");
	CLEANUP_FREE struct pattern_set *set = malloc(sizeof(*set));
	CLEANUP_FREE uint8_t *buffer = malloc(COPY_BYTES);
	if (!set || !buffer)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	if (pattern_set_init(set, s.patterns, s.pattern_count))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "there must be 1 to %u patterns, of 1 to %u bytes in which "
				      "some bit matters, aligned to powers of two",
				      HVMI_PATTERNS_MAX, HVMI_PATTERN_BYTES);
	struct progress p = { .vm = vm, .search = &s, .set = set, .buffer = buffer,
			      .last = s.last ? s.last : UINT64_MAX,
			      .left = s.budget ? s.budget : UINT64_MAX, .next = s.first };
	int rc = s.space ? search_virtual(&p, s.first) : search_physical(&p, s.first);
	if (next_ret)
		*next_ret = rc == 0 ? UINT64_MAX : p.next;
	if (rc == -EOVERFLOW)
		return hvmi_error_set(err, rc, p.next, "the budget of the search is used up");
	if (rc < 0)
		return hvmi_error_set(err, rc, p.next, "memory at 0x%llx cannot be read (%s)",
				      (unsigned long long)p.next, hvmi_error_name(rc));
	return rc;
}
