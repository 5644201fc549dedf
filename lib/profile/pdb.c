/* SPDX-License-Identifier: Apache-2.0 */
/* The container, a file system of streams in blocks, and what is found in each. */
#include "profile/pdb_file.h"

#define SUPERBLOCK_BYTES 56u
#define STREAMS_MAX 65536u
#define STREAM_DELETED UINT32_MAX
#define INFO_BYTES 28u
#define DEBUG_HEADER_BYTES 64u
#define MACHINE_X86 0x14cu

int pdb_bad(const struct pdb_file *file, const char *what)
{
	return hvmi_error_set(file->err, -EBADMSG, HVMI_NO_ADDRESS, "this PDB is malformed: %s",
			      what);
}

int pdb_no_memory(const struct pdb_file *file)
{
	return hvmi_error_set(file->err, -ENOMEM, HVMI_NO_ADDRESS, "no memory for a PDB");
}

static uint32_t blocks_of(const struct pdb_file *file, uint32_t len)
{
	return (uint32_t)(((uint64_t)len + file->block_bytes - 1) / file->block_bytes);
}

/* Bytes that lie in the blocks whose numbers are at `numbers`. */
static int gather(const struct pdb_file *file, const uint8_t *numbers, uint32_t len,
		  uint8_t **ret)
{
	CLEANUP_FREE uint8_t *bytes = malloc_filled(MAX(len, 1u));

	if (!bytes)
		return pdb_no_memory(file);
	for (uint32_t done = 0, i = 0; done < len; i++) {
		uint32_t block = load_le32(numbers + (size_t)i * 4);
		uint32_t n = MIN(len - done, file->block_bytes);
		uint64_t at = (uint64_t)block * file->block_bytes;
		if (block >= file->block_count || at > file->len || n > file->len - at)
			return pdb_bad(file, "a stream has a block behind the end of the file");
		memcpy(bytes + done, file->bytes + at, n);
		done += n;
	}
	*ret = bytes;
	bytes = NULL;
	return 0;
}

/* Where the blocks of a stream follow each other, it needs no copy: most do. NULL: they do not. */
static const uint8_t *in_place(const struct pdb_file *file, const uint8_t *numbers, uint32_t len)
{
	uint32_t first = load_le32(numbers), count = blocks_of(file, len);
	uint64_t at = (uint64_t)first * file->block_bytes;

	for (uint32_t i = 1; i < count; i++)
		if (load_le32(numbers + (size_t)i * 4) != first + i)
			return NULL;
	if (first >= file->block_count || count > file->block_count - first || at > file->len ||
	    len > file->len - at)
		return NULL;
	return file->bytes + at;
}

/* The directory is a stream too, whose block numbers lie in one block. */
static int read_directory(struct pdb_file *file, uint32_t map_block)
{
	uint64_t at = (uint64_t)map_block * file->block_bytes;
	uint64_t numbers = (uint64_t)blocks_of(file, file->directory_len) * 4;

	if (file->directory_len < 4 || file->directory_len > file->len ||
	    map_block >= file->block_count || at > file->len || numbers > file->len - at)
		return pdb_bad(file, "its directory lies behind the end of the file");
	int err = gather(file, file->bytes + at, file->directory_len, &file->directory);
	if (err < 0)
		return err;
	file->stream_count = load_le32(file->directory);
	if (file->stream_count > STREAMS_MAX ||
	    file->stream_count > (file->directory_len - 4) / 4)
		return pdb_bad(file, "its directory has an impossible number of streams");
	return 0;
}

int pdb_file_open(const void *bytes, size_t len, struct pdb_file *ret, struct hvmi_error *err)
{
	struct pdb_file file = { .bytes = bytes, .len = len, .err = err };
	const uint8_t *b = bytes;

	if (len < SUPERBLOCK_BYTES || memcmp(b, PDB_MAGIC, PDB_MAGIC_BYTES) != 0)
		return pdb_bad(&file, "it does not begin as one");
	if (len > PDB_BYTES_MAX)
		return pdb_bad(&file, "it is too long to be true");
	file.block_bytes = load_le32(b + 32);
	file.block_count = load_le32(b + 40);
	file.directory_len = load_le32(b + 44);
	if (file.block_bytes < 512 || file.block_bytes > 65536 ||
	    (file.block_bytes & (file.block_bytes - 1)))
		return pdb_bad(&file, "its blocks have an impossible size");
	int status = read_directory(&file, load_le32(b + 52));
	if (status < 0) {
		pdb_file_close(&file);
		return status;
	}
	*ret = file;
	return 0;
}

void pdb_file_close(struct pdb_file *file)
{
	free(file->directory);
	file->directory = NULL;
}

int pdb_stream_read(const struct pdb_file *file, uint32_t number, struct pdb_stream *ret)
{
	uint64_t at = 4 + (uint64_t)file->stream_count * 4;
	uint32_t len = 0;

	if (number >= file->stream_count)
		return 0;
	for (uint32_t i = 0; i <= number; i++) {
		if (i > 0 && len != STREAM_DELETED)
			at += (uint64_t)blocks_of(file, len) * 4;
		len = load_le32(file->directory + 4 + (size_t)i * 4);
	}
	if (len == STREAM_DELETED || len == 0)
		return 0;
	/* No stream is longer than the file, unless its blocks are used more than once. */
	if (len > file->len || at > file->directory_len ||
	    (uint64_t)blocks_of(file, len) * 4 > file->directory_len - at)
		return pdb_bad(file, "a stream is longer than its directory");
	const uint8_t *numbers = file->directory + at;
	ret->bytes = in_place(file, numbers, len);
	if (!ret->bytes) {
		int err = gather(file, numbers, len, &ret->copy);
		if (err < 0)
			return err;
		ret->bytes = ret->copy;
	}
	ret->len = len;
	return 0;
}

int pdb_stream_own(const struct pdb_file *file, struct pdb_stream *stream)
{
	if (stream->copy)
		return 0;
	stream->copy = malloc_filled(MAX(stream->len, 1u));
	if (!stream->copy)
		return pdb_no_memory(file);
	memcpy(stream->copy, stream->bytes, stream->len);
	stream->bytes = stream->copy;
	return 0;
}

int pdb_debug_read(const struct pdb_file *file, struct pdb_debug *ret)
{
	static const size_t sizes_at[] = { 24, 28, 32, 36, 40, 52 };	/* of what precedes */
	PDB_STREAM stream = { 0 };

	int err = pdb_stream_read(file, PDB_STREAM_DEBUG, &stream);
	if (err < 0)
		return err;
	if (stream.len == 0)
		return -ENOENT;
	if (stream.len < DEBUG_HEADER_BYTES || load_le32(stream.bytes) != UINT32_MAX)
		return pdb_bad(file, "its debug information has an unknown header");
	struct pdb_debug debug = {
		.age = load_le32(stream.bytes + 8),
		.machine = load_le16(stream.bytes + 58),
		.symbol_records = load_le16(stream.bytes + 20),
		.sections = PDB_STREAM_NONE,
		.sections_original = PDB_STREAM_NONE,
		.omap = PDB_STREAM_NONE,
	};
	uint64_t at = DEBUG_HEADER_BYTES;
	for (size_t i = 0; i < ARRAY_SIZE(sizes_at); i++)
		at += load_le32(stream.bytes + sizes_at[i]);
	uint32_t count = load_le32(stream.bytes + 48) / 2;
	if (at > stream.len || count > (stream.len - at) / 2)
		return pdb_bad(file, "its debug information is cut short");
	const uint8_t *streams = stream.bytes + at;
	if (count > 4)
		debug.omap = load_le16(streams + 8);
	if (count > 5)
		debug.sections = load_le16(streams + 10);
	if (count > 10)
		debug.sections_original = load_le16(streams + 20);
	*ret = debug;
	return 0;
}

static int identify(const struct pdb_file *file, struct pdb_id *ret)
{
	PDB_STREAM info = { 0 };
	struct pdb_debug debug;

	int err = pdb_stream_read(file, PDB_STREAM_INFO, &info);
	if (err < 0)
		return err;
	if (info.len < INFO_BYTES)
		return pdb_bad(file, "it does not say which image it is of");
	struct pdb_id id = { .age = load_le32(info.bytes + 8) };
	memcpy(id.guid, info.bytes + 12, sizeof(id.guid));
	err = pdb_debug_read(file, &debug);
	if (err < 0 && err != -ENOENT)
		return err;
	if (err == 0) {
		/* The other age counts how often the file was written since. */
		id.age = debug.age;
		id.machine = debug.machine;
	}
	*ret = id;
	return 0;
}

int pdb_identify(const void *bytes, size_t len, struct pdb_id *ret, struct hvmi_error *err)
{
	struct pdb_file file;

	int status = pdb_file_open(bytes, len, &file, err);
	if (status < 0)
		return status;
	status = identify(&file, ret);
	pdb_file_close(&file);
	return status;
}

int pdb_load(const void *bytes, size_t len, uint64_t base, struct types *types,
	     struct symbols *symbols, struct hvmi_error *err)
{
	struct pdb_file file;
	struct pdb_debug debug = { 0 };
	struct types loaded = { 0 };

	int status = pdb_file_open(bytes, len, &file, err);
	if (status < 0)
		return status;
	status = pdb_debug_read(&file, &debug);
	bool has_debug = status == 0;
	if (status == 0 || status == -ENOENT)
		status = pdb_load_types(&file, debug.machine == MACHINE_X86 ? 4 : 8, &loaded);
	if (status == 0 && has_debug)
		status = pdb_load_symbols(&file, &debug, base, symbols);
	pdb_file_close(&file);
	if (status < 0) {
		types_deinit(&loaded);
		return status;
	}
	if (loaded.type_count)
		*types = loaded;
	return 0;
}
