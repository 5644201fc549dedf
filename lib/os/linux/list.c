/* SPDX-License-Identifier: Apache-2.0 */
#include "os/linux/linux.h"

void list_begin(struct list_walk *walk, struct hvmi_space *space, uint64_t head, uint32_t bound)
{
	*walk = (struct list_walk){ .space = space, .head = head, .at = head, .left = bound };
}

int list_next(struct list_walk *walk, uint64_t *link_ret, const char *what, struct hvmi_error *err)
{
	uint64_t next, back;
	if (walk->done)
		return 0;
	walk->done = true;
	if (hvmi_space_read(walk->space, walk->at, &next, sizeof(next), NULL))
		return hvmi_error_set(err, -EBADMSG, walk->at,
				      "the list of %s ends at 0x%llx, where there is no memory", what,
				      (unsigned long long)walk->at);
	/*
	 * That the links agree in both directions is also what keeps a walk from going in circles:
	 * an entry has one predecessor.
	 */
	if (hvmi_space_read(walk->space, next + 8, &back, sizeof(back), NULL) || back != walk->at)
		return hvmi_error_set(err, -EBADMSG, next,
				      "the list of %s is damaged: what follows 0x%llx does not link "
				      "back to it", what, (unsigned long long)walk->at);
	if (next == walk->head)
		return 0;
	if (walk->left == 0)
		return hvmi_error_set(err, -EOVERFLOW, next, "the list of %s does not end", what);
	walk->left--;
	walk->at = next;
	walk->done = false;
	*link_ret = next;
	return 1;
}
