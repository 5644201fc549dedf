/* SPDX-License-Identifier: Apache-2.0 */
/* Target strings, and making text printable. */
#include <stdlib.h>
#include <string.h>

#include "vm/vm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	struct hvmi_target *target;
	if (target_parse(text, &target, NULL) == 0) {
		uint64_t value;
		for (uint32_t i = 0; i < target->option_count; i++)
			hvmi_parse_u64(target->options[i].value, &value);
		target_free(target);
	}
	/* What is escaped is unchanged by being escaped again, but for its backslashes. */
	size_t len = hvmi_text_escape(data, size, NULL, 0);
	char *safe = malloc(len + 1), *again = malloc(len + 1);
	if (safe && again && (hvmi_text_escape(data, size, safe, len + 1) != len ||
			      strlen(safe) != len ||
			      text_sanitise(safe, len, again, len + 1) != len ||
			      memcmp(safe, again, len) != 0))
		abort();
	free(safe);
	free(again);
	free(text);
	return 0;
}
