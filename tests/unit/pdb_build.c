/* SPDX-License-Identifier: Apache-2.0 */
#include "pdb_build.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 512u

static void store(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t blocks_of(uint32_t len)
{
	return (len + BLOCK - 1) / BLOCK;
}

/* Blocks: the superblock, two free maps, the streams, the directory, its map. */
uint8_t *pdb_build(const struct pdb_build_stream streams[], uint32_t count, size_t *len_ret)
{
	static const char magic[32] = "Microsoft C/C++ MSF 7.00\r\n\032DS\0\0";
	uint32_t blocks = 3, directory_len = 4 + count * 4;

	for (uint32_t i = 0; i < count; i++) {
		blocks += blocks_of(streams[i].len);
		directory_len += blocks_of(streams[i].len) * 4;
	}
	uint32_t directory_block = blocks, map_block = blocks + blocks_of(directory_len);
	uint8_t *file = calloc(map_block + 1, BLOCK);
	if (!file)
		return NULL;
	memcpy(file, magic, sizeof(magic));
	store(file + 32, BLOCK);
	store(file + 36, 1);
	store(file + 40, map_block + 1);
	store(file + 44, directory_len);
	store(file + 52, map_block);
	uint8_t *directory = file + (size_t)directory_block * BLOCK, *at = directory + 4 + count * 4;
	store(directory, count);
	uint32_t next = 3;
	for (uint32_t i = 0; i < count; i++) {
		store(directory + 4 + i * 4, streams[i].len);
		if (streams[i].len)
			memcpy(file + (size_t)next * BLOCK, streams[i].bytes, streams[i].len);
		for (uint32_t n = blocks_of(streams[i].len); n > 0; n--, at += 4)
			store(at, next++);
	}
	for (uint32_t i = 0; i < blocks_of(directory_len); i++)
		store(file + (size_t)map_block * BLOCK + i * 4, directory_block + i);
	*len_ret = (size_t)(map_block + 1) * BLOCK;
	return file;
}
