/* SPDX-License-Identifier: Apache-2.0 */
/* Between the parts of the PDB reader. */
#ifndef HVMI_LIB_PDB_FILE_H
#define HVMI_LIB_PDB_FILE_H

#include "profile/pdb.h"

/* Streams with fixed numbers. */
enum { PDB_STREAM_INFO = 1, PDB_STREAM_TYPES = 2, PDB_STREAM_DEBUG = 3 };
#define PDB_STREAM_NONE 0xffffu

struct pdb_file {
	const uint8_t *bytes;
	size_t len;
	uint32_t block_bytes, block_count;
	uint8_t *directory;
	uint32_t directory_len, stream_count;
	struct hvmi_error *err;
};

/* A stream in one piece; a zeroed one is empty. */
struct pdb_stream {
	const uint8_t *bytes;	/* in the file, or in the copy */
	uint8_t *copy;		/* NULL: none was needed */
	uint32_t len;
};

/* Set what is wrong with the file: -EBADMSG. */
int pdb_bad(const struct pdb_file *file, const char *what);
int pdb_no_memory(const struct pdb_file *file);

int pdb_file_open(const void *bytes, size_t len, struct pdb_file *ret, struct hvmi_error *err);
void pdb_file_close(struct pdb_file *file);
/* A stream, while the file is there. One that does not exist, or was deleted, is empty. */
int pdb_stream_read(const struct pdb_file *file, uint32_t number, struct pdb_stream *ret);

/* Have a copy of it, which may be kept. -ENOMEM. */
int pdb_stream_own(const struct pdb_file *file, struct pdb_stream *stream);

static inline void pdb_stream_free(struct pdb_stream *stream)
{
	free(stream->copy);
}
#define PDB_STREAM __attribute__((cleanup(pdb_stream_free))) struct pdb_stream

/* The head of the debug information stream. */
struct pdb_debug {
	uint32_t age;
	uint16_t machine, symbol_records;
	uint16_t sections, sections_original, omap;	/* streams, or PDB_STREAM_NONE */
};
/* -ENOENT: there is none. */
int pdb_debug_read(const struct pdb_file *file, struct pdb_debug *ret);

int pdb_load_types(const struct pdb_file *file, uint32_t pointer_bytes, struct types *ret);
int pdb_load_symbols(const struct pdb_file *file, const struct pdb_debug *debug, uint64_t base,
		     struct symbols *ret);

#endif
