/* SPDX-License-Identifier: Apache-2.0 */
/*
 * windows-bench attach IMAGE | list IMAGE | load FILE: what a Windows guest costs, next to what its
 * bytes alone cost. Prints figures; judges nothing. windows.py makes the inputs.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <hvmi/hvmi.h>

#include "os/windows/files.h"

#define RUNS 9
#define PATH_BYTES 4096
#define CHUNK (1 << 20)

struct image {
	const char *path;
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	struct hvmi_space *space;
	uint64_t head, links, name, file, text_at;
	char text[PATH_BYTES];
};

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static _Noreturn void fail(const char *what, const struct hvmi_error *err)
{
	fprintf(stderr, "windows-bench: %s: %s\n", what, err ? err->text : "cannot");
	exit(1);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static long private_kib;	/* what a run held when it was done */
static long peak_kib;		/* what the process had at most before a baseline ran */

static void note_private(void)
{
	char line[128];
	FILE *file = fopen("/proc/self/status", "re");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, "RssAnon:", 8) == 0)
			private_kib = strtol(line + 8, NULL, 10);
		else if (strncmp(line, "VmHWM:", 6) == 0)
			peak_kib = strtol(line + 6, NULL, 10);
	if (file)
		fclose(file);
}

/* By turns, so that what else the machine does meets both. */
static void compare(const char *name, void (*run)(struct image *), void (*baseline)(struct image *),
		    struct image *image, const char *what)
{
	double ms[RUNS], base[RUNS];
	run(image);
	note_private();
	long peak = peak_kib;
	for (int i = 0; i < RUNS; i++) {
		double start = now_ms();
		run(image);
		double middle = now_ms();
		baseline(image);
		ms[i] = middle - start;
		base[i] = now_ms() - middle;
	}
	qsort(ms, RUNS, sizeof(*ms), ascending);
	qsort(base, RUNS, sizeof(*base), ascending);
	printf("%-6s %8.2f ms (best %.2f)  baseline %8.2f ms  private %ld KiB, resident at most %ld KiB  "
	       "(%s)\n", name, ms[RUNS / 2], ms[0], base[RUNS / 2], private_kib, peak, what);
}

/* Recognition, from opening on; its baseline reads what the file holds. */

static void run_attach(struct image *image)
{
	struct hvmi_error err;
	struct hvmi_vm *vm;
	struct hvmi_os *os;
	if (hvmi_open(image->path, NULL, &vm, &err) || hvmi_os_attach(vm, NULL, &os, &err))
		fail(image->path, &err);
	note_private();
	hvmi_os_detach(os);
	hvmi_close(vm);
}

static void read_data(struct image *image)
{
	static char chunk[CHUNK];
	volatile char sum = 0;
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail(image->path, NULL);
	for (off_t at = 0, end; (at = lseek(fd, at, SEEK_DATA)) >= 0; at = end) {
		end = lseek(fd, at, SEEK_HOLE);
		for (off_t o = at; o < end; o += CHUNK) {
			ssize_t n = pread(fd, chunk, (size_t)MIN(end - o, CHUNK), o);
			for (ssize_t i = 0; i < n; i += 64)
				sum = (char)(sum + chunk[i]);
		}
	}
	close(fd);
}

/* Processes with paths; the baseline follows three pointers of each with reads that check nothing. */

static void run_list(struct image *image)
{
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	struct hvmi_error err;
	if (hvmi_task_iter_create(image->os, 0, &iter, &err))
		fail("processes", &err);
	while (hvmi_task_next(iter, &task, &err) == 1)
		hvmi_task_path(image->os, &task, image->text, sizeof(image->text), NULL);
	note_private();
	hvmi_task_iter_destroy(iter);
}

static uint64_t word(struct image *image, uint64_t gva)
{
	uint64_t value = 0;
	hvmi_space_read(image->space, gva, &value, sizeof(value), NULL);
	return value;
}

static void chase(struct image *image)
{
	for (uint64_t at = word(image, image->head); at && at != image->head;
	     at = word(image, at)) {
		uint64_t process = at - image->links, file = word(image, process + image->file);
		hvmi_space_read(image->space, process + image->name, image->text, 15, NULL);
		if (file)
			hvmi_space_read(image->space, word(image, file + image->text_at + 8),
					image->text,
					word(image, file + image->text_at) & (PATH_BYTES - 1), NULL);
	}
}

static uint64_t offset_of(struct image *image, const char *type, const char *path)
{
	struct hvmi_member member = { .size = sizeof(member) };
	struct hvmi_error err;
	if (hvmi_profile_member(hvmi_os_profile(image->os), type, path, &member, &err))
		fail(path, &err);
	return member.hops[0];
}

static void bench_list(struct image *image)
{
	struct hvmi_error err;
	struct hvmi_task_iter *iter;
	struct hvmi_task task = { .size = sizeof(task) };
	char what[96];
	uint32_t count = 0, paths = 0;
	if (hvmi_open(image->path, NULL, &image->vm, &err) ||
	    hvmi_os_attach(image->vm, NULL, &image->os, &err) ||
	    hvmi_os_kernel_space(image->os, &image->space, &err) ||
	    hvmi_task_iter_create(image->os, 0, &iter, &err))
		fail(image->path, &err);
	image->links = offset_of(image, "_EPROCESS", "ActiveProcessLinks");
	image->name = offset_of(image, "_EPROCESS", "ImageFileName");
	image->file = offset_of(image, "_EPROCESS", "ImageFilePointer");
	image->text_at = offset_of(image, "_FILE_OBJECT", "FileName");
	for (; hvmi_task_next(iter, &task, NULL) == 1; count++) {
		/* The head is before the first. */
		if (!count)
			image->head = word(image, task.object + image->links + 8);
		paths += hvmi_task_path(image->os, &task, image->text, PATH_BYTES, NULL) == 0;
	}
	hvmi_task_iter_destroy(iter);
	snprintf(what, sizeof(what), "%u processes, %u with paths; a chase of names and paths", count,
		 paths);
	compare("list", run_list, chase, image, what);
}

/* A file of symbols; the baseline reads it. */

static void run_load(struct image *image)
{
	struct windows_kernel_id id = { .machine = WINDOWS_MACHINE_X64 };
	struct files_knowledge file;
	struct hvmi_error err;
	if (files_load(image->path, &id, true, &file, &err) || symbols_freeze(&file.symbols))
		fail(image->path, &err);
	snprintf(image->text, sizeof(image->text), "%u types, %u symbols; the file read",
		 file.types.type_count, file.symbols.count);
	note_private();
	files_free(&file);
}

int main(int argc, char **argv)
{
	static struct image image;
	if (argc != 3)
		return fprintf(stderr, "usage: windows-bench attach|list|load FILE\n"), 2;
	image.path = argv[2];
	if (strcmp(argv[1], "attach") == 0)
		compare("attach", run_attach, read_data, &image, "all data of the file read");
	else if (strcmp(argv[1], "list") == 0)
		bench_list(&image);
	else
		compare("load", run_load, read_data, &image, image.text);
	return 0;
}
