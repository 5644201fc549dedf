/* SPDX-License-Identifier: Apache-2.0 */
/* Hives, keys and values. Cells have the format of the file, which is that of all releases. */
#include <stdio.h>
#include <strings.h>

#include <hvmi/windows.h>

#include "os/windows/hive.h"

#define HIVES_BOUND 4096u
#define SUBKEYS_MAX 1048576u
#define VALUES_MAX 65536u
#define DATA_MAX (1u << 20)		/* of one value: the documented limit */
#define NAME_MAX_BYTES 512u		/* of a key: 256 characters */
#define SEGMENT_BYTES 16344u		/* of data that is kept in several cells, since 1.4 */
#define PATH_BYTES 4096u
#define VALUE_NAME_BYTES 49152u		/* 16,383 characters */

/* _CM_KEY_NODE and _CM_KEY_VALUE. */
#define KEY_SIGNATURE 0x6b6eu		/* "nk" */
#define KEY_COMPRESSED 0x20u
#define KEY_BYTES 0x4cu
#define VALUE_SIGNATURE 0x6b76u		/* "vk" */
#define VALUE_COMPRESSED 1u
#define VALUE_BYTES 0x14u

struct hvmi_hive_iter {
	struct hvmi_os *os;
	struct hvmi_space *space;
	struct list_walk walk;
	char path[PATH_BYTES], mount[PATH_BYTES];
};

HVMI_API int hvmi_hive_iter_create(struct hvmi_os *os, struct hvmi_hive_iter **ret,
				   struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_HIVE_LINKS, WINDOWS_HIVE_SIGNATURE };
	uint64_t head;
	int rc = windows_only(os, err);
	if (!rc)
		rc = windows_require(os, "hives", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	rc = windows_symbol(os, "hives", "CmpHiveListHead", &head, err);
	if (rc)
		return rc;
	struct hvmi_hive_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	iter->os = os;
	rc = hvmi_os_kernel_space(os, &iter->space, err);
	if (rc) {
		free(iter);
		return rc;
	}
	list_begin(&iter->walk, iter->space, head, windows_data(os)->pointer_bytes, HIVES_BOUND);
	*ret = iter;
	return 0;
}

HVMI_API void hvmi_hive_iter_destroy(struct hvmi_hive_iter *iter)
{
	if (!iter)
		return;
	hvmi_space_destroy(iter->space);
	free(iter);
}

/* The first of two strings that is not empty. */
static void read_text(struct hvmi_hive_iter *iter, uint64_t object, enum windows_member first,
		      enum windows_member second, char buf[PATH_BYTES])
{
	const enum windows_member members[] = { first, second };
	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(members) && !buf[0]; i++)
		if (windows_has(iter->os, members[i]) &&
		    windows_string(iter->space, object + windows_offset(iter->os, members[i]),
				   windows_data(iter->os)->pointer_bytes, buf, PATH_BYTES, NULL))
			buf[0] = '\0';
}

HVMI_API int hvmi_hive_next(struct hvmi_hive_iter *iter, struct hvmi_hive *ret,
			    struct hvmi_error *err)
{
	uint64_t link;
	struct hive hive;
	int rc = list_next(&iter->walk, &link, "hives", err);
	if (rc != 1)
		return rc;
	uint64_t object = link - windows_offset(iter->os, WINDOWS_HIVE_LINKS);
	struct hvmi_hive found = { .object = object, .root = HIVE_NO_CELL, .path = iter->path,
				   .mount = iter->mount };
	if (hive_open(iter->os, object, &hive, NULL) == 0) {
		hive_root(&hive, &found.root);
		hive_close(&hive);
	}
	read_text(iter, object, WINDOWS_HIVE_USER_FILE, WINDOWS_HIVE_FILE, iter->path);
	read_text(iter, object, WINDOWS_HIVE_MOUNT, WINDOWS_HIVE_MOUNT, iter->mount);
	if (result_copy(ret, &found, sizeof(found)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_hive.size is not set");
	return 1;
}

/* Keys. */

struct key_node {
	uint32_t subkeys[2], lists[2];	/* stable, volatile */
	uint32_t values, value_list;
};

static int read_key(const struct hive *hive, uint32_t cell, struct hvmi_key *key,
		    struct key_node *node)
{
	uint8_t bytes[KEY_BYTES + NAME_MAX_BYTES];
	uint32_t len = 0;
	int rc = hive_cell(hive, cell, bytes, sizeof(bytes), &len);
	if (rc)
		return rc;
	uint32_t name = len < KEY_BYTES ? 0 : load_le16(bytes + 0x48);
	if (len < KEY_BYTES || load_le16(bytes) != KEY_SIGNATURE || name > NAME_MAX_BYTES ||
	    name > len - KEY_BYTES)
		return -EBADMSG;
	for (size_t i = 0; i < 2; i++) {
		node->subkeys[i] = load_le32(bytes + 0x14 + 4 * i);
		node->lists[i] = load_le32(bytes + 0x1c + 4 * i);
	}
	node->values = load_le32(bytes + 0x24);
	node->value_list = load_le32(bytes + 0x28);
	*key = (struct hvmi_key){
		.hive = hive->object, .cell = cell, .subkeys = node->subkeys[0] + node->subkeys[1],
		.values = node->values, .written_ns = windows_time_ns(load_le64(bytes + 4)),
	};
	if (load_le16(bytes + 2) & KEY_COMPRESSED)
		windows_latin1(bytes + KEY_BYTES, name, key->name, sizeof(key->name));
	else
		windows_utf8(bytes + KEY_BYTES, name, key->name, sizeof(key->name));
	return 0;
}

struct hvmi_key_iter {
	struct hive hive;
	uint32_t *cells;
	uint32_t count, capacity, at;
	int damage;
};

static int add_cell(struct hvmi_key_iter *iter, uint32_t cell)
{
	if (iter->count == SUBKEYS_MAX)
		return -EOVERFLOW;
	if (iter->count == iter->capacity) {
		uint32_t capacity = iter->capacity ? 2 * iter->capacity : 64;
		uint32_t *grown = realloc(iter->cells, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		iter->cells = grown;
		iter->capacity = capacity;
	}
	iter->cells[iter->count++] = cell;
	return 0;
}

/* lf, lh: cells with hashes; li: cells; ri: cells of the other kinds. */
static int add_list(struct hvmi_key_iter *iter, uint32_t cell, uint32_t depth)
{
	uint32_t len = 0, size = 4 + 65535u * 8;
	CLEANUP_FREE uint8_t *bytes = malloc(size);
	if (!bytes)
		return -ENOMEM;
	int rc = hive_cell(&iter->hive, cell, bytes, 4, &len);
	if (rc)
		return rc;
	uint32_t count = load_le16(bytes + 2);
	bool hashed = bytes[0] == 'l' && (bytes[1] == 'f' || bytes[1] == 'h');
	bool plain = bytes[1] == 'i' && (bytes[0] == 'l' || (bytes[0] == 'r' && depth == 0));
	uint32_t step = hashed ? 8 : 4;
	if (!hashed && !plain)
		return -EBADMSG;
	rc = hive_cell(&iter->hive, cell, bytes, 4 + count * step, &len);
	if (!rc && len < 4 + count * step)
		rc = -EBADMSG;
	for (uint32_t i = 0; !rc && i < count; i++) {
		uint32_t entry = load_le32(bytes + 4 + i * step);
		if (bytes[0] == 'l') {
			rc = add_cell(iter, entry);
		} else {
			int part = add_list(iter, entry, depth + 1);
			if (part == -ENOMEM || part == -EOVERFLOW)
				rc = part;
			else if (part)
				iter->damage = part;
		}
	}
	return rc;
}

HVMI_API int hvmi_key_iter_create(struct hvmi_os *os, const struct hvmi_key *key,
				  struct hvmi_key_iter **ret, struct hvmi_error *err)
{
	struct hvmi_key k, again;
	struct key_node node;
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	if (!key || options_copy(&k, sizeof(k), key))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the key is not one that this library gave");
	struct hvmi_key_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	rc = hive_open(os, k.hive, &iter->hive, err);
	if (rc) {
		free(iter);
		return rc;
	}
	rc = read_key(&iter->hive, k.cell, &again, &node);
	for (uint32_t type = 0; !rc && type < 2; type++) {
		if (!node.subkeys[type])
			continue;
		int part = add_list(iter, node.lists[type], 0);
		if (part == -ENOMEM || part == -EOVERFLOW)
			rc = part;
		else if (part)
			iter->damage = part;
	}
	if (rc) {
		hvmi_key_iter_destroy(iter);
		return hvmi_error_set(err, rc, k.hive, "key 0x%x of the hive cannot be read", k.cell);
	}
	*ret = iter;
	return 0;
}

HVMI_API int hvmi_key_next(struct hvmi_key_iter *iter, struct hvmi_key *ret,
			   struct hvmi_error *err)
{
	struct hvmi_key key;
	struct key_node node;
	while (iter->at < iter->count) {
		int rc = read_key(&iter->hive, iter->cells[iter->at++], &key, &node);
		if (rc) {
			iter->damage = rc;
			continue;
		}
		if (result_copy(ret, &key, sizeof(key)))
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "hvmi_key.size is not set");
		return 1;
	}
	int damage = iter->damage;
	iter->damage = 0;
	return damage ? hvmi_error_set(err, damage, iter->hive.object, "some subkeys are not in memory "
				       "or damaged") : 0;
}

HVMI_API void hvmi_key_iter_destroy(struct hvmi_key_iter *iter)
{
	if (!iter)
		return;
	hive_close(&iter->hive);
	free(iter->cells);
	free(iter);
}

static int find_subkey(struct hvmi_os *os, struct hvmi_key *key, const char *name, size_t len,
		       struct hvmi_error *err)
{
	struct hvmi_key_iter *iter;
	struct hvmi_key sub = { .size = sizeof(sub) };
	int rc = hvmi_key_iter_create(os, key, &iter, err);
	if (rc)
		return rc;
	while ((rc = hvmi_key_next(iter, &sub, err)) == 1)
		if (strlen(sub.name) == len && strncasecmp(sub.name, name, len) == 0)
			break;
	hvmi_key_iter_destroy(iter);
	if (rc == 1)
		*key = sub;
	return rc == 1 ? 0 : rc ? rc : hvmi_error_set(err, -ENOENT, HVMI_NO_ADDRESS,
						      "there is no key %.*s", (int)MIN(len, 256u),
						      name);
}

HVMI_API int hvmi_key_find(struct hvmi_os *os, const struct hvmi_hive *hive, const char *path,
			   struct hvmi_key *ret, struct hvmi_error *err)
{
	struct hvmi_hive h;
	struct hive opened;
	struct hvmi_key key;
	struct key_node node;
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	if (!hive || options_copy(&h, sizeof(h), hive))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the hive is not one that this library gave");
	rc = hive_open(os, h.object, &opened, err);
	if (rc)
		return rc;
	rc = read_key(&opened, h.root, &key, &node);
	hive_close(&opened);
	if (rc)
		return hvmi_error_set(err, rc, h.object, "the root key of the hive cannot be read");
	key.size = sizeof(key);
	while (path && *path && !rc) {
		path += strspn(path, "\\");
		size_t len = strcspn(path, "\\");
		if (len)
			rc = find_subkey(os, &key, path, len, err);
		path += len;
	}
	if (!rc && result_copy(ret, &key, sizeof(key)))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "hvmi_key.size is not set");
	return rc;
}

/* Values. */

struct hvmi_value_iter {
	struct hive hive;
	uint8_t *cells;		/* 4 bytes each */
	uint32_t count, at;
	int damage;
	uint8_t *data;
	char name[VALUE_NAME_BYTES];
};

HVMI_API int hvmi_value_iter_create(struct hvmi_os *os, const struct hvmi_key *key,
				    struct hvmi_value_iter **ret, struct hvmi_error *err)
{
	struct hvmi_key k, again;
	struct key_node node = { 0 };
	uint32_t len = 0;
	int rc = windows_only(os, err);
	if (rc)
		return rc;
	if (!key || options_copy(&k, sizeof(k), key))
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "the key is not one that this library gave");
	struct hvmi_value_iter *iter = calloc(1, sizeof(*iter));
	if (!iter)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	rc = hive_open(os, k.hive, &iter->hive, err);
	if (rc) {
		free(iter);
		return rc;
	}
	rc = read_key(&iter->hive, k.cell, &again, &node);
	if (!rc && node.values > VALUES_MAX)
		rc = -EBADMSG;
	if (!rc && node.values) {
		iter->cells = malloc(node.values * 4);
		rc = iter->cells ? hive_cell(&iter->hive, node.value_list, iter->cells,
					     node.values * 4, &len) : -ENOMEM;
		iter->count = len / 4;
		if (!rc && iter->count < node.values)
			iter->damage = -EBADMSG;
	}
	if (rc) {
		hvmi_value_iter_destroy(iter);
		return hvmi_error_set(err, rc, k.hive, "the values of key 0x%x cannot be read", k.cell);
	}
	*ret = iter;
	return 0;
}

HVMI_API void hvmi_value_iter_destroy(struct hvmi_value_iter *iter)
{
	if (!iter)
		return;
	hive_close(&iter->hive);
	free(iter->cells);
	free(iter->data);
	free(iter);
}

/* "db", count, a cell with the cells of segments. */
static int read_segments(struct hvmi_value_iter *iter, const uint8_t head[8], uint32_t bytes)
{
	uint32_t count = load_le16(head + 2), len = 0, done = 0;
	CLEANUP_FREE uint8_t *cells = malloc(count ? count * 4 : 1);
	if (!cells)
		return -ENOMEM;
	int rc = hive_cell(&iter->hive, load_le32(head + 4), cells, count * 4, &len);
	for (uint32_t i = 0; !rc && i < len / 4 && done < bytes; i++) {
		uint32_t part = 0;
		rc = hive_cell(&iter->hive, load_le32(cells + 4 * i), iter->data + done,
			       MIN(bytes - done, SEGMENT_BYTES), &part);
		done += part;
	}
	return rc ? rc : done < bytes ? -EBADMSG : 0;
}

static int read_data(struct hvmi_value_iter *iter, uint32_t cell, uint32_t bytes)
{
	uint8_t head[8];
	uint32_t len = 0;
	free(iter->data);
	iter->data = malloc(bytes ? bytes : 1);
	if (!iter->data)
		return -ENOMEM;
	if (bytes > SEGMENT_BYTES) {
		int rc = hive_cell(&iter->hive, cell, head, sizeof(head), &len);
		if (rc)
			return rc;
		if (len == sizeof(head) && memcmp(head, "db", 2) == 0)
			return read_segments(iter, head, bytes);
	}
	int rc = hive_cell(&iter->hive, cell, iter->data, bytes, &len);
	return rc ? rc : len < bytes ? -EBADMSG : 0;
}

static int read_value(struct hvmi_value_iter *iter, uint32_t cell, struct hvmi_value *value)
{
	uint8_t head[VALUE_BYTES];
	uint32_t len = 0;
	int rc = hive_cell(&iter->hive, cell, head, sizeof(head), &len);
	if (rc)
		return rc;
	if (len < sizeof(head) || load_le16(head) != VALUE_SIGNATURE)
		return -EBADMSG;
	uint32_t name = load_le16(head + 2), bytes = load_le32(head + 4), whole = VALUE_BYTES + name;
	CLEANUP_FREE uint8_t *text = malloc(whole);
	if (!text)
		return -ENOMEM;
	rc = hive_cell(&iter->hive, cell, text, whole, &len);
	if (rc || len < whole)
		return rc ? rc : -EBADMSG;
	if (load_le16(head + 0x10) & VALUE_COMPRESSED)
		windows_latin1(text + VALUE_BYTES, name, iter->name, sizeof(iter->name));
	else
		windows_utf8(text + VALUE_BYTES, name, iter->name, sizeof(iter->name));
	*value = (struct hvmi_value){ .type = load_le32(head + 0xc), .bytes = bytes & 0x7fffffff,
				      .name = iter->name };
	/* Four bytes and less are kept in place of the cell. */
	if (bytes & 0x80000000u) {
		if (value->bytes > 4)
			return -EBADMSG;
		free(iter->data);
		iter->data = malloc(4);
		if (!iter->data)
			return -ENOMEM;
		memcpy(iter->data, head + 8, 4);
		value->data = iter->data;
		return 0;
	}
	if (value->bytes > DATA_MAX)
		return -EBADMSG;
	rc = read_data(iter, load_le32(head + 8), value->bytes);
	if (rc == -ENOMEM)
		return rc;
	if (rc)
		iter->damage = rc;
	value->data = rc ? NULL : iter->data;
	return 0;
}

HVMI_API int hvmi_value_next(struct hvmi_value_iter *iter, struct hvmi_value *ret,
			     struct hvmi_error *err)
{
	struct hvmi_value value;
	while (iter->at < iter->count) {
		int rc = read_value(iter, load_le32(iter->cells + 4 * (size_t)iter->at++), &value);
		if (rc) {
			iter->damage = rc;
			continue;
		}
		if (result_copy(ret, &value, sizeof(value)))
			return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
					      "hvmi_value.size is not set");
		return 1;
	}
	int damage = iter->damage;
	iter->damage = 0;
	return damage ? hvmi_error_set(err, damage, iter->hive.object, "some values are not in memory or "
				       "damaged") : 0;
}
