/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include "tool.h"

struct tree_node {
	struct hvmi_task task;
	struct tree_node *parent, *child, *sibling;
};

void tree_add(struct tree *tree, const struct hvmi_task *task)
{
	if (tree->count == tree->room) {
		tree->room = tree->room ? 2 * tree->room : 256;
		tree->nodes = reallocarray(tree->nodes, tree->room, sizeof(*tree->nodes));
		if (!tree->nodes)
			tool_die(TOOL_INTERNAL, "out of memory");
	}
	tree->nodes[tree->count++] = (struct tree_node){ .task = *task };
}

static int32_t parent_pid(const struct hvmi_task *task)
{
	return task->pid == task->tgid ? task->ppid : task->tgid;
}

static int by_pid(const void *a, const void *b)
{
	const struct tree_node *x = *(struct tree_node *const *)a;
	const struct tree_node *y = *(struct tree_node *const *)b;
	int32_t p = x->task.pid, q = y->task.pid;
	return p != q ? (p < q ? -1 : 1) : x < y ? -1 : x > y;
}

static struct tree_node *find_pid(struct tree_node **sorted, size_t count, int32_t pid)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (sorted[middle]->task.pid < pid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && sorted[low]->task.pid == pid ? sorted[low] : NULL;
}

static void link_nodes(struct tree *tree)
{
	struct tree_node **sorted = calloc(tree->count + 1, sizeof(*sorted));
	if (!sorted)
		tool_die(TOOL_INTERNAL, "out of memory");
	for (size_t i = 0; i < tree->count; i++)
		sorted[i] = &tree->nodes[i];
	qsort(sorted, tree->count, sizeof(*sorted), by_pid);
	/* Backwards, so that children end up in the order of the list. */
	for (size_t i = tree->count; i-- > 0;) {
		struct tree_node *node = &tree->nodes[i];
		struct tree_node *parent = find_pid(sorted, tree->count, parent_pid(&node->task));
		/* Linux lists parents first. Holding on to that, no lie can make a circle. */
		if (!parent || parent >= node)
			continue;
		node->parent = parent;
		node->sibling = parent->child;
		parent->child = node;
	}
	free(sorted);
}

void tree_walk(struct tree *tree,
	       void (*show)(void *context, const struct hvmi_task *task, size_t depth),
	       void *context)
{
	link_nodes(tree);
	for (size_t i = 0; i < tree->count; i++) {
		const struct tree_node *root = &tree->nodes[i], *at = root;
		size_t depth = 0;
		while (!root->parent && at) {
			show(context, &at->task, depth);
			if (at->child) {
				at = at->child;
				depth++;
				continue;
			}
			for (; at != root && !at->sibling; at = at->parent)
				depth--;
			at = at == root ? NULL : at->sibling;
		}
	}
	free(tree->nodes);
	memset(tree, 0, sizeof(*tree));
}
