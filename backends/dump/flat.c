/* SPDX-License-Identifier: Apache-2.0 */
/*
 * makedumpfile's flattened form, which QEMU writes up to version 8.1 whatever it is asked for: a
 * header of 4096 bytes (signature, type 1 and version 1 as big-endian 64-bit numbers), then records
 * of a big-endian offset and length and so many bytes, up to an offset of -1 (makedumpfile(8), -F;
 * struct MakedumpfileHeader and MakedumpfileDataHeader of QEMU's include/sysemu/dump.h).
 *
 * libkdumpfile 0.5.1 does not read it, so it is put in order in a nameless file.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define HEADER_BYTES 4096u
#define RECORD_BYTES 16u
/* The image in order has all bytes of the flattened one, and hardly more. */
#define HOLES_MAX (1ull << 30)

static uint64_t load_be64(const uint8_t *b)
{
	return __builtin_bswap64(load_le64(b));
}

static int write_all(int fd, const uint8_t *bytes, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, bytes + done, len - done, (off_t)(offset + done));
		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			return -1;
	}
	return 0;
}

static int temporary(const struct dump_parse *parse, int *fd_ret)
{
	const char *folder = secure_getenv("TMPDIR");
	struct statvfs fs;
	/* Not /tmp: that may be memory, and these files are large. */
	if (!folder || !*folder)
		folder = "/var/tmp";
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return parse_error(parse, -EACCES, "a flattened kdump has to be put in order in a "
				   "temporary file, which cannot be made in %s: set TMPDIR, or use "
				   "makedumpfile -R", folder);
	if (fstatvfs(fd, &fs) == 0 &&
	    (uint64_t)fs.f_bavail * fs.f_frsize < parse->input.size) {
		close(fd);
		return parse_error(parse, -EIO, "a flattened kdump has to be put in order in a "
				   "temporary file, and %s has less than the %" PRIu64 " bytes "
				   "that takes: set TMPDIR, or use makedumpfile -R", folder,
				   parse->input.size);
	}
	*fd_ret = fd;
	return 0;
}

struct record {
	uint64_t at;		/* of its bytes in the flattened file */
	uint64_t offset, len;	/* where they belong */
};

/* 0: the end. */
static int next_record(const struct dump_parse *parse, uint64_t *at, struct record *ret)
{
	uint8_t raw[RECORD_BYTES];
	int rc = parse_read(parse, *at, raw, sizeof(raw), "a flattened record");
	if (rc)
		return rc;
	uint64_t offset = load_be64(raw), len = load_be64(raw + 8);
	if (offset == UINT64_MAX)
		return 0;
	*at += RECORD_BYTES;
	if (len == 0 || len > parse->input.size - *at || offset > parse->input.size + HOLES_MAX)
		return parse_error(parse, -EBADMSG, "the flattened record at offset %" PRIu64
				   " makes no sense: the file is damaged or was cut short",
				   *at - RECORD_BYTES);
	*ret = (struct record){ .at = *at, .offset = offset, .len = len };
	*at += len;
	return 1;
}

static int copy_record(const struct dump_parse *parse, const struct record *record, int fd,
		       uint8_t *buf, size_t size)
{
	for (uint64_t done = 0, n; done < record->len; done += n) {
		n = MIN(record->len - done, size);
		int rc = parse_read(parse, record->at + done, buf, n, "a flattened record");
		if (rc)
			return rc;
		if (write_all(fd, buf, n, record->offset + done))
			return parse_error(parse, -EIO, "the temporary file for a flattened kdump "
					   "cannot be written: set TMPDIR to where there is room, "
					   "or use makedumpfile -R");
	}
	return 0;
}

static int copy_all(const struct dump_parse *parse, int fd, uint64_t *size_ret)
{
	enum { BUF = 1 << 20 };
	uint64_t at = HEADER_BYTES, end = 0;
	struct record record = { 0 };
	uint8_t *buf = malloc(BUF);
	if (!buf)
		return parse_error(parse, -ENOMEM, "out of memory");
	int rc;
	while ((rc = next_record(parse, &at, &record)) == 1) {
		rc = copy_record(parse, &record, fd, buf, BUF);
		if (rc)
			break;
		end = MAX(end, record.offset + record.len);
	}
	free(buf);
	*size_ret = end;
	return rc;
}

int flat_rearrange(const struct dump_parse *parse, int *fd_ret, uint64_t *size_ret)
{
	uint8_t raw[32];
	int fd = -1, rc = parse_read(parse, 0, raw, sizeof(raw), "the header of a flattened kdump");
	if (rc)
		return rc;
	if (load_be64(raw + 16) != 1 || load_be64(raw + 24) != 1)
		return parse_error(parse, -ENOTSUP, "flattened kdump of type %" PRIu64 ", version %"
				   PRIu64 " is not known", load_be64(raw + 16),
				   load_be64(raw + 24));
	rc = temporary(parse, &fd);
	if (rc)
		return rc;
	parse->host->log(parse->host, HVMI_LOG_INFO, "%s: this is a flattened kdump, which is put "
			 "in order in a temporary file of %" PRIu64 " bytes", parse->name,
			 parse->input.size);
	rc = copy_all(parse, fd, size_ret);
	if (rc) {
		close(fd);
		return rc;
	}
	*fd_ret = fd;
	return 0;
}
