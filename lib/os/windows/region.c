/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The regions of a process: a binary tree of VADs by address. All its forms (a splay tree until XP,
 * AVL trees since) are the same to who only reads: two children and a range.
 */
#include <stdio.h>

#include "os/windows/windows.h"

#define VADS_BOUND (4u * 1024 * 1024)
#define DEPTH_BOUND 65536u	/* splay trees may be lists */
#define PATH_BYTES (3u * 32768)

/* MMVAD_FLAGS.VadType */
#define VAD_DEVICE 1u
#define VAD_IMAGE 2u

struct vad {
	uint64_t gva;
	uint64_t first, last;	/* pages */
	uint64_t right;		/* children there lie in [last + 1, high] */
	uint64_t high;
};

struct region_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct vad *stack;
	uint32_t depth, capacity;
	uint32_t left;		/* VADs that are still believed */
	bool ended, live;
	struct hvmi_task task;
	int damage;
	struct hvmi_error damage_text;
	char path[PATH_BYTES];
};

static int read_vad(const struct hvmi_os *os, struct hvmi_space *space, uint64_t gva,
		    struct vad *ret)
{
	uint64_t high = 0;
	*ret = (struct vad){ .gva = gva };
	int rc = windows_read(os, space, WINDOWS_VAD_FIRST, gva, &ret->first);
	if (!rc)
		rc = windows_read(os, space, WINDOWS_VAD_LAST, gva, &ret->last);
	if (!rc && windows_has(os, WINDOWS_VAD_FIRST_HIGH)) {
		rc = windows_read(os, space, WINDOWS_VAD_FIRST_HIGH, gva, &high);
		ret->first |= high << 32;
		if (!rc)
			rc = windows_read(os, space, WINDOWS_VAD_LAST_HIGH, gva, &high);
		ret->last |= high << 32;
	}
	return rc;
}

static void damaged(struct region_iter *iter, uint64_t gva, const char *why)
{
	if (!iter->damage)
		iter->damage = hvmi_error_set(&iter->damage_text, -EBADMSG, gva,
					      "the tree of regions is damaged at 0x%llx: %s",
					      (unsigned long long)gva, why);
}

/*
 * Go down to the first region of a subtree whose regions must lie in [low, high]: each step makes
 * that narrower, so a tree that refers to itself ends.
 */
static int descend(struct region_iter *iter, uint64_t gva, uint64_t low, uint64_t high,
		   struct hvmi_error *err)
{
	while (gva) {
		struct vad vad;
		uint64_t left;
		if (iter->left == 0 || iter->depth == DEPTH_BOUND)
			return hvmi_error_set(err, -EOVERFLOW, gva,
					      "the tree of regions does not end");
		iter->left--;
		if (!windows_is_kernel(iter->os, gva) || read_vad(iter->os, iter->space, gva, &vad) ||
		    windows_read_pointer(iter->os, iter->space, WINDOWS_VAD_LEFT, gva, &left) ||
		    windows_read_pointer(iter->os, iter->space, WINDOWS_VAD_RIGHT, gva, &vad.right)) {
			damaged(iter, gva, "there is no memory");
			return 0;
		}
		if (vad.first > vad.last || vad.first < low || vad.last > high) {
			damaged(iter, gva, "a region lies outside of where its parent allows");
			return 0;
		}
		vad.high = high;
		if (iter->depth == iter->capacity) {
			uint32_t capacity = iter->capacity ? 2 * iter->capacity : 64;
			struct vad *grown = realloc(iter->stack, capacity * sizeof(*grown));
			if (!grown)
				return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
			iter->stack = grown;
			iter->capacity = capacity;
		}
		iter->stack[iter->depth++] = vad;
		if (left && vad.first == low) {
			damaged(iter, left, "a region lies outside of where its parent allows");
			return 0;
		}
		gva = left;
		high = vad.first - 1;
	}
	return 0;
}

/* The root of a process's tree. */
static int read_root(const struct hvmi_os *os, struct hvmi_space *space, uint64_t process,
		     uint64_t *ret)
{
	const struct windows_os *data = windows_data(os);
	/* A pointer, or a table whose root hangs on the right of a node of its own. */
	uint64_t at = process + windows_offset(os, WINDOWS_PROCESS_VADS);
	if (data->members[WINDOWS_PROCESS_VADS].bytes > data->pointer_bytes &&
	    windows_has(os, WINDOWS_VAD_TABLE_ROOT))
		at += windows_offset(os, WINDOWS_VAD_TABLE_ROOT);
	return process ? windows_pointer_at(os, space, at, ret) : -EFAULT;
}

static const enum windows_member needed[] = { WINDOWS_PROCESS_VADS, WINDOWS_VAD_LEFT,
					      WINDOWS_VAD_RIGHT, WINDOWS_VAD_FIRST,
					      WINDOWS_VAD_LAST };

int windows_region_begin(struct hvmi_os *os, const struct hvmi_task *task, uint32_t flags,
			 void **state_ret, struct hvmi_error *err)
{
	const struct windows_os *data = windows_data(os);
	uint64_t root = 0;
	int rc = windows_require(os, "regions", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	struct region_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->left = VADS_BOUND;
	iter->live = flags & OS_LIST_LIVE;
	iter->task = *task;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (!rc && iter->live)
		rc = windows_task_check(os, iter->space, task, err);
	if (!rc) {
		rc = read_root(os, iter->space, windows_task_process(os, iter->space, task), &root);
		if (rc)
			hvmi_error_set(err, rc, task->object, "the process at 0x%llx cannot be read",
				       (unsigned long long)task->object);
	}
	if (!rc)
		rc = descend(iter, root, 0, data->user_end / FRAME_SIZE - 1, err);
	if (rc) {
		windows_region_end(iter);
		return rc;
	}
	*state_ret = iter;
	return 0;
}

void windows_region_end(void *state)
{
	struct region_iter *iter = state;
	hvmi_space_destroy(iter->space);
	free(iter->stack);
	free(iter);
}

/* MM_PROTECTION_MASK: three bits of access, then no-cache 1, guard 2, write-combine 3. */
static void decode_protection(struct hvmi_region *region, uint64_t protection)
{
	static const struct {
		uint32_t page, rights;
	} access[8] = {
		{ 0x01, 0 },						/* PAGE_NOACCESS */
		{ 0x02, HVMI_RIGHT_READ },
		{ 0x10, HVMI_RIGHT_EXECUTE },
		{ 0x20, HVMI_RIGHT_READ | HVMI_RIGHT_EXECUTE },
		{ 0x04, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE },
		{ 0x08, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE },		/* PAGE_WRITECOPY */
		{ 0x40, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE },
		{ 0x80, HVMI_RIGHT_READ | HVMI_RIGHT_WRITE | HVMI_RIGHT_EXECUTE },
	};
	static const uint32_t modifiers[4] = { 0, 0x200, 0x100, 0x400 };
	region->rights = access[protection & 7].rights;
	region->protection = access[protection & 7].page;
	if (protection & 7)
		region->protection |= modifiers[protection >> 3 & 3];
	if ((protection & 0x18) == 0x10 && protection & 7)
		region->flags |= HVMI_REGION_GUARD;
}

/* The _FILE_OBJECT of a VAD that is a section's; 0: it has none. */
static uint64_t section_file(const struct hvmi_os *os, struct hvmi_space *space, uint64_t vad)
{
	uint64_t subsection, area, file;
	if (windows_has(os, WINDOWS_VAD_SUBSECTION)) {
		if (windows_read_pointer(os, space, WINDOWS_VAD_SUBSECTION, vad, &subsection) ||
		    !windows_is_kernel(os, subsection) ||
		    windows_read_pointer(os, space, WINDOWS_SUBSECTION_CONTROL_AREA, subsection,
					 &area))
			return 0;
	} else if (windows_read_pointer(os, space, WINDOWS_VAD_CONTROL_AREA, vad, &area)) {
		return 0;
	}
	if (!windows_is_kernel(os, area) ||
	    windows_read_pointer(os, space, WINDOWS_CONTROL_AREA_FILE, area, &file))
		return 0;
	return windows_fast_ref(os, file);
}

static void describe_section(struct region_iter *iter, struct hvmi_region *region)
{
	uint64_t file = section_file(iter->os, iter->space, region->object);
	if (!file)
		return;
	region->flags |= HVMI_REGION_FILE;
	if (windows_file_path(iter->os, iter->space, file, iter->path, sizeof(iter->path)))
		region->flags |= HVMI_REGION_PATH_PARTIAL;
}

int windows_mapped_path(struct hvmi_os *os, struct hvmi_space *space, uint64_t process,
			uint64_t gva, char *buf, size_t size)
{
	uint64_t at, low = 0, high = UINT64_MAX, page = gva / FRAME_SIZE;
	if (windows_require(os, "regions", needed, ARRAY_SIZE(needed), NULL))
		return -ENOTSUP;
	int rc = read_root(os, space, process, &at);
	for (uint32_t depth = 0; !rc && at && depth < DEPTH_BOUND; depth++) {
		struct vad vad;
		rc = read_vad(os, space, at, &vad);
		if (rc || vad.first > vad.last || vad.first < low || vad.last > high)
			break;
		if (page >= vad.first && page <= vad.last) {
			uint64_t file = section_file(os, space, at);
			return file ? windows_file_path(os, space, file, buf, size) : -ENOENT;
		}
		bool left = page < vad.first;
		low = left ? low : vad.last + 1;
		high = left ? vad.first - 1 : high;
		rc = windows_read_pointer(os, space, left ? WINDOWS_VAD_LEFT : WINDOWS_VAD_RIGHT, at,
					  &at);
	}
	return rc ? rc : -ENOENT;
}

static void describe(struct region_iter *iter, const struct vad *vad, struct hvmi_region *ret)
{
	struct hvmi_os *os = iter->os;
	uint64_t value, type = 0, own = 0;
	*ret = (struct hvmi_region){ .object = vad->gva, .start = vad->first * FRAME_SIZE,
				     .end = (vad->last + 1) * FRAME_SIZE, .path = iter->path };
	iter->path[0] = '\0';
	if (!windows_has(os, WINDOWS_VAD_FLAGS))
		return;
	uint64_t flags = vad->gva + windows_offset(os, WINDOWS_VAD_FLAGS);
	bool known = windows_read(os, iter->space, WINDOWS_VAD_PRIVATE, flags, &own) == 0;
	if (windows_read(os, iter->space, WINDOWS_VAD_PROTECTION, flags, &value) == 0) {
		decode_protection(ret, value);
		/* Copy on write is the process's own as soon as it matters. */
		if (known && !own && (value & 7) != 5 && (value & 7) != 7)
			ret->flags |= HVMI_REGION_SHARED;
	}
	if (windows_read(os, iter->space, WINDOWS_VAD_TYPE, flags, &type) &&
	    windows_read(os, iter->space, WINDOWS_VAD_IMAGE_MAP, flags, &value) == 0 && value)
		type = VAD_IMAGE;
	if (known && own)
		ret->flags |= HVMI_REGION_PRIVATE;
	else if (known && type != VAD_DEVICE)
		describe_section(iter, ret);
	if (type == VAD_IMAGE)
		ret->flags |= HVMI_REGION_IMAGE;
}

int windows_region_next(void *state, struct hvmi_region *ret, struct hvmi_error *err)
{
	struct region_iter *iter = state;
	if (iter->ended)
		return 0;
	if (iter->depth == 0) {
		iter->ended = true;
		if (iter->damage && err)
			*err = iter->damage_text;
		if (!iter->damage && iter->live)
			return windows_task_check(iter->os, iter->space, &iter->task, err);
		return iter->damage;
	}
	struct vad vad = iter->stack[--iter->depth];
	describe(iter, &vad, ret);
	if (vad.right && vad.last == vad.high) {
		damaged(iter, vad.right, "a region lies outside of where its parent allows");
		return 1;
	}
	int rc = descend(iter, vad.right, vad.last + 1, vad.high, &iter->damage_text);
	if (rc) {
		iter->damage = rc;
		iter->depth = 0;
	}
	return 1;
}
