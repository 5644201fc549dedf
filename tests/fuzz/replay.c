/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over the files of the folders given, where libFuzzer is not linked. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return -1;
	size_t size = 0, capacity = 1 << 20;
	uint8_t *data = malloc(capacity);
	for (size_t n; data && (n = fread(data + size, 1, capacity - size, f)) > 0;) {
		size += n;
		if (size == capacity)
			data = realloc(data, capacity *= 2);
	}
	fclose(f);
	if (!data)
		return -1;
	/* An exact copy, so that AddressSanitizer sees a read past the end. */
	uint8_t *exact = malloc(size ? size : 1);
	if (exact) {
		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
	}
	free(exact);
	free(data);
	return exact ? 0 : -1;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0;
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		if (!dir) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *entry; (entry = readdir(dir));) {
			char path[4096];
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], entry->d_name);
			if (replay_file(path) == 0) {
				passed++;
			} else {
				perror(path);
				failed++;
			}
		}
		closedir(dir);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed || passed == 0;
}
