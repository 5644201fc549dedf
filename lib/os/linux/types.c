/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's types: its BTF blob, between __start_BTF and __stop_BTF in its read-only data. */
#include <inttypes.h>
#include <stdio.h>

#include "os/linux/linux.h"
#include "profile/btf.h"

/* Blobs that are loaded before an image full of decoys is given up. */
#define BLOBS_TRIED_MAX 64u

struct btf_search {
	struct hvmi_os *os;
	uint32_t loads_left;
	uint64_t gpa, len;
};

static int load_btf_at(struct hvmi_os *os, uint64_t gpa, uint64_t *len_ret)
{
	uint8_t header[BTF_PROBE_BYTES];
	uint64_t len;
	if (hvmi_vm_read(os->vm, gpa, header, sizeof(header), NULL) ||
	    btf_probe(header, sizeof(header), &len) || len > BTF_BYTES_MAX)
		return -ENOENT;
	void *blob = malloc_filled(len);
	if (!blob)
		return -ENOMEM;
	if (hvmi_vm_read(os->vm, gpa, blob, len, NULL)) {
		free(blob);
		return -ENOENT;
	}
	struct hvmi_error reason;
	int rc = btf_load(blob, len, &os->profile->types, &reason);
	if (rc == 0)
		*len_ret = len;
	else
		vm_log(os->vm, HVMI_LOG_INFO, "no BTF at gpa 0x%" PRIx64 ": %s", gpa, reason.text);
	return rc;
}

static int btf_window(void *context, uint64_t gpa, const uint8_t *bytes, size_t len)
{
	static const uint8_t magic[] = { 0x9f, 0xeb, 0x01, 0x00 };
	struct btf_search *search = context;
	const uint8_t *at = bytes, *end = bytes + len;
	while ((at = memmem(at, (size_t)(end - at), magic, sizeof(magic)))) {
		uint64_t blob_len;
		/* Cheap before dear: a hostile image may be full of magic numbers. */
		if (btf_probe(at, MIN((size_t)(end - at), BTF_PROBE_BYTES), &blob_len) == 0) {
			search->gpa = gpa + (uint64_t)(at - bytes);
			if (load_btf_at(search->os, search->gpa, &search->len) == 0)
				return 1;
			if (--search->loads_left == 0)
				return -EOVERFLOW;
		}
		at++;
	}
	return 0;
}

int linux_search_types(struct hvmi_os *os, uint64_t *gpa_ret, uint64_t *len_ret)
{
	struct btf_search search = { .os = os, .loads_left = BLOBS_TRIED_MAX };
	if (image_scan(os->vm, &linux_data(os)->image, BTF_PROBE_BYTES, btf_window, &search) != 1)
		return -ENOENT;
	*gpa_ret = search.gpa;
	*len_ret = search.len;
	return 0;
}

void linux_load_types(struct hvmi_os *os)
{
	const struct symbols *symbols = &os->profile->symbols;
	const struct types *types = &os->profile->types;
	uint64_t start = 0, stop, gpa, len;
	char value[96];
	bool symbol = symbols_find(symbols, "__start_BTF", &start) == 0;
	gpa = start - linux_data(os)->shift;
	if (symbol && load_btf_at(os, gpa, &len) == 0) {
		bool agrees = symbols_find(symbols, "__stop_BTF", &stop) == 0 &&
			      stop - start >= len && stop - start - len < FRAME_SIZE;
		snprintf(value, sizeof(value), "%u types", types->type_count);
		os_fact(os, "btf", agrees ? HVMI_CONFIDENCE_HIGH : HVMI_CONFIDENCE_MEDIUM, gpa, len,
			value, "at symbol __start_BTF%s",
			agrees ? "; __stop_BTF confirms its length" : "");
	} else if (linux_search_types(os, &gpa, &len) == 0) {
		snprintf(value, sizeof(value), "%u types", types->type_count);
		os_fact(os, "btf", HVMI_CONFIDENCE_MEDIUM, gpa, len, value,
			"found by its magic number in the kernel image");
	} else {
		os_fact(os, "btf", HVMI_CONFIDENCE_UNKNOWN, HVMI_NO_ADDRESS, 0, "none",
			"%s; without CONFIG_DEBUG_INFO_BTF there are symbols, but no structures",
			symbol ? "what is at symbol __start_BTF is malformed" :
				 "no symbol __start_BTF, no magic number in the kernel image");
	}
}
