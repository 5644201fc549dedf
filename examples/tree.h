/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks as a tree: threads below their process, processes below their parent. */
#ifndef TREE_H
#define TREE_H

#include <stddef.h>

#include <hvmi/os.h>

/* Begins zeroed. */
struct tree {
	struct tree_node *nodes;
	size_t count, room;
};

void tree_add(struct tree *tree, const struct hvmi_task *task);
/* Show each task once, parents before children, and empty the tree. */
void tree_walk(struct tree *tree,
	       void (*show)(void *context, const struct hvmi_task *task, size_t depth),
	       void *context);

#endif
