/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void image_deinit(struct dump_image *image)
{
	layout_deinit(&image->layout);
	free(image->vcpus);
	free(image->vmcoreinfo);
	free(image->windows);
	*image = (struct dump_image){ 0 };
}

struct dump_vcpu *image_vcpu(struct dump_image *image, uint32_t index)
{
	if (index >= DUMP_VCPUS_MAX)
		return NULL;
	if (index >= image->vcpu_count) {
		struct dump_vcpu *vcpus = realloc(image->vcpus, (index + 1) * sizeof(*vcpus));
		if (!vcpus)
			return NULL;
		memset(vcpus + image->vcpu_count, 0,
		       (index + 1 - image->vcpu_count) * sizeof(*vcpus));
		image->vcpus = vcpus;
		image->vcpu_count = index + 1;
	}
	return &image->vcpus[index];
}

int parse_error(const struct dump_parse *parse, int code, const char *format, ...)
{
	char text[2 * HVMI_ERROR_TEXT];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* A long path must not push the sentence out of the message. */
	size_t len = strlen(parse->name), most = 120;
	return hvmi_error_set(parse->err, code, HVMI_NO_ADDRESS, "%s%s: %s",
			      len > most ? "..." : "", parse->name + (len > most ? len - most : 0),
			      text);
}

void parse_warn(const struct dump_parse *parse, const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	parse->host->log(parse->host, HVMI_LOG_WARNING, "%s: %s", parse->name, text);
}

int parse_read(const struct dump_parse *parse, uint64_t offset, void *buf, size_t len,
	       const char *what)
{
	int rc = input_read(&parse->input, offset, buf, len);
	if (rc == -EFAULT)
		return parse_error(parse, -EBADMSG,
				   "%s should lie at offset %" PRIu64 ", but the file has only %"
				   PRIu64 " bytes: copy it again, whole", what, offset,
				   parse->input.size);
	if (rc)
		return parse_error(parse, rc, "cannot read %s at offset %" PRIu64, what, offset);
	return 0;
}

int parse_add(const struct dump_parse *parse, struct dump_image *image, uint64_t gpa, uint64_t len,
	      uint64_t offset)
{
	int rc = layout_add(&image->layout, gpa, len, offset);
	if (rc == -EBADMSG)
		return parse_error(parse, rc, "memory at 0x%" PRIx64 " of 0x%" PRIx64
				   " bytes wraps around: the file is damaged", gpa, len);
	if (rc == -EOVERFLOW)
		return parse_error(parse, rc, "memory is in more pieces than the %u that are "
				   "supported", HVMI_RANGES_MAX);
	if (rc)
		return parse_error(parse, rc, "out of memory");
	return 0;
}

int parse_settle(const struct dump_parse *parse, struct dump_image *image)
{
	if (layout_settle(&image->layout))
		return parse_error(parse, -EOVERFLOW, "memory is in more pieces than the %u that "
				   "are supported", HVMI_RANGES_MAX);
	if (image->layout.count == 0)
		return parse_error(parse, -EBADMSG, "%s without any memory in it", image->format);
	return 0;
}
