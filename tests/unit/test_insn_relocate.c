/* SPDX-License-Identifier: Apache-2.0 */
/* Moved instructions byte by byte, and what is refused. */
#include "suite.h"
#include <string.h>

#include <hvmi/insn.h>

#include "insn_bytes.h"

#define AT 0x401000ull
#define NEAR_TO 0x500000ull
#define FAR_TO 0x7fff00000000ull
#define X64 HVMI_INSN_X86_64

static const struct {
	uint32_t mode, flags;
	uint64_t to;
	const char *hex, *moved;	/* moved: NULL: refused ... */
	int code;			/* ... with this error */
} known[] = {
	{ X64, 0, NEAR_TO, "554889e5", "554889e5", 0 },
	{ X64, HVMI_MOVE_JUMP_BACK, NEAR_TO, "90", "90e9fb0ff0ff", 0 },
	{ X64, HVMI_MOVE_JUMP_BACK, NEAR_TO, "c3", "c3", 0 },
	{ X64, HVMI_MOVE_JUMP_BACK, FAR_TO, "90", "90ff25000000000110400000000000", 0 },
	{ X64, 0, NEAR_TO, "7410", "0f840c10f0ff", 0 },
	{ X64, 0, FAR_TO, "7410", "750eff25000000001210400000000000", 0 },
	{ X64, 0, FAR_TO, "e810000000", "ff1502000000eb081510400000000000", 0 },
	{ X64, 0, NEAR_TO, "e310", "e302eb05e90910f0ff", 0 },
	{ X64, 0, FAR_TO, "67e210", "67e202eb0eff25000000001310400000000000", 0 },
	/* Within the run. */
	{ X64, 0, FAR_TO, "9075fd", "900f85f9ffffff", 0 },
	{ X64, 0, NEAR_TO, "eb019090", "e9010000009090", 0 },
	/* Relative to RIP. */
	{ X64, 0, NEAR_TO, "488b0510000000", "488b051010f0ff", 0 },
	{ X64, 0, NEAR_TO, "c7051000000078563412", "c7051010f0ff78563412", 0 },
	{ X64, 0, FAR_TO, "488d0510000000", "48b81710400000000000", 0 },
	{ X64, 0, FAR_TO, "4c8b2d10000000", "49bd17104000000000004d8b6d00", 0 },
	{ X64, 0, FAR_TO, "4c8b2510000000", "49bc17104000000000004d8b2424", 0 },
	{ X64, 0, FAR_TO, "890510000000", "a31610400000000000", 0 },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "390d10000000",
	  "488d6424805048b81610400000000000390858488da42480000000", 0 },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "c5f96f0510000000",
	  "488d6424805048b81810400000000000c5f96f0058488da42480000000", 0 },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "c4e279180510000000",
	  "488d6424805048b81910400000000000c4e279180058488da42480000000", 0 },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "62f17c48100510000000",
	  "488d6424805048b81a1040000000000062f17c48100058488da42480000000", 0 },
	/* B and X are set, which say nothing next to RIP. */
	{ X64, HVMI_MOVE_STACK, FAR_TO, "4b010510000000",
	  "488d6424805148b9171040000000000048010159488da42480000000", 0 },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "c481f96f0510000000",
	  "488d6424805048b81910400000000000c4e1f96f0058488da42480000000", 0 },
	{ X64, 0, FAR_TO, "678b0510000000", "678b0510104000", 0 },
	{ HVMI_INSN_X86_32, 0, 0xfff00000, "e810000000", "e810105000", 0 },
	{ HVMI_INSN_X86_16, 0, 0x402000, "7410", "0f840ef0", 0 },
	/* Refused. */
	{ X64, 0, FAR_TO, "390d10000000", NULL, -ENOTSUP },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "ff3510000000", NULL, -ENOTSUP },
	{ X64, HVMI_MOVE_STACK, FAR_TO, "ff2510000000", NULL, -ENOTSUP },
	{ X64, 0, FAR_TO, "c7f810000000", NULL, -ENOTSUP },
	{ X64, 0, NEAR_TO, "7401b801000000", NULL, -ENOTSUP },	/* into an instruction */
	{ X64, 0, NEAR_TO, "e80000000058", NULL, -ENOTSUP },		/* "where am I" */
	{ X64, 0, NEAR_TO, "488b05f9ffffff", NULL, -ENOTSUP },	/* reads itself */
	{ X64, 0, NEAR_TO, "488b05f8ffffff", NULL, -ENOTSUP },	/* its first byte with others */
	{ X64, 0, NEAR_TO, "cc", NULL, -ENOTSUP },
	{ X64, 0, NEAR_TO, "0f0b", NULL, -ENOTSUP },
	{ X64, 0, NEAR_TO, "66e910000000", NULL, -ENOTSUP },
	{ X64, HVMI_MOVE_NO_RETURNS, NEAR_TO, "ffd0", NULL, -ENOTSUP },
	{ X64, HVMI_MOVE_NO_RETURNS, NEAR_TO, "0f05", NULL, -ENOTSUP },
	{ X64, HVMI_MOVE_NO_RETURNS, NEAR_TO, "cd80", NULL, -ENOTSUP },
	{ X64, 0, NEAR_TO, "9006", NULL, -EBADMSG },
	{ X64, 0, NEAR_TO, "90b8", NULL, -EOVERFLOW },
	{ X64, 8, NEAR_TO, "90", NULL, -EINVAL },
	{ HVMI_INSN_X86_16, 0, 0x411000, "7410", NULL, -ENOTSUP },
	{ HVMI_INSN_X86_32, 0, FAR_TO, "90", NULL, -EINVAL },
	{ HVMI_INSN_ARM64, 0, NEAR_TO, "1f2003d5", NULL, -ENOTSUP },
};

static struct hvmi_error err;

START_TEST(run)
{
	struct hvmi_insn_moved moved = { .size = sizeof(moved) };
	uint8_t bytes[64], expected[64];
	char hex[2 * HVMI_MOVED_BYTES + 1] = "";
	const char *plain = known[_i].hex;
	size_t len = insn_bytes(plain, bytes);
	struct hvmi_insn_move move = {
		.size = sizeof(move), .bytes = bytes, .from = AT, .to = known[_i].to,
		.mode = known[_i].mode, .flags = known[_i].flags, .len = (uint32_t)len,
		.need = (uint32_t)len,
	};
	int rc = hvmi_insn_relocate(&move, &moved, &err);
	ck_assert_msg(rc == known[_i].code, "%s: %d %s", plain, rc, rc ? err.text : "");
	if (rc) {
		ck_assert_int_eq(err.code, rc);
		ck_assert_uint_gt(strlen(err.text), 10);
		ck_assert_uint_eq(moved.len, 0);
		return;
	}
	for (uint32_t i = 0; i < moved.len; i++)
		sprintf(hex + 2 * i, "%02x", moved.bytes[i]);
	size_t expected_len = insn_bytes(known[_i].moved, expected);
	ck_assert_msg(moved.len == expected_len && !memcmp(moved.bytes, expected, expected_len),
		      "%s: %s", plain, hex);
	ck_assert_uint_eq(moved.from_len, len);
	ck_assert_uint_eq(moved.places[0].from, 0);
	ck_assert_uint_eq(moved.places[moved.count].from, len);
}
END_TEST

START_TEST(places)
{
	struct hvmi_insn_moved moved = { .size = sizeof(moved) };
	/* push rbp; jz +0x20; ret; nop: three bytes are asked for, and end in none. */
	static const uint8_t bytes[] = { 0x55, 0x74, 0x20, 0xc3, 0x90 };
	struct hvmi_insn_move move = {
		.size = sizeof(move), .bytes = bytes, .from = AT, .to = NEAR_TO, .mode = X64,
		.len = sizeof(bytes), .need = 2,
	};
	ck_assert_int_eq(hvmi_insn_relocate(&move, &moved, &err), 0);
	ck_assert_uint_eq(moved.count, 2);
	ck_assert_uint_eq(moved.from_len, 3);
	ck_assert_uint_eq(moved.ends, 0);
	move.need = 5;
	ck_assert_int_eq(hvmi_insn_relocate(&move, &moved, &err), 0);
	ck_assert_uint_eq(moved.count, 4);
	ck_assert_uint_eq(moved.ends, 4);
	static const struct hvmi_insn_place expected[] = {
		{ 0, 0 }, { 1, 1 }, { 3, 7 }, { 4, 8 }, { 5, 9 },
	};
	for (size_t i = 0; i < 5; i++) {
		ck_assert_uint_eq(moved.places[i].from, expected[i].from);
		ck_assert_uint_eq(moved.places[i].to, expected[i].to);
	}
	/* The most there can be. */
	uint8_t many[HVMI_MOVE_BYTES + 16];
	memset(many, 0x90, sizeof(many));
	move.bytes = many;
	move.len = sizeof(many);
	move.need = HVMI_MOVE_COUNT + 1;
	ck_assert_int_eq(hvmi_insn_relocate(&move, &moved, &err), -EOVERFLOW);
	move.need = HVMI_MOVE_BYTES + 1;
	ck_assert_int_eq(hvmi_insn_relocate(&move, &moved, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("insn_relocate");
	TCase *tcase = tcase_create("insn_relocate");
	tcase_add_loop_test(tcase, run, 0, sizeof(known) / sizeof(known[0]));
	tcase_add_test(tcase, places);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
