/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend itself: opens the file, has it recognised and read, and serves memory. What is not
 * compressed is mapped whole, and given out by pointer.
 */
#include "dump.h"
#include "image.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct dump {
	int fd;
	struct dump_flat *flat;	/* of a flattened file, or NULL */
	uint64_t size;
	const uint8_t *mapping;	/* NULL: a decoder's, or it cannot be mapped */
	struct dump_image image;
	const struct dump_decoder *decoder;	/* NULL: bytes of the file */
	void *decoder_state;
};

/* hole= options; a file needs few. */
#define HOLES_MAX 1024u

struct options {
	enum dump_kind kind;	/* DUMP_UNKNOWN: recognise it */
	bool raw_only;		/* base= or hole= was given */
	const char *memory;	/* memory=, or NULL */
	uint64_t base;
	struct dump_hole *holes;
	size_t hole_count;
};

static int input_file(void *context, uint64_t offset, void *buf, size_t len)
{
	const struct dump *dump = context;
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(dump->fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return -EIO;
	}
	return 0;
}

static int parse_hole(const struct dump_parse *parse, const char *text, struct dump_hole *ret)
{
	char start[32];
	const char *plus = strchr(text, '+');
	size_t len = plus ? (size_t)(plus - text) : 0;
	if (!plus || len >= sizeof(start))
		return parse_error(parse, -EINVAL, "hole=%s is not of the form START+LENGTH", text);
	memcpy(start, text, len);
	start[len] = '\0';
	if (hvmi_parse_u64(start, &ret->start) || hvmi_parse_u64(plus + 1, &ret->len))
		return parse_error(parse, -EINVAL, "hole=%s: START and LENGTH are numbers such as "
				   "0x80000000 or 2G", text);
	return 0;
}

static int parse_options(const struct hvmi_target *target, const struct dump_parse *parse,
			 struct options *ret)
{
	const char *format = hvmi_target_option(target, "format");
	const char *base = hvmi_target_option(target, "base"), *text;
	if (format) {
		ret->kind = sniff_kind(format);
		if (ret->kind == DUMP_UNKNOWN)
			return parse_error(parse, -EINVAL, "format=%s is not known; there are raw, "
					   "elf, lime, avml, kdump, crash and vmware", format);
	}
	if (base && hvmi_parse_u64(base, &ret->base))
		return parse_error(parse, -EINVAL, "base=%s is not a number such as 0x40000000 or "
				   "1G", base);
	for (size_t cursor = 0; (text = hvmi_target_option_next(target, "hole", &cursor));) {
		struct dump_hole *holes = realloc(ret->holes,
						  (ret->hole_count + 1) * sizeof(*holes));
		if (!holes)
			return parse_error(parse, -ENOMEM, "out of memory");
		ret->holes = holes;
		if (ret->hole_count == HOLES_MAX)
			return parse_error(parse, -EOVERFLOW, "more than %u holes are not "
					   "supported", HOLES_MAX);
		int rc = parse_hole(parse, text, &ret->holes[ret->hole_count++]);
		if (rc)
			return rc;
	}
	ret->raw_only = base || ret->hole_count;
	ret->memory = hvmi_target_option(target, "memory");
	return 0;
}

static int open_file(const char *path, const struct dump_parse *parse, struct dump *dump)
{
	/* A FIFO would block, a terminal would become ours. */
	dump->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (dump->fd < 0) {
		int reason = errno;
		if (reason == ENOENT || reason == ENOTDIR)
			return parse_error(parse, -ENOENT, "there is no such file");
		if (reason == EACCES || reason == EPERM)
			return parse_error(parse, -EACCES, "no permission to read this file");
		if (reason == ENXIO)
			return parse_error(parse, -ENOTSUP, "this is no regular file: copy the "
					   "memory to one first");
		return parse_error(parse, reason == ENOMEM ? -ENOMEM : -EIO,
				   "the file cannot be opened: errno %d", reason);
	}
	struct stat st;
	if (fstat(dump->fd, &st))
		return parse_error(parse, -EIO, "the file cannot be examined");
	if (S_ISDIR(st.st_mode))
		return parse_error(parse, -EBADMSG, "this is a directory, not a memory image");
	if (!S_ISREG(st.st_mode))
		return parse_error(parse, -ENOTSUP, "this is a %s: copy the memory to a regular "
				   "file first", S_ISFIFO(st.st_mode) ? "pipe" :
				   S_ISSOCK(st.st_mode) ? "socket" : "device");
	dump->size = (uint64_t)st.st_size;
	return 0;
}

static int open_kdump(struct dump_parse *parse, struct dump *dump, bool flattened)
{
	if (flattened) {
		struct dump_input ordered;
		int rc = flat_open(parse, &dump->flat, &ordered);
		if (rc)
			return rc;
		parse->input = ordered;
	}
	return kdump_open(parse, &dump->image, &dump->decoder, &dump->decoder_state);
}

/* NAME.vmem beside NAME.vmss or NAME.vmsn; NULL: no such name. */
static char *name_beside(const char *path)
{
	const char *dot = strrchr(path, '.');
	size_t len = dot && !strchr(dot, '/') ? (size_t)(dot - path) : strlen(path);
	char *name = malloc(len + sizeof(".vmem"));
	if (name)
		sprintf(name, "%.*s.vmem", (int)len, path);
	return name;
}

/* The state says where memory was, which lies in the same file or another one. */
static int open_vmware(struct dump_parse *parse, const struct options *options, struct dump *dump)
{
	struct dump memory = { .fd = -1 };
	struct dump_parse other = *parse;
	struct hvmi_error ignored;
	bool beside;
	char *name = options->memory ? strdup(options->memory) : name_beside(parse->name);
	if (!name)
		return parse_error(parse, -ENOMEM, "out of memory");
	other.name = name;
	if (!options->memory)
		other.err = &ignored;
	int rc = open_file(name, &other, &memory);
	if (rc == -ENOENT && !options->memory)
		rc = 0;
	else if (rc && !options->memory)
		rc = parse_error(parse, rc, "%s", ignored.text);
	if (!rc)
		rc = vmware_parse(parse, memory.fd < 0 ? 0 : memory.size, &dump->image, &beside);
	if (!rc && beside) {
		close(dump->fd);
		dump->fd = memory.fd;
		dump->size = memory.size;
		memory.fd = -1;
	}
	if (memory.fd >= 0)
		close(memory.fd);
	free(name);
	return rc;
}

static int read_image(struct dump_parse *parse, struct options *options, struct dump *dump)
{
	enum dump_kind kind = options->kind, found;
	/* A guest may have written whatever it likes to where a raw image begins. */
	if (kind == DUMP_RAW && dump->size == 0)
		return parse_error(parse, -EBADMSG, "the file is empty");
	if (kind != DUMP_RAW) {
		int rc = sniff(parse, &found);
		if (rc)
			return rc;
		/* AVML writes LiME's format, too. */
		if (kind == DUMP_UNKNOWN || (kind == DUMP_KDUMP && found == DUMP_KDUMP_FLAT) ||
		    (kind == DUMP_AVML && found == DUMP_LIME) ||
		    (kind == DUMP_LIME && found == DUMP_AVML))
			kind = found;
	}
	if (options->raw_only && kind != DUMP_UNKNOWN && kind != DUMP_RAW)
		return parse_error(parse, -EINVAL, "base= and hole= are for raw images, but this "
				   "file says itself where its memory lies (add format=raw if it "
				   "is raw memory all the same)");
	if (options->memory && kind != DUMP_VMWARE)
		return parse_error(parse, -EINVAL, "memory= is for states of VMware");
	switch (kind) {
	case DUMP_VMWARE:
		return open_vmware(parse, options, dump);
	case DUMP_ELF:
		return elf_parse(parse, &dump->image);
	case DUMP_LIME:
		return lime_parse(parse, &dump->image);
	case DUMP_CRASH:
		return crash_parse(parse, &dump->image);
	case DUMP_AVML:
		return avml_open(parse, &dump->image, &dump->decoder, &dump->decoder_state);
	case DUMP_KDUMP:
	case DUMP_KDUMP_FLAT:
		return open_kdump(parse, dump, kind == DUMP_KDUMP_FLAT);
	case DUMP_UNKNOWN:
	case DUMP_RAW:
	default:
		return raw_parse(parse, options->base, options->holes, options->hole_count,
				 &dump->image);
	}
}

static void map_file(const struct dump_parse *parse, struct dump *dump)
{
	if (dump->decoder || dump->size > SIZE_MAX)
		return;
	void *mapping = mmap(NULL, dump->size, PROT_READ, MAP_SHARED | MAP_NORESERVE, dump->fd, 0);
	if (mapping == MAP_FAILED)
		parse_warn(parse, "the file cannot be mapped (errno %d): it is read instead, which "
			   "is slower", errno);
	else
		dump->mapping = mapping;
}

static void dump_close(void *machine)
{
	struct dump *dump = machine;
	if (dump->decoder)
		dump->decoder->close(dump->decoder_state);
	flat_close(dump->flat);
	image_deinit(&dump->image);
	if (dump->mapping)
		munmap((void *)dump->mapping, dump->size);
	if (dump->fd >= 0)
		close(dump->fd);
	free(dump);
}

static int dump_open(const struct hvmi_target *target, const struct hvmi_backend_host *host,
		     void **ret, struct hvmi_error *err)
{
	const char *path = hvmi_target_what(target);
	struct dump_parse parse = { .name = path, .host = host, .err = err };
	struct options options = { .kind = DUMP_UNKNOWN };
	if (!*path)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS,
				      "dump: needs the name of a file behind it");
	struct dump *dump = calloc(1, sizeof(*dump));
	if (!dump)
		return parse_error(&parse, -ENOMEM, "out of memory");
	dump->fd = -1;
	int rc = parse_options(target, &parse, &options);
	if (!rc)
		rc = open_file(path, &parse, dump);
	if (!rc) {
		parse.input = (struct dump_input){ .read = input_file, .context = dump,
						   .size = dump->size };
		rc = read_image(&parse, &options, dump);
	}
	free(options.holes);
	if (rc) {
		dump_close(dump);
		return rc;
	}
	map_file(&parse, dump);
	*ret = dump;
	return 0;
}

static int dump_describe(void *machine, struct hvmi_machine *ret)
{
	const struct dump *dump = machine;
	ret->arch = dump->image.arch;
	ret->flags = HVMI_VM_STATIC;
	ret->vcpus = dump->image.vcpu_count;
	ret->ranges = (uint32_t)dump->image.layout.count;
	snprintf(ret->format, sizeof(ret->format), "%s", dump->image.format);
	return 0;
}

static int dump_range(void *machine, uint32_t index, struct hvmi_range *ret)
{
	const struct dump *dump = machine;
	const struct dump_piece *piece = &dump->image.layout.pieces[index];
	*ret = (struct hvmi_range){ .gpa = piece->gpa, .len = piece->len };
	return 0;
}

static int dump_read(void *machine, uint64_t gpa, void *buf, size_t len)
{
	struct dump *dump = machine;
	const struct dump_piece *piece = layout_find(&dump->image.layout, gpa);
	if (!piece)
		return -EFAULT;
	if (dump->decoder)
		return dump->decoder->read(dump->decoder_state, piece, gpa, buf, len);
	return input_file(dump, piece->offset + (gpa - piece->gpa), buf, len);
}

static int dump_map(void *machine, uint32_t index, const void **ret)
{
	const struct dump *dump = machine;
	if (!dump->mapping)
		return -ENOTSUP;
	*ret = dump->mapping + dump->image.layout.pieces[index].offset;
	return 0;
}

static int dump_next_data(void *machine, uint32_t index, uint64_t gpa, struct hvmi_range *ret)
{
	const struct dump *dump = machine;
	const struct dump_piece *piece = &dump->image.layout.pieces[index];
	uint64_t end = piece->gpa + piece->len;
	*ret = (struct hvmi_range){ .gpa = gpa, .len = end - gpa };
	if (dump->decoder)
		return dump->decoder->next_data ?
		       dump->decoder->next_data(dump->decoder_state, piece, gpa, ret) : 0;
	/* Only what they return counts: several threads may be here. */
	uint64_t offset = piece->offset + (gpa - piece->gpa), last = piece->offset + piece->len;
	off_t data = lseek(dump->fd, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? -ENOENT : 0;
	if ((uint64_t)data >= last)
		return -ENOENT;
	off_t hole = lseek(dump->fd, data, SEEK_HOLE);
	uint64_t stop = hole < 0 ? last : MIN((uint64_t)hole, last);
	/* Pages of the file are none of the guest's where headers have an odd length. */
	uint64_t first = gpa + ((uint64_t)data - offset), behind = gpa + (stop - offset);
	first = MAX(gpa, first / PAGE_BYTES * PAGE_BYTES);
	if (behind % PAGE_BYTES)
		behind += MIN(PAGE_BYTES - behind % PAGE_BYTES, end - behind);
	*ret = (struct hvmi_range){ .gpa = first, .len = behind - first };
	return 0;
}

static int dump_note(void *machine, const char *name, void *buf, size_t size, size_t *len_ret)
{
	const struct dump_image *image = &((struct dump *)machine)->image;
	const void *note = NULL;
	size_t len = 0;
	if (strcmp(name, "VMCOREINFO") == 0) {
		note = image->vmcoreinfo;
		len = image->vmcoreinfo_len;
	} else if (strcmp(name, "WINDOWS-DUMP") == 0) {
		note = image->windows;
		len = image->windows_len;
	}
	if (!note)
		return -ENOENT;
	if (len_ret)
		*len_ret = len;
	if (size < len)
		return -EOVERFLOW;
	memcpy(buf, note, len);
	return 0;
}

static int dump_get_register(void *machine, uint32_t vcpu, uint32_t id, uint64_t *ret)
{
	const struct dump_image *image = &((struct dump *)machine)->image;
	if (id >= HVMI_REGISTER_END || !vcpu_knows(&image->vcpus[vcpu], id))
		return -ENOTSUP;
	*ret = image->vcpus[vcpu].value[id];
	return 0;
}

const struct hvmi_backend *hvmi_backend_dump(void)
{
	static const struct hvmi_backend backend = {
		.size = sizeof(backend),
		.scheme = "dump",
		.open = dump_open,
		.close = dump_close,
		.describe = dump_describe,
		.range = dump_range,
		.read = dump_read,
		.map = dump_map,
		.next_data = dump_next_data,
		.note = dump_note,
		.get_register = dump_get_register,
	};
	return &backend;
}
