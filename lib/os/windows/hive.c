/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cell index is type:1, directory:10, table:9, offset:12. The map leads from it to a block of
 * 4 KiB, by an _HMAP_ENTRY that begins with { BlockAddress, BinAddress } until 8.1 and with
 * { BlockOffset, PermanentBinAddress } since 10.
 */
#include "os/windows/hive.h"

#define HIVE_SIGNATURE 0xbee0bee0u
#define BASE_ROOT_CELL 0x24u		/* _HBASE_BLOCK, the header of the file */
#define BIN_FLAGS UINT64_C(15)
#define STRIDES_CHECKED 4u

/* What leads to a block. */
static int entry_bin(const struct hive *hive, uint64_t entry, uint64_t *first_ret, uint64_t *bin_ret)
{
	uint32_t n = windows_data(hive->os)->pointer_bytes;
	int rc = windows_pointer_at(hive->os, hive->kernel, entry, first_ret);
	if (!rc)
		rc = windows_pointer_at(hive->os, hive->kernel, entry + n, bin_ret);
	*bin_ret &= ~BIN_FLAGS;
	return rc;
}

static int read_at(const struct hive *hive, uint64_t gva, void *buf, size_t len)
{
	if (windows_is_kernel(hive->os, gva))
		return hvmi_space_read(hive->kernel, gva, buf, len, NULL);
	return hive->user ? hvmi_space_read(hive->user, gva, buf, len, NULL) : -EFAULT;
}

/* Bins begin with "hbin", so the right size of entries leads to one from each. */
static void find_stride(struct hive *hive, struct hive_storage *storage)
{
	uint32_t n = windows_data(hive->os)->pointer_bytes, best = 0, blocks = storage->bytes / 4096;
	uint64_t table, first, bin;
	storage->stride = 3 * n;
	if (windows_pointer_at(hive->os, hive->kernel, storage->map, &table))
		return;
	for (uint32_t words = 3; words <= 5; words++) {
		uint32_t hits = 0;
		for (uint32_t i = 1; i < MIN(blocks, STRIDES_CHECKED + 1); i++) {
			uint8_t magic[4];
			hits += entry_bin(hive, table + (uint64_t)i * words * n, &first, &bin) == 0 &&
				read_at(hive, bin, magic, sizeof(magic)) == 0 &&
				memcmp(magic, "hbin", 4) == 0;
		}
		if (hits > best) {
			best = hits;
			storage->stride = words * n;
		}
	}
}

/* The process whose user memory holds the hives since 1803: it has no program. */
static struct hvmi_space *registry_process(struct hvmi_os *os)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_space *space = NULL;
	if (windows_data(os)->id.build < 17134 || hvmi_task_iter_create(os, 0, &iter, NULL))
		return NULL;
	while (!space && hvmi_task_next(iter, &task, NULL) == 1)
		if (strcmp(task.name, "Registry") == 0 && task.ppid == 4 &&
		    task.flags & HVMI_TASK_KERNEL)
			hvmi_task_space(os, &task, &space, NULL);
	hvmi_task_iter_destroy(iter);
	return space;
}

int hive_open(struct hvmi_os *os, uint64_t object, struct hive *ret, struct hvmi_error *err)
{
	static const enum windows_member needed[] = { WINDOWS_HIVE_SIGNATURE, WINDOWS_HIVE_BASE,
						      WINDOWS_HIVE_STORAGE };
	struct hive hive = { .os = os, .object = object };
	uint32_t n = windows_data(os)->pointer_bytes;
	uint64_t value, bytes;
	int rc = windows_require(os, "the registry", needed, ARRAY_SIZE(needed), err);
	if (rc)
		return rc;
	uint64_t storage = windows_offset(os, WINDOWS_HIVE_STORAGE);
	if (hvmi_profile_sizeof(os->profile, "_HHIVE", &bytes, NULL) || bytes <= storage)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "the registry cannot be read: the size of _HHIVE is unknown");
	rc = hvmi_os_kernel_space(os, &hive.kernel, err);
	if (rc)
		return rc;
	rc = windows_is_kernel(os, object) ?
		windows_read(os, hive.kernel, WINDOWS_HIVE_SIGNATURE, object, &value) : -EFAULT;
	if (!rc && (uint32_t)value != HIVE_SIGNATURE)
		rc = -EBADMSG;
	hive.user = rc ? NULL : registry_process(os);
	/* Storage[2] ends _HHIVE: { ULONG Length; PHMAP_DIRECTORY Map; ... } */
	uint64_t dual = (bytes - storage) / 2;
	for (uint32_t type = 0; !rc && type < 2; type++) {
		uint64_t at = object + storage + type * dual;
		uint8_t length[4];
		rc = hvmi_space_read(hive.kernel, at, length, sizeof(length), NULL);
		if (!rc)
			rc = windows_pointer_at(os, hive.kernel, at + n, &hive.storage[type].map);
		hive.storage[type].bytes = load_le32(length) & 0x7fffffff;
		if (!rc && hive.storage[type].bytes)
			find_stride(&hive, &hive.storage[type]);
	}
	if (rc) {
		hive_close(&hive);
		return hvmi_error_set(err, rc, object, "there is no hive at 0x%llx, or it is not in "
				      "memory", (unsigned long long)object);
	}
	*ret = hive;
	return 0;
}

void hive_close(struct hive *hive)
{
	hvmi_space_destroy(hive->kernel);
	hvmi_space_destroy(hive->user);
	hive->kernel = hive->user = NULL;
}

int hive_root(const struct hive *hive, uint32_t *cell_ret)
{
	uint8_t block[BASE_ROOT_CELL + 4];
	uint64_t base;
	int rc = windows_read_pointer(hive->os, hive->kernel, WINDOWS_HIVE_BASE, hive->object, &base);
	if (!rc)
		rc = read_at(hive, base, block, sizeof(block));
	if (!rc && memcmp(block, "regf", 4))
		rc = -EBADMSG;
	if (!rc)
		*cell_ret = load_le32(block + BASE_ROOT_CELL);
	return rc;
}

static int cell_address(const struct hive *hive, uint32_t cell, uint64_t *ret)
{
	const struct hive_storage *storage = &hive->storage[cell >> 31];
	uint32_t n = windows_data(hive->os)->pointer_bytes;
	uint64_t table, first, bin;
	/* Most hives have one table, which SmallDir is: the map holds it all the same. */
	if (cell == HIVE_NO_CELL || (cell & 0x7fffffff) >= storage->bytes || cell % 8)
		return -EBADMSG;
	int rc = windows_pointer_at(hive->os, hive->kernel, storage->map + (cell >> 21 & 0x3ff) * n,
				    &table);
	if (!rc)
		rc = entry_bin(hive, table + (cell >> 12 & 0x1ff) * storage->stride, &first, &bin);
	if (rc)
		return rc;
	/* A block's address, or its offset in the bin. */
	*ret = (windows_is_kernel(hive->os, first) ? first : bin + first) + (cell & 0xfff);
	return 0;
}

int hive_cell(const struct hive *hive, uint32_t cell, void *buf, uint32_t size, uint32_t *len_ret)
{
	uint64_t at;
	uint8_t head[4];
	int rc = cell_address(hive, cell, &at);
	if (!rc)
		rc = read_at(hive, at, head, sizeof(head));
	if (rc)
		return rc;
	/* Negative while it is allocated. */
	int64_t bytes = -(int64_t)(int32_t)load_le32(head);
	if (bytes < 8 || bytes > (int64_t)hive->storage[cell >> 31].bytes)
		return -EBADMSG;
	uint32_t len = MIN((uint32_t)bytes - 4, size);
	rc = read_at(hive, at + 4, buf, len);
	if (!rc)
		*len_ret = len;
	return rc;
}
