/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <inttypes.h>

#define MAGIC(bytes) bytes, sizeof(bytes) - 1

/* Formats that are read. */
static const struct {
	const char *magic;
	size_t len;
	enum dump_kind kind;
} known[] = {
	{ MAGIC("\177ELF"), DUMP_ELF },
	{ MAGIC("EMiL"), DUMP_LIME },			/* 0x4C694D45 */
	{ MAGIC("AVML"), DUMP_AVML },			/* 0x4C4D5641 */
	{ MAGIC("KDUMP   "), DUMP_KDUMP },
	{ MAGIC("DISKDUMP"), DUMP_KDUMP },
	{ MAGIC("makedumpfile\0\0\0\0"), DUMP_KDUMP_FLAT },
	{ MAGIC("PAGEDU64"), DUMP_CRASH },
	{ MAGIC("PAGEDUMP"), DUMP_CRASH },
	{ MAGIC("\xd0\xbe\xd2\xbe"), DUMP_VMWARE },
	{ MAGIC("\xd1\xba\xd1\xba"), DUMP_VMWARE },
	{ MAGIC("\xd2\xbe\xd2\xbe"), DUMP_VMWARE },
	{ MAGIC("\xd3\xbe\xd3\xbe"), DUMP_VMWARE },
};

#define UNPACK "unpack it first"
#define NO_DISK "a virtual disk holds no memory: take an image of the running machine's memory"
#define RESTORE "start a paused machine from it and take an image with dump-guest-memory"

/*
 * Formats that are not: what it is, what to do. The magic numbers are those of file(1)'s
 * documentation and of each format's own.
 */
static const struct {
	size_t offset;
	const char *magic;
	size_t len;
	int code;
	const char *what, *advice;
} foreign[] = {
	{ 0, MAGIC("\x1f\x8b\x08"), -ENOTSUP, "compressed with gzip", UNPACK " (gunzip)" },
	{ 0, MAGIC("\xfd" "7zXZ\0"), -ENOTSUP, "compressed with xz", UNPACK " (unxz)" },
	{ 0, MAGIC("\x28\xb5\x2f\xfd"), -ENOTSUP, "compressed with zstd", UNPACK " (unzstd)" },
	{ 0, MAGIC("\x04\x22\x4d\x18"), -ENOTSUP, "compressed with lz4", UNPACK " (unlz4)" },
	{ 0, MAGIC("\x89LZO\0\r\n\x1a\n"), -ENOTSUP, "compressed with lzop", UNPACK " (lzop -d)" },
	{ 0, MAGIC("BZh91AY&SY"), -ENOTSUP, "compressed with bzip2", UNPACK " (bunzip2)" },
	{ 0, MAGIC("\xff\x06\0\0sNaPpY"), -ENOTSUP, "compressed with snappy", UNPACK },
	/* The header of zlib with a window of 2 KiB, which LiME's compress=1 makes. */
	{ 0, MAGIC("\x38\x8d"), -ENOTSUP, "compressed with zlib", UNPACK " (unpigz)" },
	{ 0, MAGIC("PK\3\4"), -ENOTSUP, "a ZIP archive", UNPACK " (unzip)" },
	{ 0, MAGIC("7z\xbc\xaf\x27\x1c"), -ENOTSUP, "a 7-Zip archive", UNPACK " (7z x)" },
	{ 257, MAGIC("ustar"), -ENOTSUP, "a tar archive", UNPACK " (tar xf)" },
	{ 0, MAGIC("QFI\xfb"), -ENOTSUP, "a qcow2 disk image", NO_DISK },
	{ 0, MAGIC("KDMV"), -ENOTSUP, "a VMDK disk image", NO_DISK },
	{ 0, MAGIC("# Disk DescriptorFile"), -ENOTSUP, "a VMDK disk descriptor", NO_DISK },
	{ 64, MAGIC("\x7f\x10\xda\xbe"), -ENOTSUP, "a VDI disk image", NO_DISK },
	{ 0, MAGIC("vhdxfile"), -ENOTSUP, "a VHDX disk image", NO_DISK },
	{ 0, MAGIC("conectix"), -ENOTSUP, "a VHD disk image", NO_DISK },
	{ 0, MAGIC("MDMP"), -EBADMSG, "a minidump of one Windows process",
	  "take an image of the whole machine's memory" },
	{ 0, MAGIC("hibr"), -ENOTSUP, "a hibernation file of Windows",
	  "convert it to a raw image" },
	{ 0, MAGIC("HIBR"), -ENOTSUP, "a hibernation file of Windows",
	  "convert it to a raw image" },
	{ 0, MAGIC("\177VirtualBox SavedState"), -ENOTSUP, "a saved state of VirtualBox",
	  "take a core of the running machine with VBoxManage debugvm dumpvmcore" },
	{ 0, MAGIC("QEVM"), -ENOTSUP, "a migration stream of QEMU", RESTORE },
	{ 0, MAGIC("LibvirtQemudSave"), -ENOTSUP, "a saved state of libvirt", RESTORE },
	{ 0, MAGIC("\xff\xff\xff\xff\xff\xff\xff\xff" "XENF"), -ENOTSUP, "a saved domain of Xen",
	  "restore it paused and take a core with xl dump-core" },
	{ 0, MAGIC("Xen saved domain"), -ENOTSUP, "a saved domain of Xen",
	  "restore it paused and take a core with xl dump-core" },
	{ 0, MAGIC("\xed\xeb\x0f\xf0"), -ENOTSUP, "a Xen core of before 2007",
	  "take one with xl dump-core" },
	{ 0, MAGIC("\xee\xeb\x0f\xf0"), -ENOTSUP, "a Xen core of before 2007",
	  "take one with xl dump-core" },
	{ 0, MAGIC("EVF\x09\x0d\x0a\xff\0"), -ENOTSUP, "an EnCase evidence file",
	  "export a raw image from it" },
	{ 0, MAGIC("\xcf\xfa\xed\xfe"), -EBADMSG, "a Mach-O file",
	  "take an image of the whole machine's memory" },
};

static bool is_text(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!(bytes[i] >= 0x20 && bytes[i] < 0x7f) && bytes[i] != '\n' &&
		    bytes[i] != '\r' && bytes[i] != '\t')
			return false;
	return true;
}

static bool matches(const uint8_t *bytes, size_t len, size_t offset, const char *magic,
		    size_t magic_len)
{
	return offset + magic_len <= len && memcmp(bytes + offset, magic, magic_len) == 0;
}

int sniff(const struct dump_parse *parse, enum dump_kind *ret)
{
	uint8_t head[PAGE_BYTES];
	uint64_t size = parse->input.size;
	size_t len = MIN(size, sizeof(head));
	if (size == 0)
		return parse_error(parse, -EBADMSG, "the file is empty");
	int rc = parse_read(parse, 0, head, len, "the start of the file");
	if (rc)
		return rc;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (matches(head, len, 0, known[i].magic, known[i].len)) {
			*ret = known[i].kind;
			return 0;
		}
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		if (matches(head, len, foreign[i].offset, foreign[i].magic, foreign[i].len))
			return parse_error(parse, foreign[i].code, "this is %s: %s (or add "
					   "format=raw if it is raw memory all the same)",
					   foreign[i].what, foreign[i].advice);
	if (is_text(head, len))
		return parse_error(parse, -EBADMSG, "this is text, not a memory image");
	if (size < PAGE_BYTES)
		return parse_error(parse, -EBADMSG, "%" PRIu64 " bytes of no known format are too "
				   "few for a memory image", size);
	*ret = DUMP_UNKNOWN;
	return 0;
}

enum dump_kind sniff_kind(const char *name)
{
	static const struct {
		const char *name;
		enum dump_kind kind;
	} names[] = {
		{ "raw", DUMP_RAW }, { "elf", DUMP_ELF }, { "lime", DUMP_LIME },
		{ "avml", DUMP_AVML }, { "kdump", DUMP_KDUMP },
		{ "crash", DUMP_CRASH }, { "vmware", DUMP_VMWARE },
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i].name, name) == 0)
			return names[i].kind;
	return DUMP_UNKNOWN;
}
