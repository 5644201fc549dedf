/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"

struct script {
	struct sim *sim;
	const char *path;
	unsigned line;
	char *rest;		/* of the line */
	struct hvmi_error *err;
};

__attribute__((format(printf, 3, 4)))
static int script_error(struct script *s, int code, const char *format, ...)
{
	char reason[256];
	va_list args;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	return hvmi_error_set(s->err, code, HVMI_NO_ADDRESS, "%s:%u: %s", s->path, s->line, reason);
}

static char *skip_blanks(char *text)
{
	return text + strspn(text, " \t\r");
}

/* The next word of the line, or NULL. */
static char *next_word(struct script *s)
{
	char *word = skip_blanks(s->rest);
	size_t len = strcspn(word, " \t\r");
	s->rest = word + len;
	if (!len)
		return NULL;
	if (*s->rest)
		*s->rest++ = 0;
	return word;
}

/* As next_word(); NULL is an error, which has been told. */
static char *need_word(struct script *s, const char *what)
{
	char *word = next_word(s);
	if (!word)
		script_error(s, -EINVAL, "%s is missing", what);
	return word;
}

static int parse_number(struct script *s, const char *what, const char *word, uint64_t *ret)
{
	int r = hvmi_parse_u64(word, ret);
	if (r == -EOVERFLOW)
		return script_error(s, -EINVAL, "%s %s is above 2^64 - 1", what, word);
	if (r)
		return script_error(s, -EINVAL, "%s '%s' is no number", what, word);
	return 0;
}

static int need_number(struct script *s, const char *what, uint64_t *ret)
{
	char *word = need_word(s, what);
	return word ? parse_number(s, what, word, ret) : -EINVAL;
}

static int line_end(struct script *s)
{
	char *word = next_word(s);
	return word ? script_error(s, -EINVAL, "'%s' is too much", word) : 0;
}

/* Make the array that a pointer at `array` points to `more` elements of zeros longer. */
static void *array_grow(void *array, size_t *count, size_t more, size_t element)
{
	void *grown;
	memcpy(&grown, array, sizeof(grown));
	grown = realloc(grown, (*count + more) * element);
	if (!grown)
		return NULL;
	memcpy(array, &grown, sizeof(grown));
	void *added = (char *)grown + *count * element;
	*count += more;
	return memset(added, 0, more * element);
}

static int out_of_memory(struct script *s)
{
	return script_error(s, -ENOMEM, "out of memory");
}

/*
 * The bytes at [gpa, gpa + len), which must lie in a range that came before and are going to be
 * written; NULL is an error, which has been told.
 */
static uint8_t *contents(struct script *s, uint64_t gpa, uint64_t len)
{
	uint64_t left;
	uint8_t *bytes = sim_ram(s->sim, gpa, &left);
	if (!bytes) {
		script_error(s, -EINVAL, "0x%llx is not in the RAM of any line before",
			     (unsigned long long)gpa);
		return NULL;
	}
	if (len > left) {
		script_error(s, -EINVAL, "0x%llx bytes at 0x%llx reach past their RAM range",
			     (unsigned long long)len, (unsigned long long)gpa);
		return NULL;
	}
	sim_written(s->sim, gpa, len);
	return bytes;
}

static int need_range(struct script *s, struct hvmi_range *ret)
{
	int r = need_number(s, "the address", &ret->gpa);
	if (r == 0)
		r = need_number(s, "the length", &ret->len);
	if (r)
		return r;
	if (!ret->len)
		return script_error(s, -EINVAL, "the length is 0");
	if (ret->gpa + ret->len < ret->gpa)
		return script_error(s, -EINVAL, "the range wraps around 2^64");
	return line_end(s);
}

static int do_arch(struct script *s)
{
	char *name = need_word(s, "the architecture");
	if (!name)
		return -EINVAL;
	if (strcmp(name, "x86") == 0)
		s->sim->arch = HVMI_ARCH_X86;
	else if (strcmp(name, "arm64") == 0)
		s->sim->arch = HVMI_ARCH_ARM64;
	else
		return script_error(s, -EINVAL, "architecture '%s' is unknown", name);
	return line_end(s);
}

static int do_probe(struct script *s)
{
	uint64_t gpa, left;
	int r = need_number(s, "the address", &gpa);
	char *paged = r ? NULL : next_word(s);
	if (paged && strcmp(paged, "paged") != 0)
		return script_error(s, -EINVAL, "'%s' is no kind of probe", paged);
	if (r == 0)
		r = line_end(s);
	if (r)
		return r;
	if (s->sim->probe)
		return script_error(s, -EINVAL, "there is a probe already");
	if (gpa % SIM_PAGE || !sim_ram(s->sim, gpa, &left) || left < SIM_PAGE)
		return script_error(s, -EINVAL, "a mailbox is a page of RAM");
	s->sim->probe = calloc(1, sizeof(*s->sim->probe));
	if (!s->sim->probe)
		return script_error(s, -ENOMEM, "out of memory");
	s->sim->probe->mailbox = gpa;
	s->sim->probe->paged = paged;
	return 0;
}

static int do_ram(struct script *s)
{
	struct hvmi_range range;
	int r = need_range(s, &range);
	if (r)
		return r;
	r = sim_range_add(s->sim, range.gpa, range.len);
	if (r == -EOVERFLOW)
		return script_error(s, r, "more than %u ranges", SIM_RANGES_MAX);
	if (r)
		return script_error(s, r, "no address space for 0x%llx bytes",
				    (unsigned long long)range.len);
	return 0;
}

static int do_absent(struct script *s)
{
	struct hvmi_range range, *slot;
	int r = need_range(s, &range);
	if (r)
		return r;
	if ((range.gpa | range.len) % SIM_PAGE)
		return script_error(s, -EINVAL, "only whole pages can be absent");
	slot = array_grow(&s->sim->absent, &s->sim->absent_count, 1, sizeof(*slot));
	if (!slot)
		return out_of_memory(s);
	*slot = range;
	return 0;
}

/* The rest of the line is a path; a relative one is taken from the script's folder. */
static int need_file(struct script *s, FILE **ret)
{
	char *path = skip_blanks(s->rest);
	const char *slash = strrchr(s->path, '/');
	char full[PATH_MAX];
	int len;
	for (size_t end = strlen(path); end && strchr(" \t\r", path[end - 1]); end--)
		path[end - 1] = 0;
	s->rest = path + strlen(path);
	if (!*path)
		return script_error(s, -EINVAL, "the path is missing");
	if (*path == '/' || !slash)
		len = snprintf(full, sizeof(full), "%s", path);
	else
		len = snprintf(full, sizeof(full), "%.*s/%s", (int)(slash - s->path), s->path,
			       path);
	if (len < 0 || (size_t)len >= sizeof(full))
		return script_error(s, -EINVAL, "the path is too long");
	*ret = fopen(full, "rbe");
	if (!*ret)
		return script_error(s, errno == EACCES ? -EACCES : -ENOENT, "%s: %s", full,
				    strerror(errno));
	return 0;
}

static int load_pages(struct script *s, uint64_t gpa, FILE *file)
{
	static const uint8_t zeros[SIM_PAGE];
	uint8_t page[SIM_PAGE], *to;
	size_t n;
	while ((n = fread(page, 1, sizeof(page), file)) > 0) {
		uint64_t left;
		/* Zeros are not written over zeros: an image of a large RAM is mostly holes. */
		to = sim_ram(s->sim, gpa, &left);
		if (!to || n > left || memcmp(page, zeros, n) != 0 || memcmp(to, zeros, n) != 0) {
			to = contents(s, gpa, n);
			if (!to)
				return -EINVAL;
			memcpy(to, page, n);
		}
		gpa += n;
	}
	return ferror(file) ? script_error(s, -EIO, "the file cannot be read") : 0;
}

static int do_load(struct script *s)
{
	uint64_t gpa;
	FILE *file;
	int r = need_number(s, "the address", &gpa);
	if (r == 0)
		r = need_file(s, &file);
	if (r)
		return r;
	r = load_pages(s, gpa, file);
	fclose(file);
	return r;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int do_bytes(struct script *s)
{
	uint64_t gpa;
	int r = need_number(s, "the address", &gpa);
	if (r)
		return r;
	char *word = need_word(s, "a byte");
	if (!word)
		return -EINVAL;
	for (; word; word = next_word(s)) {
		size_t digits = strlen(word);
		for (size_t i = 0; i < digits; i++)
			if (hex_digit(word[i]) < 0)
				return script_error(s, -EINVAL, "'%s' is not hexadecimal", word);
		if (digits % 2)
			return script_error(s, -EINVAL, "'%s' ends in half a byte", word);
		uint8_t *to = contents(s, gpa, digits / 2);
		if (!to)
			return -EINVAL;
		for (size_t i = 0; i < digits; i += 2)
			to[i / 2] = (uint8_t)(hex_digit(word[i]) << 4 | hex_digit(word[i + 1]));
		gpa += digits / 2;
	}
	return 0;
}

static int put_numbers(struct script *s, size_t size)
{
	uint64_t gpa, value;
	int r = need_number(s, "the address", &gpa);
	if (r)
		return r;
	char *word = need_word(s, "a value");
	if (!word)
		return -EINVAL;
	for (; word; word = next_word(s), gpa += size) {
		r = parse_number(s, "value", word, &value);
		if (r)
			return r;
		if (size < 8 && value >> 8 * size)
			return script_error(s, -EINVAL, "%s does not fit in %zu bytes", word, size);
		uint8_t *to = contents(s, gpa, size);
		if (!to)
			return -EINVAL;
		for (size_t i = 0; i < size; i++)
			to[i] = (uint8_t)(value >> 8 * i);
	}
	return 0;
}

static int do_u32(struct script *s)
{
	return put_numbers(s, 4);
}

static int do_u64(struct script *s)
{
	return put_numbers(s, 8);
}

static int do_vcpu(struct script *s)
{
	uint64_t index, value;
	char *name;
	uint32_t id;
	int r = need_number(s, "the vCPU", &index);
	if (r)
		return r;
	if (index >= SIM_VCPUS_MAX)
		return script_error(s, -EINVAL, "vCPU %llu: at most %u",
				    (unsigned long long)index, SIM_VCPUS_MAX);
	if (s->sim->vcpu_count <= index &&
	    !array_grow(&s->sim->vcpus, &s->sim->vcpu_count, index + 1 - s->sim->vcpu_count,
			sizeof(*s->sim->vcpus)))
		return out_of_memory(s);
	name = next_word(s);
	if (!name)
		return 0;
	id = hvmi_register_id(name);
	if (!id || id >= HVMI_REGISTER_END)
		return script_error(s, -EINVAL, "register '%s' is unknown", name);
	r = need_number(s, "the value", &value);
	if (r)
		return r;
	s->sim->vcpus[index].values[id] = value;
	s->sim->vcpus[index].known[id] = true;
	return line_end(s);
}

/* All of a file, or -EOVERFLOW above SIM_FILE_MAX. */
static int read_all(FILE *file, uint8_t **ret, size_t *len_ret)
{
	size_t len = 0, size = 0;
	uint8_t *bytes = NULL;
	do {
		uint8_t *grown;
		size = size ? 2 * size : 16 * SIM_PAGE;
		grown = size > 2 * SIM_FILE_MAX ? NULL : realloc(bytes, size + 1);
		if (!grown) {
			free(bytes);
			return size > 2 * SIM_FILE_MAX ? -EOVERFLOW : -ENOMEM;
		}
		bytes = grown;
		len += fread(bytes + len, 1, size - len, file);
	} while (len == size);
	if (ferror(file) || len > SIM_FILE_MAX) {
		free(bytes);
		return ferror(file) ? -EIO : -EOVERFLOW;
	}
	bytes[len] = 0;
	*ret = bytes;
	*len_ret = len;
	return 0;
}

static int do_note(struct script *s)
{
	char *name = need_word(s, "the name");
	FILE *file;
	int r = name ? need_file(s, &file) : -EINVAL;
	if (r)
		return r;
	struct sim_note *note = array_grow(&s->sim->notes, &s->sim->note_count, 1, sizeof(*note));
	if (note && (note->name = strdup(name)))
		r = read_all(file, &note->bytes, &note->len);
	else
		r = -ENOMEM;
	fclose(file);
	if (r)
		script_error(s, r, "the note cannot be read: %s", hvmi_error_name(r));
	return r;
}

static int do_static(struct script *s)
{
	s->sim->is_static = true;
	return line_end(s);
}

static int do_nomap(struct script *s)
{
	s->sim->nomap = true;
	return line_end(s);
}

static int do_chunks(struct script *s)
{
	if (s->sim->range_count)
		return script_error(s, -EINVAL, "chunks must come before the first ram");
	s->sim->chunks = true;
	return line_end(s);
}

/* A capability by its name; 0 if there is none. */
static uint32_t capability_by_name(const char *name)
{
	for (uint32_t i = 1; i < HVMI_CAN_EVENT + HVMI_EVENT_KIND_END; i++) {
		const char *known = hvmi_capability_name(i);
		if (known && strcmp(name, known) == 0)
			return i;
	}
	return 0;
}

static int do_lacks(struct script *s)
{
	char *word = need_word(s, "the capability");
	if (!word)
		return -EINVAL;
	for (; word; word = next_word(s)) {
		uint32_t number = capability_by_name(word);
		if (!number)
			return script_error(s, -EINVAL, "capability '%s' is unknown", word);
		s->sim->lacks[number / 64] |= 1ull << number % 64;
	}
	return 0;
}

static int method_by_name(const char *name)
{
	static const char *const names[] = {
#define X(name) #name,
		SIM_METHODS(X)
#undef X
	};

	for (int i = 0; i < SIM_METHOD_COUNT; i++) {
		if (strcmp(name, names[i]) == 0)
			return i;
	}
	return -1;
}

/* A code of the closed set by its name; 0 if there is none. */
static int error_by_name(const char *name)
{
	if (strcmp(name, hvmi_error_name(INT_MIN)) == 0)
		return 0;
	for (int code = -1; code > -4096; code--)
		if (strcmp(name, hvmi_error_name(code)) == 0)
			return code;
	return 0;
}

static int do_fail(struct script *s)
{
	struct sim_failure failure = { .count = 1 };
	char *method = need_word(s, "the method");
	int r = method ? need_number(s, "the number of the call", &failure.first) : -EINVAL;
	char *error = r ? NULL : need_word(s, "the error");
	if (!error)
		return -EINVAL;
	int index = method_by_name(method);
	if (index < 0)
		return script_error(s, -EINVAL, "method '%s' is unknown", method);
	failure.method = (enum sim_method)index;
	failure.error = error_by_name(error);
	if (!failure.error)
		return script_error(s, -EINVAL, "error '%s' is unknown", error);
	if (!failure.first)
		return script_error(s, -EINVAL, "calls are counted from 1");
	char *count = next_word(s);
	r = count ? parse_number(s, "count", count, &failure.count) : 0;
	if (r == 0)
		r = line_end(s);
	if (r)
		return r;
	struct sim_failure *slot =
		array_grow(&s->sim->failures, &s->sim->failure_count, 1, sizeof(*slot));
	if (!slot)
		return out_of_memory(s);
	*slot = failure;
	return 0;
}

static int run_line(struct script *s)
{
	static const struct {
		const char *name;
		int (*run)(struct script *s);
	} directives[] = {
		{ "absent", do_absent }, { "arch", do_arch }, { "bytes", do_bytes },
		{ "chunks", do_chunks }, { "fail", do_fail }, { "lacks", do_lacks },
		{ "load", do_load }, { "nomap", do_nomap }, { "note", do_note }, { "probe", do_probe }, { "ram", do_ram },
		{ "static", do_static }, { "u32", do_u32 }, { "u64", do_u64 },
		{ "vcpu", do_vcpu },
	};
	char *word = next_word(s);

	if (!word || *word == '#')
		return 0;
	for (size_t i = 0; i < sizeof(directives) / sizeof(*directives); i++) {
		if (strcmp(word, directives[i].name) == 0)
			return directives[i].run(s);
	}
	return script_error(s, -EINVAL, "'%s' is unknown", word);
}

int sim_script_run(struct sim *sim, const char *path, struct hvmi_error *err)
{
	struct script s = { .sim = sim, .path = path, .err = err };
	FILE *file = fopen(path, "rbe");
	uint8_t *text;
	size_t len;
	int r;
	if (!file)
		return hvmi_error_set(err, errno == EACCES ? -EACCES : -ENOENT, HVMI_NO_ADDRESS,
				      "%s: %s", path, strerror(errno));
	r = read_all(file, &text, &len);
	fclose(file);
	if (r)
		return hvmi_error_set(err, r, HVMI_NO_ADDRESS, "%s: cannot be read: %s", path,
				      hvmi_error_name(r));
	for (char *line = (char *)text, *next; r == 0 && line < (char *)text + len; line = next) {
		char *end = memchr(line, '\n', len - (size_t)(line - (char *)text));
		if (!end)
			end = (char *)text + len;
		next = end + 1;
		s.line++;
		*end = 0;
		s.rest = line;
		if (strlen(line) != (size_t)(end - line))
			r = script_error(&s, -EINVAL, "a NUL byte");
		else
			r = run_line(&s);
	}
	free(text);
	return r;
}
