/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU's monitor prints and its gdbstub says. */
#include <stdlib.h>
#include <string.h>

#include "hmp.h"
#include "rsp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_pieces(const char *text)
{
	struct hmp_piece *pieces;
	size_t count;
	if (hmp_mtree(text, &pieces, &count))
		return;
	if (!count || count > HMP_PIECES_MAX)
		abort();
	for (size_t i = 0; i < count; i++)
		if (!pieces[i].len || pieces[i].gpa + (pieces[i].len - 1) < pieces[i].gpa ||
		    !memchr(pieces[i].region, '\0', sizeof(pieces[i].region)))
			abort();
	free(pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	uint64_t address, words[8];
	uint8_t bytes[16];
	struct hvmi_registers registers = { 0 };
	struct rsp_stop stop;
	check_pieces(text);
	hmp_gpa2hva(text, &address);
	if (hmp_xp(text, 0x1000, words, 8) == 0 && !strchr(text, ':'))
		abort();
	hmp_registers_x86(text, &registers);
	for (uint32_t id = HVMI_REGISTER_END; id < HVMI_REGISTERS_MAX; id++)
		if (hvmi_registers_known(&registers, id))
			abort();
	if (rsp_parse_stop(text, &stop) == 0 && stop.signal > 255)
		abort();
	if (rsp_hex(text, size, bytes, sizeof(bytes)) > (int64_t)sizeof(bytes))
		abort();
	free(text);
	return 0;
}
