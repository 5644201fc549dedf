/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <unistd.h>

static const char usage[] =
	"Usage: hvmi-read TARGET ADDRESS LENGTH [--raw | --string] [--json]\n"
	"       hvmi-read TARGET ADDRESS --string [--json]\n"
	"Read guest memory and print a hex dump.\n"
	"ADDRESS is gpa:0x1000 or 0x1000 (guest-physical), PID:0x1000 (of a process),\n"
	"kernel:0x1000 or kernel:SYMBOL.\n"
	"\n"
	"      --raw           write the bytes as they are\n"
	"      --string        print a string that ends with a NUL; LENGTH is the most,\n"
	"                      4096 if not given\n";

#define CHUNK 65536u
#define STRING_MAX (1024u * 1024)

static int read_place(struct tool *tool, const struct tool_place *place, uint64_t offset,
		      uint8_t *buf, size_t len, size_t *done_ret)
{
	uint64_t address = place->address + offset;
	return place->space ? hvmi_space_read(place->space, address, buf, len, done_ret) :
			      hvmi_vm_read(tool->vm, address, buf, len, done_ret);
}

static void print_hex_dump(uint64_t address, const uint8_t *bytes, size_t len)
{
	for (size_t row = 0; row < len; row += 16) {
		char hex[3 * 16 + 2] = "", text[17] = "", *to = hex;
		for (size_t i = 0; i < 16 && row + i < len; i++) {
			uint8_t byte = bytes[row + i];
			to += sprintf(to, i == 8 ? "  %02x" : " %02x", byte);
			text[i] = byte >= 0x20 && byte < 0x7f ? (char)byte : '.';
		}
		printf("%016" PRIx64 " %-49s  |%s|\n", address + row, hex, text);
	}
}

static void print_chunk(const struct tool *tool, bool raw, uint64_t address,
			const uint8_t *bytes, size_t len)
{
	if (raw)
		fwrite(bytes, 1, len, stdout);
	else if (!tool->json)
		print_hex_dump(address, bytes, len);
	for (size_t i = 0; tool->json && i < len; i++)
		printf("%02x", bytes[i]);
}

static void tell_failure(struct tool *tool, const struct tool_place *place, uint64_t done,
			 uint64_t wanted, int rc)
{
	tool_error(tool, tool_code(rc),
		   "read %" PRIu64 " of %" PRIu64 " bytes: at 0x%" PRIx64 " %s", done, wanted,
		   place->address + done, rc == -EIO ? "the image cannot be read" :
		   rc != -EFAULT ? hvmi_error_name(rc) :
		   place->space ? "nothing is mapped" : "there is no RAM");
}

/* Chunk by chunk, so that any length is fine; a JSON object is written by hand for that. */
static void read_bytes(struct tool *tool, const struct tool_place *place, uint64_t len, bool raw)
{
	static uint8_t chunk[CHUNK];
	uint64_t done = 0;
	int rc = 0;
	if (tool->json)
		printf("{\n  \"address\": \"0x%" PRIx64 "\",\n  \"bytes\": \"", place->address);
	while (!rc && done < len && !ferror(stdout)) {
		size_t got = 0, want = len - done < CHUNK ? (size_t)(len - done) : CHUNK;
		rc = read_place(tool, place, done, chunk, want, &got);
		print_chunk(tool, raw, place->address + done, chunk, got);
		done += got;
	}
	if (tool->json)
		printf("\",\n  \"read\": %" PRIu64 "\n}\n", done);
	if (rc)
		tell_failure(tool, place, done, len, rc);
}

static void read_string(struct tool *tool, const struct tool_place *place, uint64_t most)
{
	size_t done = 0;
	uint8_t *bytes = malloc(most);
	if (!bytes)
		tool_die(TOOL_INTERNAL, "out of memory");
	int rc = read_place(tool, place, 0, bytes, most, &done);
	const uint8_t *nul = memchr(bytes, 0, done);
	size_t len = nul ? (size_t)(nul - bytes) : done;
	if (tool->json) {
		tool_print(tool, tool_json_object("address", tool_json_hex(place->address),
						  "string", tool_json_text(bytes, len), "read",
						  tool_json_number(len), NULL));
	} else {
		char *text = tool_escape(bytes, len);
		puts(text);
		free(text);
	}
	free(bytes);
	if (rc && !nul)
		tell_failure(tool, place, done, most, rc);
	else if (!nul)
		tool_error(tool, TOOL_PARTIAL, "the string is longer than %" PRIu64 " bytes", most);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "raw", no_argument, NULL, 'r' }, { "string", no_argument, NULL, 's' }, { 0 },
	};
	struct tool tool;
	bool raw = false, string = false;
	tool_begin(&tool, usage, argc, argv);
	for (int c; (c = tool_option(&tool, options)) != -1;)
		*(c == 'r' ? &raw : &string) = true;
	tool_operands(&tool, string ? 2 : 3, 3);
	if (raw + string + (raw && tool.json) > 1)
		tool_die(TOOL_USAGE, "--raw goes with neither --string nor --json");
	if (raw && isatty(STDOUT_FILENO))
		tool_die(TOOL_USAGE, "--raw does not write to a terminal: redirect the output");
	uint64_t len = tool.operand_count < 3 ? 4096 :
		       tool_number("length", tool.operands[2], string ? STRING_MAX : UINT64_MAX);
	if (string && len == 0)
		tool_die(TOOL_USAGE, "a string of at most 0 bytes cannot be read");

	struct tool_place place;
	tool_open(&tool);
	bool found = tool_place(&tool, tool.operands[1], "gpa", &place);
	if (found && string)
		read_string(&tool, &place, len);
	else if (found)
		read_bytes(&tool, &place, len, raw);
	else if (tool.json)
		tool_print(&tool, json_null());
	if (found)
		hvmi_space_destroy(place.space);
	return tool_end(&tool);
}
