/* SPDX-License-Identifier: Apache-2.0 */
#include "os/list.h"

void list_begin(struct list_walk *walk, struct hvmi_space *space, uint64_t head,
		uint32_t pointer_bytes, uint32_t bound)
{
	*walk = (struct list_walk){ .space = space, .head = head, .at = head, .left = bound,
				    .pointer_bytes = pointer_bytes };
}

static int read_link(const struct list_walk *walk, uint64_t at, uint64_t *ret)
{
	uint8_t bytes[8] = { 0 };
	int rc = hvmi_space_read(walk->space, at, bytes, walk->pointer_bytes, NULL);
	*ret = load_le64(bytes);
	return rc;
}

bool list_holds(const struct list_walk *walk)
{
	uint64_t next, previous;
	/* What the caller read before is older than what is read here. */
	fence_loads();
	return read_link(walk, walk->before, &next) == 0 && next == walk->at &&
	       read_link(walk, walk->at + walk->pointer_bytes, &previous) == 0 &&
	       previous == walk->before;
}

/*
 * One link further, in the direction of `way`: 0 forwards, the size of a pointer backwards. That the
 * links agree in both directions is also what keeps a walk from going in circles: an entry has one
 * neighbour on each side.
 */
static int step(const struct list_walk *walk, uint64_t way, uint64_t *ret, const char *what,
		struct hvmi_error *err)
{
	uint64_t to, back;
	if (read_link(walk, walk->at + way, &to))
		return hvmi_error_set(err, -EBADMSG, walk->at,
				      "the list of %s ends at 0x%llx, where there is no memory", what,
				      (unsigned long long)walk->at);
	if (read_link(walk, to + (walk->pointer_bytes - way), &back))
		return hvmi_error_set(err, -EBADMSG, to,
				      "the list of %s goes on from 0x%llx to where there is no memory",
				      what, (unsigned long long)walk->at);
	if (back != walk->at)
		return hvmi_error_set(err, -EBADMSG, to,
				      "the list of %s is damaged: what follows 0x%llx does not link "
				      "back to it", what, (unsigned long long)walk->at);
	if (walk->live && walk->at != walk->head && !list_holds(walk))
		return hvmi_error_set(err, -EBUSY, walk->at,
				      "the list of %s changed at 0x%llx while it was read", what,
				      (unsigned long long)walk->at);
	*ret = to;
	return 0;
}

int list_next(struct list_walk *walk, uint64_t *link_ret, const char *what, struct hvmi_error *err)
{
	uint64_t link = 0;
	if (walk->done)
		return 0;
	if (!walk->broken) {
		int rc = step(walk, 0, &link, what, &walk->damage);
		if (rc == 0) {
			if (link == walk->head) {
				walk->done = true;
				return 0;
			}
		} else if (walk->live) {
			walk->done = true;
			if (err)
				*err = walk->damage;
			return rc;
		} else {
			/* One broken link hides nothing that can be reached from the other end. */
			walk->broken = true;
			walk->damaged = walk->at;
			walk->at = walk->head;
		}
	}
	if (walk->broken && (step(walk, walk->pointer_bytes, &link, what, NULL) ||
			     link == walk->damaged || link == walk->head)) {
		walk->done = true;
		if (err)
			*err = walk->damage;
		return -EBADMSG;
	}
	if (walk->left == 0) {
		walk->done = true;
		return hvmi_error_set(err, -EOVERFLOW, link, "the list of %s does not end", what);
	}
	walk->left--;
	walk->before = walk->at;
	walk->at = link;
	*link_ret = link;
	return 1;
}
