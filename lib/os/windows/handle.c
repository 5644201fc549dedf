/* SPDX-License-Identifier: Apache-2.0 */
/* Handles: a table of up to three levels, whose entries lead to object headers. */
#include <stdio.h>

#include <hvmi/windows.h>

#include "os/windows/object.h"

#define HANDLES_BOUND (16u * 1024 * 1024)	/* EX_MAX_HANDLES */
#define KEY_DEPTH_MAX 512u			/* the registry's limit */

struct hvmi_handle_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	uint32_t entry_bytes, per_leaf, per_table;
	uint64_t table;			/* without the level */
	uint32_t level;
	uint64_t index, end;
	uint64_t leaf_index;		/* which leaf is in `leaf`; UINT64_MAX: none */
	uint8_t leaf[FRAME_SIZE];
	int damage;
	struct hvmi_error damage_text;
	char name[OBJECT_NAME_BYTES];
};

HVMI_API int hvmi_handle_iter_create(struct hvmi_os *os, const struct hvmi_task *task,
				     struct hvmi_handle_iter **ret, struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_PROCESS_HANDLES, WINDOWS_TABLE_CODE,
						      WINDOWS_HANDLE_ACCESS, WINDOWS_HEADER_BODY };
	uint64_t table = 0, code = 0, bytes, end;
	struct hvmi_task t;
	int rc = windows_only(os, err);
	if (!rc)
		rc = windows_require(os, "handles", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	if (!task || options_copy(&t, sizeof(t), task))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the task is not one that this library gave");
	if (hvmi_profile_sizeof(os->profile, "_HANDLE_TABLE_ENTRY", &bytes, NULL) || bytes < 8 ||
	    bytes > 64)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "handles cannot be listed: the size of their entries is unknown");
	struct hvmi_handle_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	iter->leaf_index = UINT64_MAX;
	iter->entry_bytes = (uint32_t)bytes;
	iter->per_leaf = FRAME_SIZE / iter->entry_bytes;
	iter->per_table = FRAME_SIZE / windows_data(os)->pointer_bytes;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (!rc) {
		uint64_t process = windows_task_process(os, iter->space, &t);
		rc = windows_read_pointer(os, iter->space, WINDOWS_PROCESS_HANDLES, process, &table);
		/* A process that has ended has none any more. */
		if (!rc && table)
			rc = windows_read_pointer(os, iter->space, WINDOWS_TABLE_CODE, table, &code);
		if (rc)
			hvmi_error_set(err, rc, t.object, "the handle table of process %d cannot be "
				       "read", (int)t.tgid);
	}
	if (rc) {
		hvmi_handle_iter_destroy(iter);
		return rc;
	}
	iter->level = code & 3;
	iter->table = code & ~UINT64_C(3);
	iter->end = !code ? 0 : iter->per_leaf;
	for (uint32_t i = 0; i < MIN(iter->level, 2u); i++)
		iter->end *= iter->per_table;
	iter->end = iter->level > 2 ? 0 : MIN(iter->end, HANDLES_BOUND);
	/* The first handle for which there is no leaf yet. */
	if (code && windows_read(os, iter->space, WINDOWS_TABLE_END, table, &end) == 0)
		iter->end = MIN(iter->end, (end & UINT32_MAX) / 4);
	*ret = iter;
	return 0;
}

HVMI_API void hvmi_handle_iter_destroy(struct hvmi_handle_iter *iter)
{
	if (!iter)
		return;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* Have the leaf that `index` is in. 0: there is none, and index is behind it; else 1. */
static int load_leaf(struct hvmi_handle_iter *iter)
{
	uint64_t wanted = iter->index / iter->per_leaf, at = iter->table, above[2] = { 0 };
	uint32_t n = windows_data(iter->os)->pointer_bytes;
	if (wanted == iter->leaf_index)
		return 1;
	for (uint32_t level = iter->level; level > 0; level--) {
		uint64_t span = level == 2 ? iter->per_table : 1;
		above[level - 1] = at;
		int rc = windows_pointer_at(iter->os, iter->space,
					    at + wanted / span % iter->per_table * n, &at);
		if (rc || !at) {
			if (rc && !iter->damage)
				iter->damage = hvmi_error_set(&iter->damage_text, rc, at,
							      "a part of the handle table is not in "
							      "memory");
			/* Tables grow at their end: behind one that is missing there is nothing. */
			iter->index = rc ? (wanted / span + 1) * span * iter->per_leaf : iter->end;
			return 0;
		}
	}
	/* A table in its own place would seem to be full of handles. */
	if (at == above[0] || at == above[1] || (above[0] && above[0] == above[1])) {
		if (!iter->damage)
			iter->damage = hvmi_error_set(&iter->damage_text, -EBADMSG, at,
						      "the handle table refers to itself");
		iter->index = iter->end;
		return 0;
	}
	int rc = windows_is_kernel(iter->os, at) ?
		hvmi_space_read(iter->space, at, iter->leaf, sizeof(iter->leaf), NULL) : -EFAULT;
	if (rc) {
		if (!iter->damage)
			iter->damage = hvmi_error_set(&iter->damage_text, rc, at,
						      "a part of the handle table is not in memory");
		iter->index = (wanted + 1) * iter->per_leaf;
		return 0;
	}
	iter->leaf_index = wanted;
	return 1;
}

/* A bit-field or number of an entry that was copied. */
static uint64_t entry_field(const struct hvmi_handle_iter *iter, enum windows_member id,
			    const uint8_t *entry)
{
	const struct hvmi_member *m = &windows_data(iter->os)->members[id];
	uint8_t bytes[16] = { 0 };
	memcpy(bytes, entry, MIN(iter->entry_bytes, sizeof(bytes)));
	if (m->hops[0] > 8)
		return 0;
	uint64_t value = load_le64(bytes + m->hops[0]) >> m->bit_offset;
	uint32_t bits = m->bit_size ? m->bit_size : (uint32_t)MIN(m->bytes, 8u) * 8;
	return bits >= 64 ? value : value & ((UINT64_C(1) << bits) - 1);
}

/* The object's header that an entry leads to, or 0 if it is free. */
static uint64_t entry_header(const struct hvmi_handle_iter *iter, const uint8_t *entry)
{
	bool wide = windows_data(iter->os)->pointer_bytes == 8;
	if (!windows_has(iter->os, WINDOWS_HANDLE_POINTER))
		/* The low bits are attributes. */
		return entry_field(iter, WINDOWS_HANDLE_OBJECT, entry) & ~UINT64_C(7);
	uint64_t value = entry_field(iter, WINDOWS_HANDLE_POINTER, entry) << (wide ? 4 : 3);
	uint32_t bits = windows_data(iter->os)->members[WINDOWS_HANDLE_POINTER].bit_size + 4;
	if (wide && value && bits < 64)
		value = (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
	return value;
}

/* The path of a key, from its control blocks; "" where they do not lead to the root. */
static void key_path(struct hvmi_handle_iter *iter, uint64_t body)
{
	const struct hvmi_os *os = iter->os;
	uint64_t control, block, length, compressed;
	size_t start = sizeof(iter->name) - 1;
	char part[768];
	iter->name[start] = '\0';
	if (windows_read_pointer(os, iter->space, WINDOWS_KEY_CONTROL, body, &control) ||
	    !windows_has(os, WINDOWS_NAME_TEXT))
		control = 0;
	bool whole = false;
	for (uint32_t depth = 0; control && depth < KEY_DEPTH_MAX; depth++) {
		uint8_t text[512];
		if (windows_read_pointer(os, iter->space, WINDOWS_CONTROL_NAME, control, &block) ||
		    windows_read(os, iter->space, WINDOWS_NAME_LENGTH, block, &length) ||
		    windows_read(os, iter->space, WINDOWS_NAME_COMPRESSED, block, &compressed) ||
		    length > sizeof(text) ||
		    hvmi_space_read(iter->space, block + windows_offset(os, WINDOWS_NAME_TEXT), text,
				    length, NULL))
			break;
		size_t len = compressed ? windows_latin1(text, length, part, sizeof(part)) :
					  windows_utf8(text, length, part, sizeof(part));
		if (len >= sizeof(part) || len + 1 > start)
			break;
		start -= len;
		memcpy(iter->name + start, part, len);
		iter->name[--start] = '\\';
		if (windows_read_pointer(os, iter->space, WINDOWS_CONTROL_PARENT, control, &control))
			break;
		whole = !control;
	}
	if (!whole)
		start = sizeof(iter->name) - 1;
	memmove(iter->name, iter->name + start, sizeof(iter->name) - start);
}

static void describe(struct hvmi_handle_iter *iter, struct hvmi_handle *handle)
{
	struct hvmi_os *os = iter->os;
	uint64_t object = handle->object, id;
	struct hvmi_task process;
	iter->name[0] = '\0';
	windows_object_type(os, iter->space, object, handle->type);
	if (strcmp(handle->type, "File") == 0) {
		windows_file_path(os, iter->space, object, iter->name, sizeof(iter->name));
	} else if (strcmp(handle->type, "Key") == 0) {
		key_path(iter, object);
	} else if (strcmp(handle->type, "Process") == 0) {
		if (windows_process_read(os, iter->space, object, &process) == 0)
			snprintf(iter->name, sizeof(iter->name), "%s (%d)", process.name,
				 (int)process.pid);
	} else if (strcmp(handle->type, "Thread") == 0) {
		uint32_t n = windows_data(os)->pointer_bytes;
		if (windows_thread_process(os, iter->space, object, &id) == 0 &&
		    windows_process_read(os, iter->space, id, &process) == 0 &&
		    windows_has(os, WINDOWS_THREAD_CID) &&
		    windows_pointer_at(os, iter->space,
				       object + windows_offset(os, WINDOWS_THREAD_CID) + n, &id) == 0)
			snprintf(iter->name, sizeof(iter->name), "%s (%d, %d)", process.name,
				 (int)process.pid, (int)id);
	} else if (windows_object_path(os, iter->space, object, iter->name, sizeof(iter->name))) {
		iter->name[0] = '\0';
	}
}

HVMI_API int hvmi_handle_next(struct hvmi_handle_iter *iter, struct hvmi_handle *ret,
			      struct hvmi_error *err)
{
	while (iter->index < iter->end) {
		if (!load_leaf(iter))
			continue;
		uint64_t index = iter->index++;
		const uint8_t *entry = iter->leaf + index % iter->per_leaf * iter->entry_bytes;
		uint64_t header = entry_header(iter, entry);
		/* The first entry of each leaf is the table's own. */
		if (index % iter->per_leaf == 0 || !windows_is_kernel(iter->os, header))
			continue;
		struct hvmi_handle handle = {
			.handle = index * 4, .name = iter->name,
			.object = header + windows_offset(iter->os, WINDOWS_HEADER_BODY),
			.access = (uint32_t)entry_field(iter, WINDOWS_HANDLE_ACCESS, entry),
		};
		describe(iter, &handle);
		if (result_copy(ret, &handle, sizeof(handle)))
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "hvmi_handle.size is not set");
		return 1;
	}
	int damage = iter->damage;
	iter->damage = 0;
	if (damage && err)
		*err = iter->damage_text;
	return damage;
}
