/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PV guests. They keep the list of their machine frames themselves, page by page (P2M), and tell
 * through the shared info page where it begins: xen/include/public/arch-x86/xen.h, struct
 * arch_shared_info. It is the guest's: a frame that is not its own cannot be mapped, so a wrong list
 * harms only who wrote it. Guest-physical addresses here are what the guest's kernel calls so; its
 * page tables hold machine frames instead, so virtual addresses cannot be translated.
 */
#include "domain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PER_PAGE (PAGE / sizeof(uint64_t))
#define NO_FRAME UINT64_MAX
/* Bits of an entry that Linux uses for itself: it is no frame of RAM then. */
#define FLAGS (3ull << 62)

struct pv {
	const shared_info_t *shared;
	uint64_t shared_frame;
	uint64_t pages;
};

static const void *map_frame(const struct domain *d, uint64_t frame)
{
	xen_pfn_t arr[1] = { frame };
	int errors[1] = { 0 };
	void *host = d->xen.l.xenforeignmemory_map(d->memory, d->id, PROT_READ, 1, arr, errors);
	if (host && errors[0]) {
		d->xen.l.xenforeignmemory_unmap(d->memory, host, 1);
		return NULL;
	}
	return host;
}

static void unmap_frame(const struct domain *d, const void *host)
{
	d->xen.l.xenforeignmemory_unmap(d->memory, (void *)(uintptr_t)host, 1);
}

/* An entry of a table of frames in the guest's memory, or NO_FRAME. */
static uint64_t entry(const struct domain *d, uint64_t table, uint64_t index)
{
	if (table & FLAGS || table == 0)
		return NO_FRAME;
	const uint64_t *host = map_frame(d, table);
	if (!host)
		return NO_FRAME;
	uint64_t value = __atomic_load_n(&host[index % PER_PAGE], __ATOMIC_RELAXED);
	unmap_frame(d, host);
	return value;
}

int pv_frames(const struct domain *d, uint64_t pfn, uint32_t pages, xen_pfn_t *frames)
{
	const struct pv *pv = d->pv;
	for (uint32_t i = 0; i < pages; i++)
		frames[i] = INVALID_MFN;
	for (uint64_t at = pfn, n; at < pfn + pages; at += n) {
		n = PER_PAGE - at % PER_PAGE < pfn + pages - at ? PER_PAGE - at % PER_PAGE :
								  pfn + pages - at;
		uint64_t top = __atomic_load_n(&pv->shared->arch.pfn_to_mfn_frame_list_list,
					       __ATOMIC_RELAXED);
		uint64_t middle = entry(d, top, at / PER_PAGE / PER_PAGE);
		uint64_t leaf = entry(d, middle, at / PER_PAGE);
		const uint64_t *host = leaf & FLAGS || leaf == 0 ? NULL : map_frame(d, leaf);
		for (uint64_t i = 0; host && i < n; i++) {
			uint64_t frame = __atomic_load_n(&host[(at + i) % PER_PAGE],
							 __ATOMIC_RELAXED);
			if (!(frame & FLAGS))
				frames[at + i - pfn] = frame;
		}
		if (host)
			unmap_frame(d, host);
	}
	return 0;
}

uint64_t pv_pages(const struct pv *pv)
{
	return pv->pages;
}

int pv_open(struct domain *d, const struct domain_info *info, struct hvmi_error *err)
{
	unsigned width = 8;
	if (d->xen.l.xc_domain_get_guest_width(d->xen.xc, d->id, &width))
		return domain_fail(d, err, "asking for its width");
	if (width != 8)
		return hvmi_error_set(err, -ENOTSUP, HVMI_NO_ADDRESS,
				      "%s is a 32-bit PV guest: those are not supported", d->label);
	struct pv *pv = calloc(1, sizeof(*pv));
	if (!pv)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	d->pv = pv;
	pv->shared_frame = info->shared_info;
	pv->shared = map_frame(d, info->shared_info);
	if (!pv->shared)
		return domain_fail(d, err, "mapping its shared info page");
	uint64_t top = pv->shared->arch.pfn_to_mfn_frame_list_list;
	pv->pages = pv->shared->arch.max_pfn;
	if (!top || top & FLAGS || !pv->pages || pv->pages > PER_PAGE * PER_PAGE * PER_PAGE)
		return hvmi_error_set(err, -EBUSY, HVMI_NO_ADDRESS,
				      "the kernel of %s does not tell where its memory is: it has not "
				      "booted so far (try again), or has more than 512 GiB, which is "
				      "not supported for PV guests", d->label);
	d->xen.host->log(d->xen.host, HVMI_LOG_WARNING,
			 "%s is a PV guest, whose page tables hold machine addresses: virtual "
			 "addresses cannot be translated", d->label);
	return 0;
}

void pv_close(struct pv *pv)
{
	if (pv && pv->shared)
		munmap((void *)(uintptr_t)pv->shared, PAGE);
	free(pv);
}

int pv_get_registers(const struct domain *d, uint32_t vcpu, struct hvmi_registers *ret,
		     struct hvmi_error *err)
{
	vcpu_guest_context_any_t *any = calloc(1, sizeof(*any));
	if (!any)
		return hvmi_error_set(err, -ENOMEM, HVMI_NO_ADDRESS, "out of memory");
	if (d->xen.l.xc_vcpu_getcontext(d->xen.xc, d->id, vcpu, any)) {
		free(any);
		return domain_fail(d, err, "reading registers of vCPU %u", vcpu);
	}
	const vcpu_guest_context_x86_64_t *c = &any->x64;
	const struct {
		uint32_t id;
		uint64_t value;
	} values[] = {
		{ HVMI_X86_RAX, c->user_regs.rax }, { HVMI_X86_RCX, c->user_regs.rcx },
		{ HVMI_X86_RDX, c->user_regs.rdx }, { HVMI_X86_RBX, c->user_regs.rbx },
		{ HVMI_X86_RSP, c->user_regs.rsp }, { HVMI_X86_RBP, c->user_regs.rbp },
		{ HVMI_X86_RSI, c->user_regs.rsi }, { HVMI_X86_RDI, c->user_regs.rdi },
		{ HVMI_X86_R8, c->user_regs.r8 }, { HVMI_X86_R9, c->user_regs.r9 },
		{ HVMI_X86_R10, c->user_regs.r10 }, { HVMI_X86_R11, c->user_regs.r11 },
		{ HVMI_X86_R12, c->user_regs.r12 }, { HVMI_X86_R13, c->user_regs.r13 },
		{ HVMI_X86_R14, c->user_regs.r14 }, { HVMI_X86_R15, c->user_regs.r15 },
		{ HVMI_X86_RIP, c->user_regs.rip }, { HVMI_X86_RFLAGS, c->user_regs.rflags },
		{ HVMI_X86_CS_SELECTOR, c->user_regs.cs }, { HVMI_X86_SS_SELECTOR, c->user_regs.ss },
		{ HVMI_X86_DS_SELECTOR, c->user_regs.ds }, { HVMI_X86_ES_SELECTOR, c->user_regs.es },
		{ HVMI_X86_FS_SELECTOR, c->user_regs.fs }, { HVMI_X86_GS_SELECTOR, c->user_regs.gs },
		{ HVMI_X86_FS_BASE, c->fs_base },
		/* Of the kernel and of the process, whichever is in use. */
		{ HVMI_X86_GS_BASE, c->flags & VGCF_in_kernel ? c->gs_base_kernel : c->gs_base_user },
		{ HVMI_X86_KERNEL_GS_BASE,
		  c->flags & VGCF_in_kernel ? c->gs_base_user : c->gs_base_kernel },
		{ HVMI_X86_CR0, c->ctrlreg[0] }, { HVMI_X86_CR2, c->ctrlreg[2] },
		/* CR3 is a machine address, which says nothing about guest-physical memory. */
		{ HVMI_X86_CR4, c->ctrlreg[4] },
		{ HVMI_X86_DR0, c->debugreg[0] }, { HVMI_X86_DR1, c->debugreg[1] },
		{ HVMI_X86_DR2, c->debugreg[2] }, { HVMI_X86_DR3, c->debugreg[3] },
		{ HVMI_X86_DR6, c->debugreg[6] }, { HVMI_X86_DR7, c->debugreg[7] },
	};
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++)
		hvmi_registers_set(ret, values[i].id, values[i].value);
	free(any);
	return 0;
}
