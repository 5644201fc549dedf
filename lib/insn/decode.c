/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "insn/insn.h"

#ifndef HVMI_HAVE_ZYDIS
const struct insn_decoder insn_decoder_x86 = { .missing = "Zydis" };

HVMI_API int hvmi_insn_get_accesses(const struct hvmi_insn *insn,
				    const struct hvmi_registers *registers,
				    struct hvmi_insn_accesses *ret, struct hvmi_error *err)
{
	const struct insn_decoder *decoder = NULL;
	(void)registers;
	(void)ret;
	int rc = insn_decoder_find(insn->mode, insn->gva, &decoder, err);
	return rc ? rc : hvmi_error_set(err, -ENOTSUP, insn->gva, "accesses are known of x86 "
					"instructions only");
}

HVMI_API int hvmi_insn_relocate(const struct hvmi_insn_move *move, struct hvmi_insn_moved *ret,
				struct hvmi_error *err)
{
	const struct insn_decoder *decoder = NULL;
	(void)ret;
	int rc = insn_decoder_find(move->mode, move->from, &decoder, err);
	return rc ? rc : hvmi_error_set(err, -ENOTSUP, move->from, "instructions of arm64 cannot be "
					"moved");
}
#endif
#ifndef HVMI_HAVE_CAPSTONE
const struct insn_decoder insn_decoder_arm64 = { .missing = "Capstone" };
#endif

int insn_decoder_find(uint32_t mode, uint64_t gva, const struct insn_decoder **ret,
		      struct hvmi_error *err)
{
	if (mode < HVMI_INSN_X86_16 || mode > HVMI_INSN_ARM64)
		return hvmi_error_set(err, -EINVAL, gva, "%" PRIu32 " is no mode of instructions: "
				      "take one of enum hvmi_insn_mode", mode);
	const struct insn_decoder *decoder = mode == HVMI_INSN_ARM64 ? &insn_decoder_arm64 :
								       &insn_decoder_x86;
	if (decoder->missing)
		return hvmi_error_set(err, -ENOTSUP, gva, "this libhvmi was built without %s, which "
				      "decodes these instructions: build it with that",
				      decoder->missing);
	*ret = decoder;
	return 0;
}

int insn_copy(struct hvmi_insn *to, const struct hvmi_insn *from, struct hvmi_error *err)
{
	if (options_copy(to, sizeof(*to), from) || !to->len || to->len > HVMI_INSN_BYTES)
		return hvmi_error_set(err, -EINVAL, HVMI_NO_ADDRESS, "this is no instruction that "
				      "the library decoded: size or length is wrong");
	return 0;
}

/* VMCS access rights, 25.4.1. */
#define RIGHTS_L (1u << 13)
#define RIGHTS_D (1u << 14)
#define CR0_PE 1u
#define RFLAGS_VM (1u << 17)
#define EFER_LMA (1u << 10)

HVMI_API int hvmi_insn_mode(const struct hvmi_registers *registers, uint32_t *ret,
			    struct hvmi_error *err)
{
	uint64_t cr0, rights, efer, rflags;
	if (hvmi_registers_get(registers, HVMI_X86_CR0, &cr0) ||
	    hvmi_registers_get(registers, HVMI_X86_CS_RIGHTS, &rights) ||
	    hvmi_registers_get(registers, HVMI_X86_EFER, &efer) ||
	    hvmi_registers_get(registers, HVMI_X86_RFLAGS, &rflags))
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS, "how the vCPU decodes is not "
				      "known without CR0, EFER, RFLAGS and the rights of CS");
	if (!(cr0 & CR0_PE) || (rflags & RFLAGS_VM && !(efer & EFER_LMA)))
		*ret = HVMI_INSN_X86_16;
	else if (efer & EFER_LMA && rights & RIGHTS_L)
		*ret = HVMI_INSN_X86_64;
	else
		*ret = rights & RIGHTS_D ? HVMI_INSN_X86_32 : HVMI_INSN_X86_16;
	return 0;
}

static int no_instruction(struct hvmi_error *err, int rc, uint64_t gva, const uint8_t *bytes,
			  size_t len)
{
	char hex[2 * HVMI_INSN_BYTES + 1] = "";
	for (size_t i = 0; i < len; i++) {
		hex[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	if (rc == -EBADMSG)
		return hvmi_error_set(err, rc, gva, "no instruction at 0x%" PRIx64 " begins with the "
				      "bytes %s", gva, hex);
	if (rc == -EOVERFLOW)
		return hvmi_error_set(err, rc, gva, "the instruction at 0x%" PRIx64 " is longer than "
				      "the %zu bytes that are there: %s", gva, len, hex);
	return hvmi_error_set(err, rc, gva, "the instruction at 0x%" PRIx64 " could not be decoded: "
			      "%s", gva, hvmi_error_name(rc));
}

/* 0, or the error of the decoder, which is not told yet. */
static int decode(const struct insn_decoder *decoder, uint32_t mode, uint64_t gva,
		  const uint8_t *bytes, size_t len, struct hvmi_insn *ret)
{
	if (len == 0)
		return -EOVERFLOW;
	struct hvmi_insn insn = { .size = sizeof(insn), .gva = gva, .target = HVMI_NO_ADDRESS,
				  .mode = mode };
	int rc = decoder->decode(&insn, bytes, MIN(len, HVMI_INSN_BYTES));
	if (rc)
		return rc;
	memcpy(insn.bytes, bytes, insn.len);
	return result_copy(ret, &insn, sizeof(insn));
}

HVMI_API int hvmi_insn_decode(uint32_t mode, uint64_t gva, const void *bytes, size_t len,
			      struct hvmi_insn *ret, struct hvmi_error *err)
{
	const struct insn_decoder *decoder = NULL;
	int rc = insn_decoder_find(mode, gva, &decoder, err);
	if (rc)
		return rc;
	len = MIN(len, HVMI_INSN_BYTES);
	rc = decode(decoder, mode, gva, bytes, len, ret);
	if (rc == -EINVAL)
		return hvmi_error_set(err, rc, gva, "hvmi_insn.size is not set");
	return rc ? no_instruction(err, rc, gva, bytes, len) : 0;
}

HVMI_API int hvmi_insn_read(struct hvmi_space *space, uint32_t mode, uint64_t gva,
			    struct hvmi_insn *ret, struct hvmi_error *err)
{
	const struct insn_decoder *decoder = NULL;
	uint8_t bytes[HVMI_INSN_BYTES];
	size_t len = MIN(sizeof(bytes), FRAME_SIZE - gva % FRAME_SIZE), done = 0;
	int rc = insn_decoder_find(mode, gva, &decoder, err);
	if (rc)
		return rc;
	rc = hvmi_space_read(space, gva, bytes, len, &done);
	if (!rc) {
		rc = decode(decoder, mode, gva, bytes, len, ret);
		if (rc != -EOVERFLOW || len == sizeof(bytes))
			return rc ? no_instruction(err, rc, gva, bytes, len) : 0;
		/* It reaches into the next page, which need not be there for one that does not. */
		size_t more = 0;
		rc = hvmi_space_read(space, gva + len, bytes + len, sizeof(bytes) - len, &more);
		done = len + more;
	}
	if (rc)
		return hvmi_error_set(err, rc, gva + done, "of the instruction at 0x%" PRIx64 " only "
				      "%zu bytes can be read: at 0x%" PRIx64 " %s", gva, done,
				      gva + done, rc == -EFAULT ? "nothing is mapped" :
				      hvmi_error_name(rc));
	rc = decode(decoder, mode, gva, bytes, sizeof(bytes), ret);
	return rc ? no_instruction(err, rc, gva, bytes, sizeof(bytes)) : 0;
}

HVMI_API int hvmi_insn_text(const struct hvmi_insn *insn, char *buf, size_t size,
			    struct hvmi_error *err)
{
	const struct insn_decoder *decoder = NULL;
	struct hvmi_insn copy;
	char text[HVMI_INSN_TEXT];
	int rc = insn_copy(&copy, insn, err);
	if (!rc)
		rc = insn_decoder_find(copy.mode, copy.gva, &decoder, err);
	if (rc)
		return rc;
	rc = decoder->text(&copy, text, sizeof(text));
	if (rc)
		return no_instruction(err, rc, copy.gva, copy.bytes, copy.len);
	if (strlen(text) >= size)
		return hvmi_error_set(err, -EOVERFLOW, copy.gva, "the text of the instruction needs "
				      "%zu bytes: give HVMI_INSN_TEXT", strlen(text) + 1);
	strcpy(buf, text);
	return 0;
}
